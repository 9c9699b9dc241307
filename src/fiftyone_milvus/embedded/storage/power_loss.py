"""What Milvus Lite has acknowledged is on the disk: a power loss takes none of it.

Milvus Lite gives its log and its Parquet files to the operating system, which writes them some
30 s later, and deletes the log before they are written. Here, each of these is on the disk before
what depends on it: a record of a log before the answer; data files before the manifest that names
them; deleted logs before the next manifest; directories before the answer to what changed them.
A log that was flushed, and comes back, is not read again.

Each protection is installed where Milvus Lite has the internals that it needs; see
:mod:`.durability`.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fiftyone_milvus.embedded.internals import Replacements
from fiftyone_milvus.embedded.storage.fsync import (
    fsync,
    fsync_directories,
    fsync_directory,
    fsync_file,
)

_Base: Any = object

NEEDS: dict[str, tuple[str, ...]] = {
    "synced log": (
        "storage.wal:WAL#_data_sink",
        "storage.wal:WAL#_delta_sink",
        "storage.wal:WAL#wal_dir",
        "storage.wal:WAL.write_insert(self, record_batch)",
        "storage.wal:WAL.write_delete(self, record_batch)",
    ),
    "synced files": (
        "storage.manifest:Manifest#_data_dir",
        "storage.manifest:Manifest.get_all_data_files(self)",
        "storage.manifest:Manifest.get_all_delta_files(self)",
        "storage.manifest:Manifest.save(self) uses replace fsync",
    ),
    "synced directories": (
        "db:MilvusLite._save_aliases uses replace",
        "db:MilvusLite.create_collection uses makedirs save_schema",
        "db:MilvusLite.create_database uses rename",
        "db:MilvusLite.drop_collection uses rmtree",
        "db:MilvusLite.drop_database uses rmtree",
        "db:MilvusLite.rename_collection uses rename save_schema",
        "db:os",
        "db:shutil",
        "schema.persistence:os",
        "schema.persistence:save_schema uses replace fsync",
    ),
    "flushed logs": (
        "engine.collection:execute_recovery(data_dir, schema, manifest)",
        "storage.manifest:Manifest.active_wal_number",
        "storage.manifest:Manifest.current_seq",
        "storage.wal:WAL.find_wal_files(wal_dir)",
        "storage.wal:WAL.recover(wal_dir, wal_number)",
    ),
    "opened logs": ("db:Collection",),
}
"""What each protection needs of Milvus Lite; see :func:`..internals.missing`."""


def install(names: set[str], replacements: Replacements) -> None:
    """Installs protections, but those of the parts of a collection.

    Args:
        names: those of :data:`NEEDS` to install
        replacements: what undoes them
    """
    if "synced log" in names:
        from milvus_lite.storage.wal import WAL

        for method, sink in (("write_insert", "_data_sink"), ("write_delete", "_delta_sink")):
            replacements.set(WAL, method, _synced_write(getattr(WAL, method), sink))
    if "synced files" in names:
        from milvus_lite.storage.manifest import Manifest

        replacements.set(Manifest, "save", _synced_save(Manifest.save))
    if "synced directories" in names:
        from milvus_lite import db
        from milvus_lite.schema import persistence

        rename, replace = map(_synced_move, (os.rename, os.replace))
        synced_os = _module(os, makedirs=_makedirs, rename=rename, replace=replace)
        replacements.set(db, "os", synced_os)
        replacements.set(persistence, "os", synced_os)
        replacements.set(db, "shutil", _module(shutil, rmtree=_rmtree, copy2=_copy2))

    if "flushed logs" in names:
        from milvus_lite.engine import collection

        replacements.set(
            collection, "execute_recovery", _without_flushed_logs(collection.execute_recovery)
        )


def sync_opened(data_dir: str) -> None:
    """Syncs the directories of a database, which a process that was killed may have just made.

    Args:
        data_dir: the data directory
    """
    root = Path(data_dir).absolute()
    found = [root, root / "collections", root / "databases"]
    for database in (root / "databases").glob("*/"):
        found += [database, database / "collections"]
    fsync_directories(path for path in found if path.is_dir())
    for above in root.parents:
        # One of them was perhaps made with it; the others are not ours.
        with contextlib.suppress(OSError):
            fsync_directory(above)


class OpenedLogs(_Base):
    """A collection whose logs are on the disk once its rows can be read.

    A process that is killed between a write and its sync leaves rows that the next one reads, and
    answers with.
    """

    def __init__(self, name: str, data_dir: str, *args: Any, **kwargs: Any) -> None:
        for log in Path(data_dir).glob("wal/*"):
            fsync_file(log)
        super().__init__(name, data_dir, *args, **kwargs)
        fsync_directories([os.path.join(data_dir, "wal"), data_dir])


def _synced_write(write: Callable[..., None], sink: str) -> Callable[..., None]:
    @functools.wraps(write)
    def write_synced(self: Any, record_batch: Any) -> None:
        is_new = getattr(self, sink) is None
        write(self, record_batch)
        fsync(getattr(self, sink).fileno())
        if is_new:
            fsync_directory(self.wal_dir)

    return write_synced


def _synced_save(save: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(save)
    def save_synced(self: Any) -> None:
        """Saves a manifest once the files that it names, and the logs' deletion, are synced."""
        root = os.path.join(self._data_dir, "partitions")
        named = {
            os.path.join(root, partition, file)
            for files in (self.get_all_data_files(), self.get_all_delta_files())
            for partition, names in files.items()
            for file in names
        }
        directories = {os.path.join(self._data_dir, "wal")}
        for file in named - getattr(self, "_synced_files", set()):
            # Milvus Lite restores a snapshot's manifest before its files.
            with contextlib.suppress(FileNotFoundError):
                fsync_file(file)
            folder = os.path.dirname(file)
            directories |= {folder, os.path.dirname(folder), root}
        fsync_directories(directory for directory in directories if os.path.isdir(directory))
        save(self)
        # Not those of a flush that failed, which are deleted, and whose names are used again.
        self._synced_files = named

    return save_synced


