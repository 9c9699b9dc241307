"""Writes notes of this package to samples, without marking the samples as edited.

FiftyOne marks each sample that it writes as modified. Then the metadata fields of every index would
not be up to date until ``sync_fields()``, and ``sync(refresh=True)`` would embed the samples again,
for a note of ours. So such notes are written without that mark, unless an index holds them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

import fiftyone as fo
import fiftyone.core.odm as foo
from bson import ObjectId
from pymongo import UpdateOne

from fiftyone_milvus.dataset.internals import member

MODIFIED = "last_modified_at"

_BATCH = 10_000


class Update(NamedTuple):
    """What is written to a sample.

    Attributes:
        sample_id: the sample's ID; None if it was deleted, and nothing is to be written
        update: an update of MongoDB
        filters: its array filters
        condition: what must hold of the sample in the moment of the write, as a query of MongoDB
    """

    sample_id: str | None
    update: dict[str, Any]
    filters: list[Mapping[str, Any]] | None = None
    condition: Mapping[str, Any] = {}


def write(dataset: Any, name: str, updates: Iterable[Update], *, edit: bool = False) -> int:
    """Updates samples.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        name: the last part of the path that is written, such as ``"tags"``
        updates: one for each sample or label
        edit (False): whether it is an edit of the user's data, and so gets the mark

    Returns:
        how many of the updates were made: the sample was there, and its condition held
    """
    marked = edit or _is_metadata(dataset, name)
    mark = {MODIFIED: datetime.now(timezone.utc)} if marked else {}
    operations: list[UpdateOne] = []
    ids: set[str] = set()
    made = 0
    for sample_id, update, filters, condition in updates:
        if sample_id is None:
            continue
        if mark:
            update = {**update, "$set": {**update.get("$set", {}), **mark}}
        chosen = {"_id": ObjectId(sample_id), **condition}
        operations.append(UpdateOne(chosen, update, array_filters=filters))
        ids.add(sample_id)
        if len(operations) == _BATCH:
            made += _flush(dataset, operations, ids)
            operations, ids = [], set()
    return made + _flush(dataset, operations, ids)


def _flush(dataset: Any, operations: list[UpdateOne], ids: Collection[str]) -> int:
    if not operations:
        return 0
    # FiftyOne's own _bulk_write() does not say how many samples met their conditions
    samples = member(dataset, "_sample_collection")
    made = samples.bulk_write(operations, ordered=False).matched_count
    # The samples that this process holds
    member(fo.Sample, "_reload_docs")(samples.name, sample_ids=list(ids))
    return int(made)


def _is_metadata(dataset: Any, name: str) -> bool:
    """Whether an index has the field, or a part of it, as a metadata field."""
    runs = foo.get_db_conn().runs.find(
        {"_dataset_id": dataset._doc.id, "config.method": "milvus"}, {"config.fields": 1}
    )
    paths = [path for run in runs for path in run.get("config", {}).get("fields") or ()]
    return any(name in path.split(".") for path in paths)
