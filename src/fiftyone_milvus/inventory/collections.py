"""The collections of a Milvus, and whose they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import fiftyone.core.odm as foo
from bson import ObjectId
from bson.errors import InvalidId

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.connection import Connection
from fiftyone_milvus.errors import (
    CollectionMismatchError,
    CollectionNotFoundError,
    InvalidInputError,
)
from fiftyone_milvus.inventory.status import configured


@dataclass(frozen=True)
class CollectionInfo:
    """One collection of a Milvus.

    Attributes:
        name: of the collection
        owner: ``"index"`` if a brain run of this FiftyOne database uses it; ``"orphan"`` if it was
            made for a dataset or brain run that this database does not have, any more; ``"other"``
            if it was not made by this package
        why: one line that says how that is known
        vectors: about how many; None if it is not an index
        dimension: of the vectors; None likewise
        dataset: the name of the dataset that it was made for, or None
        brain_key: of the run that it was made for, or None
    """

    name: str
    owner: str
    why: str
    vectors: int | None = None
    dimension: int | None = None
    dataset: str | None = None
    brain_key: str | None = None


def collections(connection: Connection | None = None) -> list[CollectionInfo]:
    """Returns the collections of a Milvus, by name.

    Args:
        connection (None): the Milvus; by default, the one that FiftyOne's brain config names

    Raises:
        FiftyOneMilvusError: if it does not answer
    """
    connection = connection or configured()
    names = connection.run(lambda client: client.list_collections(timeout=10), patience=0)
    return [_info(connection, name) for name in sorted(names)]


def clean_up(names: Iterable[str], connection: Connection | None = None) -> list[str]:
    """Drops collections whose dataset or brain run is gone.

    Another FiftyOne database may use the same Milvus, and its datasets look like ones that are
    gone. So the collections are named by who knows, and each is looked at once more before.

    Args:
        names: of the collections
        connection (None): the Milvus; by default, the one that FiftyOne's brain config names

    Returns:
        the names of those that were dropped

    Raises:
        InvalidInputError: if one is not an orphan; nothing is dropped then
        FiftyOneMilvusError: if Milvus does not answer
    """
    connection = connection or configured()
    names = list(dict.fromkeys(names))
    there = {info.name: info for info in collections(connection)}
    for name in names:
        if name not in there:
            raise InvalidInputError(
                f"There is no collection '{name}' at {connection.target.address}; see "
                "inventory.collections()"
            )
        if there[name].owner != "orphan":
            raise InvalidInputError(
                f"Collection '{name}' is no orphan: {there[name].why}; delete its brain run, or "
                "drop it with pymilvus"
            )
    return [name for name in names if MilvusCollection(connection, name).drop()]


def _info(connection: Connection, name: str) -> CollectionInfo:
    collection = MilvusCollection(connection, name)
    try:
        layout, rows = collection.describe(), collection.estimated_rows()
    except CollectionMismatchError:
        return CollectionInfo(name, "other", "it can't hold a FiftyOne index")
    except CollectionNotFoundError:
        return CollectionInfo(name, "other", "it was dropped just now")
    owner = layout.owner
    dataset, key = owner.get("dataset"), owner.get("brain_key")
    status, why = _owner(owner, name)
    return CollectionInfo(name, status, why, rows, layout.dimension, dataset, key)


def _owner(owner: dict[str, Any], name: str) -> tuple[str, str]:
    if not owner.get("dataset_id"):
        users = _users(name)
        if users:
            return "index", f"used by {users}"
        return "other", "nothing records that this package made it"
    dataset, key = owner.get("dataset"), owner.get("brain_key")
    document = _dataset(str(owner["dataset_id"]))
    users = _users(name)
    if users:
        return "index", f"used by {users}"
    if document is None:
        return "orphan", f"this FiftyOne database has no dataset '{dataset}' any more"
    if key is None:
        return "other", f"made for dataset '{document['name']}' without a brain key"
    return "orphan", f"no brain run of dataset '{document['name']}' uses it, '{key}' neither"


def _dataset(dataset_id: str) -> Any:
    try:
        query = {"_id": ObjectId(dataset_id)}
    except InvalidId:
        return None
    return foo.get_db_conn().datasets.find_one(query, {"name": 1})


def _users(name: str) -> str:
    """Returns the runs of any dataset whose config names a collection, as text."""
    database = foo.get_db_conn()
    runs = database.runs.find({"config.collection_name": name}, {"key": 1, "_dataset_id": 1})
    names = []
    for run in runs:
        document = database.datasets.find_one({"_id": run.get("_dataset_id")}, {"name": 1})
        if document is not None:
            names.append(f"'{run.get('key')}' of dataset '{document['name']}'")
    return ", ".join(sorted(names))
