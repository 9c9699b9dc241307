"""Writes of ours to samples that are no edits.

FiftyOne marks each sample that it writes as modified. Then the metadata fields of every index would
not be up to date until ``sync_fields()``, and ``sync(refresh=True)`` would embed the samples again,
for a note of ours. So such notes are written without that mark, unless an index holds them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from bson import ObjectId
from pymongo import UpdateOne

from fiftyone_milvus import inventory
from fiftyone_milvus.dataset.internals import member
from fiftyone_milvus.fields.staleness import MODIFIED
from fiftyone_milvus.inventory.stored_index import config_of

_BATCH = 10_000

Update = tuple[str, dict[str, Any], list[Mapping[str, Any]] | None]
"""A sample ID, an update of MongoDB, and its array filters."""


def write(
    dataset: Any,
    name: str,
    updates: Iterable[Update],
) -> None:
    """Updates samples.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        name: the last part of the path that is written, such as ``"tags"``
        updates: one for each sample or label
    """
    mark = {MODIFIED: datetime.now(timezone.utc)} if _is_indexed(dataset, name) else {}
    operations: list[UpdateOne] = []
    ids: set[str] = set()
    for sample_id, update, filters in updates:
        if mark:
            update = {**update, "$set": {**update.get("$set", {}), **mark}}
        operations.append(UpdateOne({"_id": ObjectId(sample_id)}, update, array_filters=filters))
        ids.add(sample_id)
        if len(operations) == _BATCH:
            _flush(dataset, operations, ids)
            operations, ids = [], set()
    _flush(dataset, operations, ids)


def _flush(dataset: Any, operations: list[UpdateOne], ids: Collection[str]) -> None:
    if operations:
        # Also reloads the samples that this process holds
        member(dataset, "_bulk_write")(operations, ids=list(ids), progress=False)


def _is_indexed(dataset: Any, name: str) -> bool:
    """Whether an index has the field, or a part of it, as a metadata field."""
    for key in inventory.keys(dataset):
        config = config_of(dataset, key)
        paths = () if config is None else config.fields or ()
        if any(name in path.split(".") for path in paths):
            return True
    return False
