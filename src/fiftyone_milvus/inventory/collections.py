"""The collections of a Milvus, and whose they are."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import fiftyone.core.odm as foo
from bson import ObjectId
from bson.errors import InvalidId

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.collection.temporary import TEMPORARY, is_left_behind
from fiftyone_milvus.connection import Connection
from fiftyone_milvus.dataset.database import database_id
from fiftyone_milvus.errors import (
    CollectionMismatchError,
    CollectionNotFoundError,
    InvalidInputError,
)
from fiftyone_milvus.inventory.status import configured
from fiftyone_milvus.schema.layout import MOVING, Layout

UNDER_WAY = 24 * 3600
"""Seconds: a run is stored when its upload is done, so a younger collection may yet get one."""


@dataclass(frozen=True)
class CollectionInfo:
    """One collection of a Milvus.

    Attributes:
        name: of the collection
        owner: ``"index"`` if a brain run of this FiftyOne database uses it; ``"orphan"`` if it was
            made for a dataset or brain run that this database does not have, any more; ``"other"``
            if it was not made by this package, or for another FiftyOne database, or may be an index
            that is being computed
        why: one line that says how that is known
        vectors: how many; about, without those that are not sealed, if the collection is not
            loaded; None if it is not an index
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
    names = connection.run(lambda client: client.list_collections(timeout=10), retry=0)
    return [_info(connection, name) for name in sorted(names)]


def clean_up(names: str | Iterable[str], connection: Connection | None = None) -> list[str]:
    """Drops collections whose dataset or brain run is gone.

    Another FiftyOne database may use the same Milvus, and datasets of it look like ones that are
    gone if their collections don't record the database. So the collections are named by who knows,
    and each is looked at once more right before.

    Args:
        names: of the collections
        connection (None): the Milvus; by default, the one that FiftyOne's brain config names

    Returns:
        the names of those that were dropped

    Raises:
        InvalidInputError: if one is not an orphan; nothing is dropped then, unless it only just got
            an owner
        FiftyOneMilvusError: if Milvus does not answer
    """
    connection = connection or configured()
    names = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    there = connection.run(lambda client: client.list_collections(timeout=10), retry=0)
    for name in names:
        if name not in there:
            raise InvalidInputError(
                f"There is no collection '{name}' at {connection.target.address}; see "
                "inventory.collections()"
            )
        _check_orphan(connection, name)
    dropped = []
    for name in names:
        collection = MilvusCollection(connection, name)
        if collection.exists():
            _check_orphan(connection, name)
            if collection.drop():
                dropped.append(name)
    return dropped


def _check_orphan(connection: Connection, name: str) -> None:
    info = _info(connection, name)
    if info.owner != "orphan":
        raise InvalidInputError(
            f"Collection '{name}' is no orphan: {info.why}; delete its brain run, or drop it with "
            "pymilvus"
        )


def _info(connection: Connection, name: str) -> CollectionInfo:
    collection = MilvusCollection(connection, name)
    try:
        layout, rows = collection.describe(), collection.estimated_rows()
    except CollectionMismatchError:
        return CollectionInfo(name, "other", "it can't hold a FiftyOne index")
    except CollectionNotFoundError:
        return CollectionInfo(name, "other", "it was dropped just now")
    dataset, key = layout.owner.get("dataset"), layout.owner.get("brain_key")
    status, why = _owner(layout, name)
    return CollectionInfo(name, status, why, rows, layout.dimension, dataset, key)


def _owner(layout: Layout, name: str) -> tuple[str, str]:
    owner = layout.owner
    users = _users(name)
    if users:
        return "index", f"used by {users}"
    if not owner.get("dataset_id"):
        return "other", "nothing records that this package made it"
    dataset, key = owner.get("dataset"), owner.get("brain_key")
    if owner.get(TEMPORARY):
        return _of_a_call(owner)
    document = _dataset(str(owner["dataset_id"]))
    if document is None:
        return _of_no_dataset(owner)
    if key is None:
        return "other", f"made for dataset '{document['name']}' without a brain key"
    moving = owner.get(MOVING)
    if _age(moving or layout.embedded) < UNDER_WAY:
        what = "moved here, or was when that was interrupted" if moving else "computed"
        return "other", (
            f"no brain run of dataset '{document['name']}' uses it, but it was made today: maybe "
            f"'{key}' is being {what}"
        )
    return "orphan", f"no brain run of dataset '{dataset}' uses it, '{key}' neither"


def _of_a_call(owner: Mapping[str, Any]) -> tuple[str, str]:
    record = owner[TEMPORARY]
    what = f"temporary, of {record.get('purpose')} of dataset '{owner.get('dataset')}'"
    if owner.get("database") != database_id():
        return "other", f"{what} of another FiftyOne database"
    process = f"process {record.get('pid')} on {record.get('host')}"
    if is_left_behind(record):
        return "orphan", f"{what}, left behind by {process}"
    return "other", f"{what}, in use by {process}"


def _of_no_dataset(owner: Mapping[str, Any]) -> tuple[str, str]:
    dataset, recorded = owner.get("dataset"), owner.get("database")
    if recorded is None:
        return "orphan", (
            f"this FiftyOne database has no dataset '{dataset}' with the ID it was made for; make "
            "sure that it is not another database's"
        )
    if recorded != database_id():
        return "other", f"made for dataset '{dataset}' of another FiftyOne database"
    return "orphan", f"its dataset '{dataset}' was deleted from this FiftyOne database"


def _age(embedded: Mapping[str, Any]) -> float:
    """Returns the seconds since a collection was made; infinity where that is not recorded."""
    try:
        return time.time() - int(embedded["seen"]) / 1000
    except (KeyError, TypeError, ValueError):
        return float("inf")


def _dataset(dataset_id: str) -> Any:
    try:
        query = {"_id": ObjectId(dataset_id)}
    except InvalidId:
        return None
    return foo.get_db_conn().datasets.find_one(query, {"name": 1})


def _users(name: str) -> str:
    """Returns the runs of any dataset that use a Milvus collection of a name, as text."""
    database = foo.get_db_conn()
    query = {"config.method": "milvus", "config.collection_name": name}
    names = []
    for run in database.runs.find(query, {"key": 1, "_dataset_id": 1}):
        document = database.datasets.find_one({"_id": run.get("_dataset_id")}, {"name": 1})
        if document is not None:
            names.append(f"'{run.get('key')}' of dataset '{document['name']}'")
    return ", ".join(sorted(names))
