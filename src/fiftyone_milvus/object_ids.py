"""A view's sample IDs from MongoDB, faster than ``values("id")`` where they are many.

The answer is read as bytes: an object per document and per ID would cost more than finding them.
One array of all IDs (``$push``) is no way: asked for a million, a MongoDB 6.0.5 went away.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_BATCH = 1 << 20
_DOCUMENT = 4 + 1 + len(b"_id\x00") + 12 + 1
_OBJECT_ID = slice(_DOCUMENT - 13, _DOCUMENT - 1)


def sample_ids(view: Any, limit: int | None = None) -> list[str]:
    """Returns the IDs of a view's samples, in its order.

    Args:
        view: a view of samples: not of patches, frames, clips or groups
        limit: how many to read at most; None for all
    """
    stages = view._pipeline()
    if limit is not None:
        stages = [*stages, {"$limit": limit}]
    stages = [*stages, {"$project": {"_id": True}}]
    batches = view._dataset._sample_collection.aggregate_raw_batches(
        stages, allowDiskUse=True, batchSize=_BATCH
    )
    found: list[str] = []
    for batch in batches:
        found += _parse(batch)
    return found


def _parse(batch: bytes) -> list[str]:
    """Reads the IDs of documents ``{"_id": ...}``, all of one size (https://bsonspec.org)."""
    documents = np.frombuffer(batch, np.uint8).reshape(-1, _DOCUMENT)
    text = np.ascontiguousarray(documents[:, _OBJECT_ID]).tobytes().hex()
    return [text[i : i + 24] for i in range(0, len(text), 24)]
