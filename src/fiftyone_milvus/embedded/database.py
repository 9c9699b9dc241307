"""Opening a Milvus Lite directory, for many threads."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from milvus_lite.db import DEFAULT_DATABASE_NAME, LOCK_FILENAME, MilvusLite
from milvus_lite.exceptions import DataDirLockedError

from fiftyone_milvus.embedded import files, paths, processes
from fiftyone_milvus.embedded.locks import Call
from fiftyone_milvus.embedded.storage import power_loss
from fiftyone_milvus.errors import EmbeddedServiceError

_ENDING_SECONDS = 25.0
_POLL_SECONDS = 0.1


class Database(MilvusLite):
    """A Milvus Lite directory whose collections are opened once.

    Milvus Lite opens a collection when it is first asked for. Two threads that ask at once would
    each open it, recover its log, and write to a log of their own.

    Args:
        data_dir: the data directory
    """

    def __init__(self, data_dir: str) -> None:
        self._guard = threading.Lock()
        self._opening: dict[tuple[str, str], threading.Lock] = {}
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
            return super().get_collection(name, database_name=database_name)
        finally:
            lock.release()

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

    def drop_collection(self, name: str, database_name: str = DEFAULT_DATABASE_NAME) -> None:
        """Drops a collection, without the flush for which a full disk has no room."""
        resolved = self.resolve_collection_name(name, database_name=database_name)
        opened: Any = getattr(self, "_collections", {}).get((database_name, resolved))
        if hasattr(opened, "discard"):
            opened.discard()
        super().drop_collection(name, database_name=database_name)

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

    def _remove_remains(self, name: str, database_name: str) -> None:
        # A folder without a schema is no collection, but takes the collection's name.
        folder = self._folder(name, database_name)
        if folder is not None and not self.has_collection(name, database_name=database_name):
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
            if pid is None or not processes.is_service(pid) or time.monotonic() > deadline:
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


def count_collections(database: Database) -> int:
    """The number of collections over all databases."""
    names = database.list_databases()
    return sum(len(database.list_collections(database_name=name)) for name in names)
