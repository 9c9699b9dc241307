"""The checksums of a collection's files, which the engine keeps beside them.

They are kept twice, in the collection's folder and in the folder of its log, together with the text
of its schema and its manifest. Plain Milvus Lite ignores them. It may change the collection
meanwhile: a manifest with a higher version than the recorded one is another program's, and what it
lists is recorded when the collection is opened next.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from zlib_ng.zlib_ng import crc32

from fiftyone_milvus.embedded.storage import block_checksums

logger = logging.getLogger(__name__)

NAME = "checksums.json"
SCHEMA, MANIFEST = "schema.json", "manifest.json"
_BLOCK_BYTES = 1 << 20

_guard = threading.Lock()
_locks: dict[Path, threading.RLock] = {}


@dataclasses.dataclass
class Checksums:
    """What is recorded of a collection.

    Attributes:
        name: the name of its folder
        generation: how often it was recorded
        schema: the text of its schema
        schema_time: when the schema was written, in ns since 1970
        manifest: the text of its manifest; "" if it has none yet
        version: the version of its manifest; 0 if it has none yet
        files: size in bytes, checksum and number of rows of each file that the manifest lists; and
            the checksum without its vectors if it has those of its vectors itself
        indexes: size in bytes and checksum of its index files
        snapshots: size in bytes and checksum of the files of Milvus Lite's snapshots
    """

    name: str
    generation: int = 0
    schema: str = ""
    schema_time: int = 0
    manifest: str = ""
    version: int = 0
    files: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    indexes: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    snapshots: dict[str, list[int]] = dataclasses.field(default_factory=dict)


def load(folder: Path) -> Checksums | None:
    """Returns what is recorded of a collection; None if nothing is, or both copies are damaged."""
    found = [copy for copy in map(_read, copies(folder)) if copy is not None]
    # A copy of another collection's was put here, unless the folder was renamed
    mine = [copy for copy in found if copy.name == folder.name] or found
    return max(mine, key=lambda copy: copy.generation, default=None)


def copies(folder: Path) -> tuple[Path, Path]:
    """The two files in which a collection's checksums are kept."""
    return folder / NAME, folder / "wal" / NAME


def record(folder: Path) -> None:
    """Records a collection's files as they are now; never raises for a full disk."""
    try:
        with _held(folder):
            old = load(folder)
            _write(folder, _seen(folder, old), old)
    except (OSError, ValueError) as error:
        # What is recorded is older than the manifest, as after a write of another program
        logger.warning("the checksums of '%s' are not recorded: %s", folder, error)


def record_index(folder: Path, file: Path) -> None:
    """Records an index file of a collection."""
    try:
        with _held(folder):
            old = load(folder)
            if old is not None:
                indexes = {name: of for name, of in old.indexes.items() if (folder / name).exists()}
                indexes[file.relative_to(folder).as_posix()] = list(of_file(file))
                _write(folder, dataclasses.replace(old, indexes=indexes), old)
    except OSError as error:
        logger.warning("the checksum of '%s' is not recorded: %s", file, error)


def listed(manifest: dict[str, Any]) -> Iterator[str]:
    """Yields the paths of the files that a manifest lists, from the collection's folder on."""
    for partition, lists in manifest.get("partitions", {}).items():
        for kind in ("data_files", "delta_files"):
            for name in lists.get(kind, ()):
                yield f"partitions/{partition}/{name}".replace("\\", "/")


def pinned(folder: Path) -> dict[str, list[Path]]:
    """Returns the paths of the data files that snapshots list, and the snapshots that do."""
    found: dict[str, list[Path]] = {}
    for file in folder.glob("snapshots/metadata/*.json"):
        with contextlib.suppress(ValueError, AttributeError, TypeError):
            content = json.loads(file.read_bytes())
            for name in listed({"partitions": _by_partition(content)}):
                found.setdefault(name, []).append(file)
    return found


def _by_partition(content: dict[str, Any]) -> dict[str, dict[str, list[str]]]:
    kinds = ("data_files", "delta_files")
    names = {partition for kind in kinds for partition in content.get(kind, {})}
    return {name: {kind: content.get(kind, {}).get(name, []) for kind in kinds} for name in names}


def of_snapshots(folder: Path) -> set[str]:
    """The paths of the files of snapshots: their own, and the data files that they list."""
    own = {file.relative_to(folder).as_posix() for file in folder.glob("snapshots/**/*.json")}
    return own | {*pinned(folder)}


