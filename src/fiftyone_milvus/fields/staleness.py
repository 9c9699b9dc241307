"""Whether the values beside the vectors are those of FiftyOne's database.

FiftyOne stamps every sample that it writes with ``last_modified_at``: for edits of the sample and
of its labels, tags, and changes of the dataset's schema alike. The *watermark* of an index is the
newest stamp there was before its values were read, so they are up to date as long as no sample has
a newer one. FiftyOne keeps an index on the stamps, so that is asked in under a millisecond.

Stamps are taken from the clock of the machine that writes, when the write begins: who writes to one
dataset from several machines should keep their clocks in step, and should not edit samples while
their values are being read.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timezone
from typing import Any

from bson import ObjectId

from fiftyone_milvus.fields.values import from_milliseconds, milliseconds

STAMP = "last_modified_at"


def newest(dataset: Any) -> int:
    """Returns the watermark of values that are read from now on, in milliseconds since 1970.

    Never in the future, where an edit of today could not be told from it.
    """
    doc = dataset._sample_collection.find_one({}, {STAMP: 1}, sort=[(STAMP, -1)])
    stamp = (doc or {}).get(STAMP)
    if stamp is None:
        return 0
    return min(milliseconds(stamp), milliseconds(datetime.now(timezone.utc)))


def newer(watermark: int | None) -> dict[str, Any]:
    """Returns the MongoDB query for samples that were written after a watermark; None is ever."""
    return {} if watermark is None else {STAMP: {"$gt": from_milliseconds(watermark)}}


def is_fresh(dataset: Any, watermark: int | None) -> bool:
    """Whether no sample was written after the watermark."""
    if watermark is None:
        return False
    return dataset._sample_collection.find_one(newer(watermark), {"_id": 1}) is None


def is_copied_since(view: Any, watermark: int | None) -> bool:
    """Whether a view is none of copied patches, or one of patches that are not older."""
    if not view._is_generated:
        return True
    created = view._dataset.created_at
    return watermark is not None and created is not None and milliseconds(created) >= watermark


def only(dataset: Any, watermark: int, until: int, sample_ids: Collection[str]) -> bool:
    """Whether all samples written after ``watermark``, until ``until``, are among those given."""
    known = {ObjectId(i) for i in sample_ids if ObjectId.is_valid(i)}
    stamps = {"$gt": from_milliseconds(watermark), "$lte": from_milliseconds(until)}
    found = dataset._sample_collection.find({STAMP: stamps}, {"_id": 1}).limit(len(known) + 1)
    return all(doc["_id"] in known for doc in found)
