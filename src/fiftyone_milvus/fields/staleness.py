"""Tells whether metadata fields have the values of FiftyOne's database.

FiftyOne sets ``last_modified_at`` of every sample that it writes, also for edits of labels and tags
and changes of the schema. The *watermark* of an index is the newest such time before its values
were read, so they are up to date while no sample has a newer one. FiftyOne keeps a database index
of these times, so the query takes less than a millisecond.

The times come from the clock of the machine that writes, at the start of the write. So machines
that write to one dataset should have synchronized clocks, and should not edit samples while their
values are being read.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timezone
from typing import Any

from bson import ObjectId

from fiftyone_milvus.dataset.unmarked import MODIFIED
from fiftyone_milvus.fields.values import from_milliseconds, milliseconds


def newest(dataset: Any) -> int:
    """Returns the watermark of values that are read from now on, in milliseconds since 1970.

    It is never in the future, as later edits would have to be newer.
    """
    doc = dataset._sample_collection.find_one({}, {MODIFIED: 1}, sort=[(MODIFIED, -1)])
    time = (doc or {}).get(MODIFIED)
    now = milliseconds(datetime.now(timezone.utc))
    return 0 if time is None else min(milliseconds(time), now)


def newer(watermark: int | None) -> dict[str, Any]:
    """Returns the MongoDB query for samples written after a watermark; for None, all samples."""
    return {} if watermark is None else {MODIFIED: {"$gt": from_milliseconds(watermark)}}


def is_up_to_date(dataset: Any, watermark: int | None) -> bool:
    """Whether no sample was written after the watermark."""
    if watermark is None:
        return False
    return dataset._sample_collection.find_one(newer(watermark), {"_id": 1}) is None


def is_copied_since(view: Any, watermark: int | None) -> bool:
    """Whether a view was copied after the watermark, as patches are; True for other views."""
    if not view._is_generated:
        return True
    created = view._dataset.created_at
    return watermark is not None and created is not None and milliseconds(created) >= watermark


def only_modified(dataset: Any, watermark: int, until: int, sample_ids: Collection[str]) -> bool:
    """Whether only the given samples were written after ``watermark`` and until ``until``."""
    known = {ObjectId(i) for i in sample_ids if ObjectId.is_valid(i)}
    times = {"$gt": from_milliseconds(watermark), "$lte": from_milliseconds(until)}
    found = dataset._sample_collection.find({MODIFIED: times}, {"_id": 1}).limit(len(known) + 1)
    return all(doc["_id"] in known for doc in found)