def of_file(file: Path) -> tuple[int, int]:
    """The size in bytes and the checksum of a file."""
    size = crc = 0
    block = bytearray(_BLOCK_BYTES)
    view = memoryview(block)
    with file.open("rb", buffering=0) as stream:
        while count := stream.readinto(block):
            crc = crc32(view[:count], crc)
            size += count
    return size, crc


def without_vectors(file: Path) -> list[int]:
    """The checksum of a file without its vectors, if it has checksums of them itself; else none."""
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as found:
        view = memoryview(found)
        try:
            crc = block_checksums.rest(view)
        finally:
            view.release()
        return [] if crc is None else [crc]


def _seen(folder: Path, old: Checksums | None) -> Checksums:
    schema = folder / SCHEMA
    text, manifest = "", {}
    with contextlib.suppress(FileNotFoundError):
        text = (folder / MANIFEST).read_text("utf-8")
        manifest = json.loads(text)
    known = {} if old is None else old.files
    files = {}
    for name in listed(manifest):
        if name not in known:
            rows = int(pq.read_metadata(folder / name).num_rows)
            files[name] = [*of_file(folder / name), rows, *without_vectors(folder / name)]
        else:
            files[name] = known[name]
    return Checksums(
        folder.name,
        0 if old is None else old.generation,
        schema.read_text("utf-8"),
        schema.stat().st_mtime_ns,
        text,
        int(manifest.get("version", 0)),
        files,
        {} if old is None else old.indexes,
        _snapshots(folder, old, files),
    )


def _snapshots(
    folder: Path, old: Checksums | None, files: dict[str, list[int]]
) -> dict[str, list[int]]:
    known = {**files} if old is None else {**files, **old.files, **old.snapshots}
    return {
        name: list(known.get(name) or of_file(folder / name))[:2]
        for name in sorted(of_snapshots(folder))
        if (folder / name).exists()
    }


def _read(file: Path) -> Checksums | None:
    try:
        crc, _, text = file.read_bytes().partition(b"\n")
        if int(crc, 16) == crc32(text):
            return Checksums(**json.loads(text))
        logger.warning("'%s' is damaged; the other copy is used", file)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError) as error:
        logger.warning("'%s' can't be read (%s); the other copy is used", file, error)
    return None


def _write(folder: Path, new: Checksums, old: Checksums | None) -> None:
    if new == old and all(copy.exists() for copy in copies(folder)):
        return
    new = dataclasses.replace(new, generation=new.generation + 1)
    text = json.dumps(dataclasses.asdict(new), ensure_ascii=False).encode()
    for file in copies(folder):
        if file.parent != folder:
            file.parent.mkdir(exist_ok=True)
        write_whole(file, b"%08x\n" % crc32(text) + text)


def write_whole(file: Path, content: bytes) -> None:
    """Writes a file, and what was there before stays if that fails."""
    draft = file.with_name(f"{file.name}.tmp")
    try:
        with draft.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    with _guard:
        lock = _locks.setdefault(folder, threading.RLock())
    with lock:
        yield


def recording_manifest(save: Callable[[Any], None]) -> Callable[[Any], None]:
    """Wraps ``Manifest.save``: what it lists is recorded."""

    @functools.wraps(save)
    def save_and_record(self: Any) -> None:
        save(self)
        record(Path(self._data_dir))

    return save_and_record


def recording_schema(save: Callable[[Any, str, str], None]) -> Callable[[Any, str, str], None]:
    """Wraps ``save_schema``: what it writes is recorded."""

    @functools.wraps(save)
    def save_and_record(schema: Any, collection_name: str, path: str) -> None:
        save(schema, collection_name, path)
        record(Path(path).parent)

    return save_and_record


class IndexChecksums:
    """A part of a collection: an index file that was changed is built again."""

    def _build_or_load_segment_index(self: Any, seg: Any, spec: Any) -> None:
        folder = Path(self._data_dir)
        pattern = f"{Path(seg.file_path).stem}.{spec.field_name}.*"
        indexes = Path(self._index_dir(seg.partition))
        recorded = _indexes(folder) if any(indexes.glob(pattern)) else {}
        for file in list(indexes.glob(pattern)):
            known = recorded.get(file.relative_to(folder).as_posix())
            if known is not None and list(of_file(file)) != known:
                logger.warning("'%s' is built again: it was changed", file)
                file.unlink(missing_ok=True)
                del recorded[file.relative_to(folder).as_posix()]
        super()._build_or_load_segment_index(seg, spec)  # type: ignore[misc]
        for file in indexes.glob(pattern):
            if file.relative_to(folder).as_posix() not in recorded:
                record_index(folder, file)


def _indexes(folder: Path) -> dict[str, list[int]]:
    found = load(folder)
    return {} if found is None else found.indexes
