"""Opening a Milvus Lite directory, for many threads."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from milvus_lite.db import DEFAULT_DATABASE_NAME, MilvusLite
from milvus_lite.exceptions import DataDirLockedError

from fiftyone_milvus.embedded import paths
from fiftyone_milvus.errors import EmbeddedServiceError


class Database(MilvusLite):
    """A Milvus Lite directory whose collections are opened once.

    Milvus Lite opens a collection when it is first asked for. Two threads that ask at once would
    each open it, recover its log, and write to a log of their own.

    Args:
        data_dir: the data directory
    """

    def __init__(self, data_dir: str) -> None:
        self._opening = threading.RLock()
        super().__init__(data_dir)

    def get_collection(self, name: str, database_name: str = DEFAULT_DATABASE_NAME) -> Any:
        """Opens a collection, or returns the one that is open."""
        with self._opening:
            return super().get_collection(name, database_name=database_name)


def open_database(path: Path) -> Database:
    """Opens a data directory.

    Args:
        path: the resolved directory; created if there is none

    Raises:
        EmbeddedServiceError: if it can't be opened
    """
    paths.prepare(path)
    try:
        return Database(str(path))
    except DataDirLockedError as error:
        raise EmbeddedServiceError(
            f"data directory is locked by another process: '{path}'; close the MilvusClient that "
            "opened it directly, or choose another path"
        ) from error
    except OSError as error:
        raise paths.unusable(path, error) from error


def count_collections(database: Database) -> int:
    """The number of collections over all databases."""
    names = database.list_databases()
    return sum(len(database.list_collections(database_name=name)) for name in names)
