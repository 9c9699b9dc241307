"""Opening a Milvus Lite directory, for many threads."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

from milvus_lite.db import DEFAULT_DATABASE_NAME, LOCK_FILENAME, MilvusLite
from milvus_lite.exceptions import DataDirLockedError

from fiftyone_milvus.embedded import files, paths, processes
from fiftyone_milvus.embedded.locks import Call
from fiftyone_milvus.embedded.storage import (
    checksums,
    database_files,
    power_loss,
    quarantine,
    segments,
    verification,
)
from fiftyone_milvus.embedded.storage.fsync import fsync_directories
from fiftyone_milvus.embedded.storage.repair import Repair, repair
from fiftyone_milvus.embedded.storage.verification import DamagedError
from fiftyone_milvus.errors import EmbeddedServiceError

logger = logging.getLogger(__name__)

_ENDING_SECONDS, _ENDED_SECONDS = 25.0, 1.0
_POLL_SECONDS = 0.1
_IDLE_WORK_SECONDS = 0.2


class Database(MilvusLite):
    """A Milvus Lite directory whose collections are opened once.

    Milvus Lite opens a collection when it is first asked for. Two threads that ask at once would
    each open it, recover its log, and write to a log of their own.

    A collection whose files are damaged is not opened: each request for it ends with
    :class:`~fiftyone_milvus.embedded.storage.verification.DamagedError`, until it is repaired or
    dropped.

    Args:
        data_dir: the data directory
    """

    def __init__(self, data_dir: str) -> None:
        self._guard = threading.Lock()
        self._opening: dict[tuple[str, str], threading.Lock] = {}
        self._damaged: dict[tuple[str, str], str] = {}
        self._closed_loaded: set[tuple[str, str]] = set()
        super().__init__(data_dir)
        power_loss.sync_opened(data_dir)

    def get_collection(
        self, name: str, database_name: str = DEFAULT_DATABASE_NAME, call: Call | None = None
    ) -> Any:
        """Opens a collection, or returns the one that is open; meanwhile, others can be opened.

        Args:
            name: of the collection, or an alias
            database_name: the database
            call: the request that opens it; None to wait for as long as it takes

        Raises:
            WaitError: if another request opens it, and has not done so by the call's deadline
        """
        key = database_name, self.resolve_collection_name(name, database_name=database_name)
        opened = getattr(self, "_collections", {}).get(key)
        if opened is not None:
            return opened
        with self._guard:
            lock = self._opening.setdefault(key, threading.Lock())
        if call is None:
            lock.acquire()
        else:
            call.acquire(lock, f"the opening of collection '{key[1]}'")
        try:
            self._verify(key)
            found = super().get_collection(name, database_name=database_name)
            if key in self._closed_loaded:
                found.load()
                self._closed_loaded.discard(key)
            return found
        finally:
            lock.release()

    def opened(self) -> list[tuple[str, str]]:
        """The collections that are open: the names of database and collection."""
        return list(getattr(self, "_collections", {}))

    def is_loaded(self, database_name: str, name: str) -> bool:
        """Whether a collection that is not open was loaded when it was closed."""
        return (database_name, name) in self._closed_loaded

    def close_collection(self, database_name: str, name: str) -> bool:
        """Closes a collection until somebody asks for it; the caller holds its write lock.

        Returns:
            whether it was closed: not while its index is made, nor on a full disk
        """
        key = database_name, name
        with self._guard:
            lock = self._opening.setdefault(key, threading.Lock())
        with lock:
            col: Any = getattr(self, "_collections", {}).get(key)
            if col is None or not hasattr(col, "_wait_for_bg"):
                return False
            try:
                col._wait_for_bg(timeout=_IDLE_WORK_SECONDS)
                col.close()
            except (futures.TimeoutError, OSError) as error:
                logger.debug("'%s' stays open: %s", name, error)
                return False
            if col.load_state == "loaded":
                self._closed_loaded.add(key)
            else:
                self._closed_loaded.discard(key)
            del self._collections[key]
            return True

    def has_collection(self, name: str, database_name: str = DEFAULT_DATABASE_NAME) -> bool:
        """Whether a collection exists, be it damaged."""
        if super().has_collection(name, database_name=database_name):
            return True
        resolved = self.resolve_collection_name(name, database_name=database_name)
        folder = self._folder(resolved, database_name)
        return folder is not None and _is_recorded(folder)

    def list_collections(self, database_name: str = DEFAULT_DATABASE_NAME) -> list[str]:
        """The names of all collections, damaged ones too."""
        names = set(super().list_collections(database_name=database_name))
        if hasattr(self, "_collections_root"):
            folders = Path(self._collections_root(database_name)).glob("*/")
            names.update(folder.name for folder in folders if _is_recorded(folder))
        return sorted(names)

    def damages(self) -> Iterator[tuple[Path, list[verification.Damage]]]:
        """Verifies the files of all collections, and yields the folders with damaged ones."""
        for database in self.list_databases():
            for name in self.list_collections(database_name=database):
                folder = self._folder(name, database)
                if folder is None:
                    continue
                with self._guard:
                    lock = self._opening.setdefault((database, name), threading.Lock())
                opened = getattr(self, "_collections", {}).get((database, name))
                # So that no flush and no compaction replaces files meanwhile
                maintenance = getattr(opened, "_maintenance_lock", contextlib.nullcontext())
                with lock, maintenance:
                    found = verification.verify(folder).damages if folder.is_dir() else []
                if found:
                    yield folder, found

    def create_collection(
        self,
        name: str,
        schema: Any,
        properties: dict[str, Any] | None = None,
        database_name: str = DEFAULT_DATABASE_NAME,
    ) -> Any:
        """Creates a collection, after what a full disk or a crash left of an earlier attempt."""
        self._remove_remains(name, database_name)
        try:
            return super().create_collection(name, schema, properties, database_name)
        except OSError:
            self._remove_remains(name, database_name)
            raise

    def repair(self) -> list[Repair]:
        """Repairs all damaged collections, none of which may be open."""
        found = []
        for database in self.list_databases():
            for name in self.list_collections(database_name=database):
                folder = self._folder(name, database)
                if folder is not None and (done := repair(folder)) is not None:
                    self._damaged.pop((database, name), None)
                    found.append(done)
        return found

    def drop_collection(self, name: str, database_name: str = DEFAULT_DATABASE_NAME) -> None:
        """Drops a collection at once, without the flush for which a full disk has no room.

        Of a collection that Milvus Lite began to delete, a process that is killed would leave a
        part, which looks damaged.
        """
        resolved = self.resolve_collection_name(name, database_name=database_name)
        key = database_name, resolved
        opened: Any = getattr(self, "_collections", {}).get(key)
        if hasattr(opened, "discard"):
            opened.discard()
        folder = self._folder(resolved, database_name)
        if folder is None or not folder.is_dir() or not hasattr(self, "_database_staging_root"):
            super().drop_collection(name, database_name=database_name)
            return
        if opened is not None:
            opened.close()
        # Milvus Lite empties this folder when it starts
        staging = Path(tempfile.mkdtemp(prefix="dropped-", dir=self._database_staging_root()))
        folder.rename(staging / "collection")
        fsync_directories([folder.parent, staging, staging.parent])
        getattr(self, "_collections", {}).pop(key, None)
        self._damaged.pop(key, None)
        self._closed_loaded.discard(key)
        shutil.rmtree(staging, ignore_errors=True)
        for alias in self.list_aliases(resolved, database_name=database_name):
            self.drop_alias(alias, database_name=database_name)

    def alter_collection_properties(
        self,
        name: str,
        properties: dict[str, Any] | None = None,
        delete_keys: list[str] | None = None,
        database_name: str = DEFAULT_DATABASE_NAME,
    ) -> None:
        """Changes a collection's properties, on the disk too or not at all."""
        schema = self.get_collection(name, database_name=database_name).schema
        before = dict(schema.properties)
        try:
            super().alter_collection_properties(name, properties, delete_keys, database_name)
        except OSError:
            schema.properties = before
            raise

    def log_bytes(self, database_name: str, name: str) -> int:
        """The bytes of a collection's log, whose rows the next flush writes once more."""
        folder = self._folder(name, database_name)
        if folder is not None:
            with contextlib.suppress(OSError):
                return sum(file.stat().st_size for file in (folder / "wal").iterdir())
        return 0

    def _load_aliases(self, database_name: str = DEFAULT_DATABASE_NAME) -> Any:
        file = Path(self._aliases_path(database_name))
        database_files.restore(file)
        found = super()._load_aliases(database_name)
        database_files.record(file)
        return found

    def _save_aliases(self, database_name: str = DEFAULT_DATABASE_NAME) -> None:
        super()._save_aliases(database_name)
        database_files.record(Path(self._aliases_path(database_name)))

    def _load_database_properties(self, database_name: str = DEFAULT_DATABASE_NAME) -> Any:
        file = Path(self._database_properties_path(database_name))
        database_files.restore(file)
        found = super()._load_database_properties(database_name)
        database_files.record(file)
        return found

    def create_database(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Creates a database; its properties have a copy from the start."""
        created = super().create_database(name, *args, **kwargs)
        if hasattr(self, "_database_properties_path"):
            database_files.record(Path(self._database_properties_path(name)))
        return created

    def _persist_database_properties(self, database_name: str, properties: Any) -> None:
        super()._persist_database_properties(database_name, properties)
        database_files.record(Path(self._database_properties_path(database_name)))

    def _verify(self, key: tuple[str, str]) -> None:
        database_name, name = key
        folder = self._folder(name, database_name)
        if key in getattr(self, "_collections", {}) or folder is None or not folder.is_dir():
            return
        if key not in self._damaged:
            try:
                verification.check(folder, vectors=not segments.are_mapped())
                return
            except DamagedError as error:
                # Verified once: only a repair, for which this service ends, changes that
                logger.error("%s", error)
                self._damaged[key] = str(error)
        raise DamagedError(self._damaged[key])

    def _remove_remains(self, name: str, database_name: str) -> None:
        # A folder without a schema is no collection, but takes the collection's name.
        folder = self._folder(name, database_name)
        if folder is None or self.has_collection(name, database_name=database_name):
            return
        if any(folder.glob("partitions/*/data/*.parquet")):
            quarantine.move(folder, verification.data_directory(folder))
        shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, name: str, database_name: str) -> Path | None:
        """Where a collection is; None if its name is not valid, or Milvus Lite does not tell."""
        valid = name not in ("", "..") and name == Path(name).name
        if not valid or not hasattr(self, "_collection_dir"):
            return None
        return Path(self._collection_dir(name, database_name))


def open_database(path: Path) -> Database:
    """Opens a data directory.

    Args:
        path: the resolved directory; created if there is none

    Raises:
        EmbeddedServiceError: if it can't be opened
    """
    paths.prepare(path)
    deadline = time.monotonic() + _ENDING_SECONDS
    while True:
        try:
            files.check_tree(path)
            return Database(str(path))
        except DataDirLockedError as error:
            pid = processes.lock_holder(path / LOCK_FILENAME)
            if pid is None or not processes.is_service(pid):
                # Or a service that has ended since
                deadline = min(deadline, time.monotonic() + _ENDED_SECONDS)
            if time.monotonic() > deadline:
                raise _locked(path, pid) from error
        except OSError as error:
            raise paths.unusable(path, error) from error
        # A service whose sockets were removed, so that it can't be asked; it ends when it notices
        time.sleep(_POLL_SECONDS)


def _locked(path: Path, pid: int | None) -> EmbeddedServiceError:
    who = "another process" if pid is None else f"process {pid}"
    remedy = "close the MilvusClient that opened it directly, or choose another path"
    if pid is not None and processes.is_service(pid):
        remedy = f"it is a service that can't be reached: end it with 'kill {pid}'"
    elif pid is not None:
        remedy = (
            f"a MilvusClient opened it directly: end that process, or call there "
            f"milvus_lite.server_manager.server_manager_instance.release_server('{path}'), which "
            "MilvusClient.close() does not do"
        )
    return EmbeddedServiceError(f"data directory is locked by {who}: '{path}'; {remedy}")


def _is_recorded(folder: Path) -> bool:
    return any(copy.exists() for copy in checksums.copies(folder))


def count_collections(database: Database) -> int:
    """The number of collections over all databases."""
    names = database.list_databases()
    return sum(len(database.list_collections(database_name=name)) for name in names)
