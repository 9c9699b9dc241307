"""Files beside a segment's indexes: what Faiss made of its vectors, and more.

They are not the only copy of anything. A file that is missing, of another segment, or damaged is
made again.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from zlib_ng.zlib_ng import crc32

from fiftyone_milvus.embedded.storage.fsync import fsync_file

logger = logging.getLogger(__name__)

Seqs = npt.NDArray[np.uint64]


class Sidecar(NamedTuple):
    """What a file has.

    Attributes:
        about: what was saved as JSON
        index: Faiss' index; None if there is none
        rest: what was saved beside it
    """

    about: dict[str, Any]
    index: Any
    rest: bytes


def _faiss() -> Any:
    return importlib.import_module("faiss")


def path(folder: str, data_file: str, field: str, suffix: str) -> Path:
    """The file of a segment.

    Args:
        folder: the folder of the partition's indexes
        data_file: the segment's data file
        field: the vector field
        suffix: the end of the file's name
    """
    return Path(folder) / f"{Path(data_file).stem}.{field}{suffix}"


def save(
    file: Path, seqs: Seqs, about: Mapping[str, Any], index: Any = None, rest: bytes = b""
) -> None:
    """Writes a file, whole or not at all; a full disk is logged.

    Args:
        file: the file
        seqs: the sequence numbers of the segment's rows
        about: what JSON can hold
        index: Faiss' index, or None
        rest: what else to save
    """
    draft = file.with_name(file.name + ".draft")
    try:
        file.parent.mkdir(exist_ok=True)
        draft.touch()
        if index is not None:
            _faiss().write_index(index, str(draft))
        # Faiss reads its own part of the file only
        with draft.open("ab") as stream:
            starts = stream.tell()
            stream.write(rest)
        whole = {**about, "segment": _of_segment(seqs), "starts": starts, "crc": _crc(draft)}
        with draft.open("ab") as stream:
            text = json.dumps(whole).encode()
            stream.write(text + len(text).to_bytes(8, "little") + b"%08x" % crc32(text))
        fsync_file(str(draft))
        draft.replace(file)
    except (OSError, RuntimeError) as error:
        logger.warning("'%s' is not saved: %s", file, error)
        with contextlib.suppress(OSError):
            draft.unlink()


def load(file: Path, seqs: Seqs, asked: Mapping[str, Any]) -> Sidecar | None:
    """Reads a file.

    Args:
        file: the file
        seqs: the sequence numbers of the segment's rows
        asked: what it must say about itself, where it says anything about that

    Returns:
        None if it is not there, not intact, or of another segment or kind
    """
    try:
        with file.open("rb") as stream:
            stream.seek(-16, os.SEEK_END)
            tail = stream.read()
            size = int.from_bytes(tail[:8], "little")
            stream.seek(-16 - size, os.SEEK_END)
            end = stream.tell()
            text = stream.read(size)
        if crc32(text) != int(tail[8:], 16):
            raise ValueError("it was changed")
        about = json.loads(text)
        if about["segment"] != _of_segment(seqs):
            return None
        if any(about.get(name, value) != value for name, value in asked.items()):
            return None
        if _crc(file, end) != about["crc"]:
            raise ValueError("it was changed")
        starts = about.get("starts", 0)
        with file.open("rb") as stream:
            stream.seek(starts)
            rest = stream.read(end - starts)
        return Sidecar(about, _faiss().read_index(str(file)) if starts else None, rest)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        logger.warning("'%s' is made again: %s", file, error)
        return None


def _of_segment(seqs: Seqs) -> list[int]:
    return [len(seqs), crc32(seqs.tobytes())]


def _crc(file: Path, end: int | None = None) -> int:
    crc, left = 0, file.stat().st_size if end is None else end
    with file.open("rb") as stream:
        while left > 0 and (block := stream.read(min(left, 1 << 20))):
            crc = crc32(block, crc)
            left -= len(block)
    return crc
