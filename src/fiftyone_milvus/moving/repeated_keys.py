"""Rows with the same primary key, which the built-in backend makes and Milvus allows.

A query returns each key once, but counts include every row. An upsert replaces all rows of a key.
Which of the rows a query returns may change, and nothing tells which is the newest.
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
    """Leaves one row for each primary key, not necessarily the newest.

    After an interruption, call it again.

    Args:
        collection: the collection
        distinct: the number of its different keys
        progress (None): a progress setting of FiftyOne

    Returns:
        the number of rows that were removed

    Raises:
        EngineError: if repeated rows remain
    """
    extra = collection.count(strong=True) - distinct
    if extra <= 0:
        return 0
    logger.warning(
        "Removing %d rows of the %s that repeat the key of another; Milvus does not tell which is "
        "the newest, so call sync(refresh=True) on the index if their vectors may differ",
        extra,
        collection.where,
    )
    rewritten = 0
    with ProgressBar(
        distinct, "Removing repeated rows from Milvus", show=distinct > _PART, progress=progress
    ) as bar:
        for page in collection.id_pages(strong=True, with_samples=False):
            for part in filters.batches(list(dict.fromkeys(page.ids)), _PART):
                if keys := _with_repeated(collection, part):
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


def _with_repeated(collection: MilvusCollection, keys: Sequence[str]) -> list[str]:
    """Returns every repeated key of some keys, and few others: bisects by counts."""
    expression = filters.ids_in(collection.layout.id_field, keys)
    extra = collection.count(expression, strong=True) - len(keys)
    if extra <= 0:
        return []
    if len(keys) <= _SMALL or extra > len(keys) // 4:
        return list(keys)
    half = len(keys) // 2
    return _with_repeated(collection, keys[:half]) + _with_repeated(collection, keys[half:])
