"""Rows of the same primary key, which Milvus takes and the built-in backend makes.

A query answers each key once, and counts count every row. An upsert removes all rows of a key.
Which of them a query answers with changes from one to the next: a Milvus 2.3.5 takes what the first
segment says. Nothing that it tells says which is the newest.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fiftyone_milvus.collection import MilvusCollection, filters
from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.errors import EngineError
from fiftyone_milvus.writing import writer

logger = logging.getLogger(__name__)

_PART = 8_192
_SMALL = 64


def repair(collection: MilvusCollection, distinct: int, *, progress: Any = None) -> int:
    """Leaves one row of each primary key, of which nobody knows whether it is the newest.

    If it is interrupted, call it again.

    Args:
        collection: the collection
        distinct: the number of its different keys
        progress (None): as FiftyOne's progress bars take it

    Returns:
        how many rows were too many

    Raises:
        EngineError: if rows stay repeated
    """
    extra = collection.count(strong=True) - distinct
    if extra <= 0:
        return 0
    logger.warning(
        "Leaving one row per key: %d rows of the %s repeat one, and Milvus does not tell which is "
        "the newest; if their vectors may differ, call sync(refresh=True) on the index",
        extra,
        collection.where,
    )
    rewritten = 0
    with ProgressBar(
        distinct, "Removing repeated rows from Milvus", show=distinct > _PART, progress=progress
    ) as bar:
        for page in collection.id_pages(strong=True, with_samples=False):
            for part in filters.batches(list(dict.fromkeys(page.ids)), _PART):
                if keys := _among(collection, part):
                    rewritten += collection.change({key: {} for key in keys})
                bar.update(len(part))
    writer.flush_if_due(collection, rewritten)
    left = collection.count(strong=True) - distinct
    if left > 0:
        raise EngineError(
            f"The {collection.where} still has {left} rows that repeat a key: another process "
            "writes to it; end that, then try again"
        )
    return extra


def _among(collection: MilvusCollection, keys: Sequence[str]) -> list[str]:
    """Returns keys with every repeated one among them, and not many others."""
    expression = filters.ids_in(collection.layout.id_field, keys)
    extra = collection.count(expression, strong=True) - len(keys)
    if extra <= 0:
        return []
    if len(keys) <= _SMALL or extra > len(keys) // 4:
        return list(keys)
    half = len(keys) // 2
    return _among(collection, keys[:half]) + _among(collection, keys[half:])
