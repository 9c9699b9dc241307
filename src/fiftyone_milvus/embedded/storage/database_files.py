"""The small JSON files of a database, its aliases and its properties: each has a copy beside it.

A file that is damaged or gone is written again from its copy. Plain Milvus Lite ignores the copies;
a file that it wrote has another time than the recorded one.
"""

from __future__ import annotations

import json
import logging
import zlib
from pathlib import Path

from fiftyone_milvus.embedded.storage import quarantine
from fiftyone_milvus.embedded.storage.checksums import write_whole
from fiftyone_milvus.embedded.storage.verification import DamagedError

logger = logging.getLogger(__name__)

_SUFFIX = ".copy"


def restore(file: Path) -> None:
    """Writes a file again if it is damaged; the damaged one is moved to ``quarantine``.

    Args:
        file: the file of a database

    Raises:
        DamagedError: if it is damaged, and has no intact copy
    """
    content = file.read_bytes() if file.exists() else None
    whole = content is not None and _is_object(content)
    copy = _copy(file)
    if copy is None:
        if content is not None and not whole:
            raise DamagedError(
                f"'{file}' is damaged, and has no intact copy: move it away, and make again what "
                f"it had, the {file.stem.replace('_', ' ')}"
            )
        return
    time, text = copy
    if content == text or (whole and file.stat().st_mtime_ns != time):
        return
    if content is not None:
        quarantine.move(file, file.parent)
    write_whole(file, text)
    logger.warning("'%s' was damaged or gone; it was written again from its copy", file)


def record(file: Path) -> None:
    """Writes the copy of a file, if that is not as it should be; never raises for a full disk."""
    try:
        if file.exists():
            now = file.stat().st_mtime_ns, file.read_bytes()
            if _copy(file) != now:
                text = str(now[0]).encode() + b"\n" + now[1]
                write_whole(_path(file), b"%08x\n" % zlib.crc32(text) + text)
    except OSError as error:
        logger.warning("there is no copy of '%s': %s", file, error)


def _copy(file: Path) -> tuple[int, bytes] | None:
    """The time and the content that were recorded; None if there is no intact copy."""
    try:
        crc, _, text = _path(file).read_bytes().partition(b"\n")
        if int(crc, 16) == zlib.crc32(text):
            time, _, content = text.partition(b"\n")
            return int(time), content
        logger.warning("the copy of '%s' is damaged", file)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        logger.warning("the copy of '%s' can't be read: %s", file, error)
    return None


def _path(file: Path) -> Path:
    return file.with_name(file.name + _SUFFIX)


def _is_object(content: bytes) -> bool:
    try:
        return isinstance(json.loads(content), dict)
    except ValueError:
        return False
