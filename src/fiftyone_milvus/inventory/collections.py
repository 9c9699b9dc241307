"""The collections of a Milvus, and what uses them."""

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
from fiftyone_milvus.connection.client import RECONNECT_SECONDS
from fiftyone_milvus.dataset.availability import needs_database
from fiftyone_milvus.dataset.database import database_id
from fiftyone_milvus.dataset.users import users
from fiftyone_milvus.errors import (
    CollectionDamagedError,
    CollectionMismatchError,
    CollectionNotFoundError,
    EngineError,
    InvalidInputError,
)
from fiftyone_milvus.inventory.status import configured
from fiftyone_milvus.schema.layout import MOVING, Layout

UNDER_WAY = 24 * 3600
"""Seconds in which a collection may still get a brain run, which is stored after the upload."""


@dataclass(frozen=True)
class CollectionInfo:
    """One collection of a Milvus.

    Attributes:
        name: of the collection
        owner: ``"index"`` if a brain run of this FiftyOne database uses it; ``"orphan"`` if it was
            made for a dataset or brain run that this database does not have; ``"other"`` if another
            program or another FiftyOne database made it, or if its index may still be computed
        why: one line with the reason
        vectors: how many; of a collection that is not loaded, only those in sealed segments; None
            if it can't hold an index
        dimension: of the vectors; None if it can't hold an index
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


@needs_database
def collections(connection: Connection | None = None) -> list[CollectionInfo]:
    """Returns the collections of a Milvus, sorted by name.

    Args:
        connection (None): the Milvus; by default, the one that FiftyOne's brain config names

    Raises:
        FiftyOneMilvusError: if it does not answer
    """
    connection = connection or configured()
    return [_info(connection, name) for name in sorted(_names(connection))]


@needs_database
def clean_up(names: str | Iterable[str], connection: Connection | None = None) -> list[str]:
    """Drops orphaned collections.

    A collection that does not record its FiftyOne database may belong to another one. So the caller
    names the collections. Each is checked again just before it is dropped.

    Args:
        names: the names of the collections
        connection (None): the Milvus; by default, the one that FiftyOne's brain config names

    Returns:
        the names of those that were dropped

    Raises:
        InvalidInputError: if one is not an orphan. Then nothing is dropped, unless a brain run
            began to use it during this call
        FiftyOneMilvusError: if Milvus does not answer
    """
    connection = connection or configured()
    names = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    there = _names(connection)
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


def _names(connection: Connection) -> list[str]:
    names: list[str] = connection.run(
        lambda client: client.list_collections(timeout=10), retry=RECONNECT_SECONDS
    )
    return names


def _check_orphan(connection: Connection, name: str) -> None:
    info = _info(connection, name)
    if info.owner != "orphan":
        raise InvalidInputError(
            f"Collection '{name}' is not orphaned: {info.why}; delete its brain run, or drop it "
            "with pymilvus"
        )


def _info(connection: Connection, name: str) -> CollectionInfo:
    collection = MilvusCollection(connection, name)
    try:
        layout, rows = collection.describe(), collection.estimated_rows()
    except CollectionDamagedError as error:
        return CollectionInfo(name, "other", str(error))
    except CollectionMismatchError:
        return CollectionInfo(name, "other", "it can't hold a FiftyOne index")
    except CollectionNotFoundError:
        return CollectionInfo(name, "other", "it was just dropped")
    except EngineError as error:  # one that can't be read must not hide the others
        return CollectionInfo(name, "other", str(error))
    dataset, key = layout.owner.get("dataset"), layout.owner.get("brain_key")
    status, why = _owner(layout, collection.names())
    return CollectionInfo(name, status, why, rows, layout.dimension, dataset, key)


def _owner(layout: Layout, names: Iterable[str]) -> tuple[str, str]:
    """Returns the owner of a collection, and the reason; see :class:`CollectionInfo`."""
    owner = layout.owner
    used_by = ", ".join(map(str, users(names)))
    if used_by:
        return "index", f"used by {used_by}"
    if not owner.get("dataset_id"):
        return "other", "nothing records that this package made it"
    dataset, key = owner.get("dataset"), owner.get("brain_key")
    if owner.get(TEMPORARY):
        return _temporary_owner(owner)
    document = _dataset(str(owner["dataset_id"]))
    if document is None:
        return _deleted_owner(owner)
    if key is None:
        return "other", f"made for dataset '{document['name']}' without a brain key"
    moving = owner.get(MOVING)
    if _age(moving or layout.embedded) < UNDER_WAY:
        what = "moved here (or that was interrupted)" if moving else "computed"
        return "other", (
            f"no brain run of dataset '{document['name']}' uses it, but it was made today: maybe "
            f"'{key}' is being {what}"
        )
    return "orphan", f"no brain run of dataset '{dataset}' uses it, not even '{key}'"


def _temporary_owner(owner: Mapping[str, Any]) -> tuple[str, str]:
    record = owner[TEMPORARY]
    what = f"temporary, of {record.get('purpose')} of dataset '{owner.get('dataset')}'"
    if owner.get("database") != database_id():
        return "other", f"{what} of another FiftyOne database"
    process = f"process {record.get('pid')} on {record.get('host')}"
    if is_left_behind(record):
        return "orphan", f"{what}, left behind by {process}"
    return "other", f"{what}, in use by {process}"


def _deleted_owner(owner: Mapping[str, Any]) -> tuple[str, str]:
    dataset, recorded = owner.get("dataset"), owner.get("database")
    if recorded is None:
        return "orphan", (
            f"this FiftyOne database has no dataset '{dataset}' with the recorded ID; make sure "
            "that the collection is not of another database"
        )
    if recorded != database_id():
        return "other", f"made for dataset '{dataset}' of another FiftyOne database"
    return "orphan", f"its dataset '{dataset}' was deleted from this FiftyOne database"


def _age(embedded: Mapping[str, Any]) -> float:
    """Returns the seconds since a collection was made; infinity if that is not recorded."""
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