def _without_flushed_logs(recover: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(recover)
    def recover_rest(data_dir: str, schema: Any, manifest: Any) -> Any:
        """Recovers a collection without the logs whose rows are in data files by now.

        A flush that ended between its manifest and the deletion of the log leaves both, and Milvus
        Lite would answer with each row twice.
        """
        from milvus_lite.storage.wal import WAL

        wal_dir = os.path.join(data_dir, "wal")
        for number in WAL.find_wal_files(wal_dir):
            if number >= (manifest.active_wal_number or 0):
                break
            batches = itertools.chain.from_iterable(WAL.recover(wal_dir, number))
            if any(
                max(each["_seq"].to_pylist(), default=0) > manifest.current_seq for each in batches
            ):
                break
            for file in Path(wal_dir).glob(f"wal_*_{number:06d}.*"):
                file.unlink()
        return recover(data_dir=data_dir, schema=schema, manifest=manifest)

    return recover_rest


# -- what Milvus Lite calls of os and shutil ------------------------------------------------------


def _module(original: types.ModuleType, **functions: Callable[..., Any]) -> types.ModuleType:
    """A module that differs from another one in some functions."""
    module = types.ModuleType(original.__name__)
    vars(module).update(functions, __getattr__=functools.partial(getattr, original))
    return module


def _makedirs(path: str, mode: int = 0o777, exist_ok: bool = False) -> None:
    above = [Path(path).absolute()]
    while not above[-1].exists():
        above.append(above[-1].parent)
    os.makedirs(path, mode, exist_ok)
    fsync_directories(above[1:])


def _synced_move(move: Callable[[str, str], None]) -> Callable[[str, str], None]:
    def moved(source: str, target: str) -> None:
        if os.path.isfile(source):
            fsync_file(source)
        move(source, target)
        fsync_directories(os.path.dirname(os.path.abspath(path)) for path in (source, target))

    return moved


def _rmtree(path: str, *args: Any, **kwargs: Any) -> None:
    shutil.rmtree(path, *args, **kwargs)
    fsync_directory(os.path.dirname(os.path.abspath(path)))


def _copy2(source: str, target: str) -> Any:
    copied = shutil.copy2(source, target)
    fsync_file(target)
    fsync_directory(os.path.dirname(os.path.abspath(target)))
    return copied
