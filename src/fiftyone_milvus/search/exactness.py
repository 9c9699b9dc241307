"""When a filtered search is exact, and what to do for it to be.

Measured on Milvus 2.3.5 (``docs/performance.md``); names are of Milvus' and Knowhere's settings:

-   HNSW scans the rows of a filter exactly where the filter leaves less than 7 % of a segment
    (``kHnswSearchKnnBFFilterThreshold``), else it walks its graph past the others, and recall@25
    falls off whatever ``ef`` is. So many rows are asked for in parts, spread so that each is a
    small share of every segment.
-   IVF_FLAT is exact under any filter if every list is probed.
-   Rows not sealed yet are scanned up to some 5,000, where Milvus builds an interim index for them
    that no parameter reaches: recall@25 falls off, below 0.3 in a narrow view.
-   Quantized indexes never are.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from fiftyone_milvus.collection import INDEXED_FROM, MilvusCollection

SHARE = 0.05
"""Of a segment's rows, at most, in one filtered search; HNSW scans below 0.07."""

UNSEALED = 4_000
"""Milvus 2.3-2.6 build the interim index from 4,992 rows on: ``interimIndex.nlist`` 128 x 39."""

_EVERY_LIST = 65_536


class Parts(NamedTuple):
    """How to ask for rows exactly.

    Attributes:
        searches: how many
        params: search parameters over the user's
    """

    searches: int
    params: dict[str, Any]


def parts_for(collection: MilvusCollection, ids: int) -> Parts | None:
    """Returns how filtered searches for that many rows are exact, or None if they never are."""
    if collection.connection.engine.lite:
        return Parts(1, {})
    index_type = collection.layout.index_type
    if index_type not in ("FLAT", "IVF_FLAT", "HNSW"):
        return None
    if collection.count() - collection.count(sealed_only=True) > UNSEALED:
        return None
    if index_type == "FLAT":
        return Parts(1, {})
    if index_type == "IVF_FLAT":
        return Parts(1, {"nprobe": _EVERY_LIST})
    segments = collection.sealed_segments()
    if segments is None:
        return None
    large = {rows: indexed for rows, indexed in segments if rows >= INDEXED_FROM}
    if not all(large.values()):
        return None
    share = min(1.0, ids / min(large)) if large else 0.0
    return Parts(max(1, math.ceil(share / SHARE)), {})
