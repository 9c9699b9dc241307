"""What is known of a collection that is not open: its schema, its indexes, its number of rows.

Milvus Lite opens a collection to describe it, and to list its name, and then holds all its rows in
memory. The files tell the same: ``schema.json``, the manifest, and the footers of Parquet files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from milvus_lite.db import DEFAULT_DATABASE_NAME
from milvus_lite.exceptions import CollectionNotFoundError

from fiftyone_milvus.embedded.database import Database
from fiftyone_milvus.embedded.storage import verification


class ClosedCollection:
    """What Milvus Lite's servicer asks of a collection in order to describe it.

    Args:
        name: its name
        directory: its files
    """

    def __init__(self, name: str, directory: str) -> None:
        # Private parts: where a later Milvus Lite lacks them, the collection is opened
        from milvus_lite.schema.persistence import load_schema
        from milvus_lite.storage.manifest import Manifest

        self.name = name
        self._directory = directory
        _, self.schema = load_schema(os.path.join(directory, "schema.json"))
        self._manifest = Manifest.load(directory)
        self._index_specs = dict(self._manifest.index_specs)
        # As Milvus Lite opens it: without an index, there is nothing to load
        self.load_state = "released" if self._index_specs else "loaded"

    def list_partitions(self) -> list[str]:
        """The names of its partitions."""
        return list(self._manifest.list_partitions())

    def has_partition(self, name: str) -> bool:
        """Whether it has a partition."""
        return bool(self._manifest.has_partition(name))

    @property
    def num_entities(self) -> int:
        """The rows in sealed segments; deleted and replaced ones are counted, as a server does."""
        return sum(
            pq.read_metadata(os.path.join(self._directory, "partitions", partition, file)).num_rows
            for partition, files in self._manifest.get_all_data_files().items()
            for file in files
        )


class Metadata:
    """A database that opens no collection: what :class:`MilvusServicer` needs to describe them.

    Args:
        database: an open ``milvus_lite.db.MilvusLite``
    """

    def __init__(self, database: Any) -> None:
        self._database = database

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def get_collection(self, name: str, database_name: str = DEFAULT_DATABASE_NAME) -> Any:
        """The open collection, or what is known of a closed one."""
        database, key = self._database, self._key(name, database_name)
        opened = getattr(database, "_collections", {}).get(key)
        if opened is not None:
            return opened
        if not hasattr(database, "_collection_dir"):
            return database.get_collection(name, database_name=database_name)
        directory = database._collection_dir(key[1], database_name)
        if database.has_collection(key[1], database_name=database_name):
            verification.check_metadata(Path(directory))
        try:
            found = ClosedCollection(key[1], directory)
            if isinstance(database, Database) and database.is_loaded(*key):
                found.load_state = "loaded"
            return found
        except FileNotFoundError:
            raise CollectionNotFoundError(f"collection {name!r} does not exist") from None
        except (AttributeError, ImportError):
            return database.get_collection(name, database_name=database_name)

    def get_collection_stats(
        self, name: str, database_name: str = DEFAULT_DATABASE_NAME
    ) -> dict[str, Any]:
        """The number of rows."""
        return {"row_count": self.get_collection(name, database_name).num_entities}

    def is_open(self, name: str, database_name: str) -> bool:
        """Whether a collection is open; asking opens none."""
        return self._key(name, database_name) in getattr(self._database, "_collections", {})

    def _key(self, name: str, database_name: str) -> tuple[str, str]:
        resolved = self._database.resolve_collection_name(name, database_name=database_name)
        return database_name, str(resolved)
