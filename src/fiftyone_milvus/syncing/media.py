"""Which samples may have changed since they were embedded."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.dataset.object_ids import IdArray
from fiftyone_milvus.fields import staleness

_BATCH = 10_000


@dataclass(frozen=True)
class Embedded:
    """When the rows of an index were embedded, as recorded with its collection.

    Attributes:
        dataset_id: the dataset of the samples
        watermark: the newest ``last_modified_at`` at that time, in milliseconds since 1970
        seen: the clock at that time, in milliseconds since 1970
    """

    dataset_id: str
    watermark: int
    seen: int

    @classmethod
    def now(cls, dataset: Any) -> Embedded:
        """Returns the record of rows that are embedded from now on."""
        newest = staleness.newest(dataset)
        return cls(str(dataset._doc.id), newest, time.time_ns() // 1_000_000)

    def to_dict(self) -> dict[str, Any]:
        """Returns what is recorded with the collection."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Any, dataset: Any) -> Embedded | None:
        """Returns the record of a dataset's rows, or None if there is none."""
        try:
            found = cls(str(record["dataset_id"]), int(record["watermark"]), int(record["seen"]))
        except (KeyError, TypeError, ValueError):
            return None
        return found if found.dataset_id == str(dataset._doc.id) else None


def changed(samples: Any, sample_ids: IdArray, embedded: Embedded | None) -> npt.NDArray[np.bool_]:
    """Returns for each sample whether it, or its file, was written since it was embedded.

    FiftyOne stamps a sample at each edit of any field, such as ``filepath``.

    Args:
        samples: the :class:`fiftyone.core.collections.SampleCollection`
        sample_ids: the samples in question
        embedded: when they were embedded; if None, every sample may have changed
    """
    if embedded is None:
        return np.ones(len(sample_ids), dtype=bool)
    collection = samples._dataset._sample_collection
    edited = collection.find(staleness.newer(embedded.watermark), {"_id": True})
    found: npt.NDArray[np.bool_] = np.isin(
        sample_ids, object_ids.from_object_ids(doc["_id"] for doc in edited)
    )
    untouched = np.flatnonzero(~found)
    for start in range(0, len(untouched), _BATCH):
        at = untouched[start : start + _BATCH]
        match = {"_id": {"$in": object_ids.to_object_ids(sample_ids[at])}}
        written = {
            doc["_id"].binary
            for doc in collection.find(match, {"filepath": True})
            if _written_since(doc.get("filepath"), embedded.seen)
        }
        raw = sample_ids[at].tobytes()
        found[at] = [raw[i : i + 12] in written for i in range(0, len(raw), 12)]
    return found


def _written_since(path: Any, milliseconds: int) -> bool:
    try:
        return os.stat(path).st_mtime_ns // 1_000_000 > milliseconds
    except (OSError, TypeError, ValueError):
        # Deleted, or not on this machine
        return False
