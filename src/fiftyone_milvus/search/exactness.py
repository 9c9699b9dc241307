"""How filtered searches on a server are made exact.

Measured on Milvus 2.3.5 (``docs/performance.md``); settings are named as in Milvus and Knowhere:

-   ``HNSW`` compares every row of a filter that leaves less than 7 % of a segment
    (``kHnswSearchKnnBFFilterThreshold``). Under a wider filter it walks its graph, and recall@25
    drops whatever ``ef`` is. So many rows are asked for in several requests: each names rows from
    all over the collection, and few of any segment.
-   ``IVF_FLAT`` is exact under any filter if it probes every list.
-   Rows that are not sealed are compared one by one, up to 4,991 (we stop at 4,000). For more,
    Milvus builds an interim index, which ignores all parameters: recall@25 drops, below 0.3 in a
    narrow view.
-   Quantized indexes are never exact.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from fiftyone_milvus.collection import INDEXED_FROM, MilvusCollection
from fiftyone_milvus.collection.consistency import SegmentState

SHARE = 0.05
"""The largest share of a segment in one filtered search; HNSW compares every row below 0.07."""

UNSEALED = 4_000
"""Milvus 2.3-2.6 build the interim index from 4,992 rows on: ``interimIndex.nlist`` 128 x 39."""

EVERY_ROW = {"exact": True}
"""The embedded engine's own search parameter: no codes choose which rows are compared."""

_EVERY_LIST = 65_536


class Split(NamedTuple):
    """How to search among given rows so that the answer is exact.

    Attributes:
        requests: the number of requests among which the rows are divided
        params: search parameters, which replace the user's
    """

    requests: int
    params: dict[str, Any]


def exact_split(collection: MilvusCollection, rows: int) -> Split | None:
    """Returns how a search among given rows is exact.

    Args:
        collection: an existing collection
        rows: the number of rows to search among

    Returns:
        a :class:`Split`, or None if a filtered search of the index can't be exact

    Raises:
        FiftyOneMilvusError: if Milvus can't be reached or refuses
    """
    if collection.connection.engine.lite:
        return Split(1, {})
    index_type = collection.layout.index_type
    if index_type not in ("FLAT", "IVF_FLAT", "HNSW"):
        return None
    state = collection.segment_state()
    if not _uses_index(state, index_type):
        return None
    if index_type == "FLAT":
        return Split(1, {})
    if index_type == "IVF_FLAT":
        return Split(1, {"nprobe": _EVERY_LIST})
    if state.sealed is None:
        return None
    large = [size for size, _ in state.sealed if size >= INDEXED_FROM]
    share = min(1.0, rows / min(large)) if large else 0.0
    return Split(max(1, math.ceil(share / SHARE)), {})


def is_settled(collection: MilvusCollection) -> bool:
    """Whether a server searches its rows by the index that was asked for.

    Until rows are sealed and indexed, that is an interim index, which ignores all parameters: of
    60,000 vectors in five clusters it found 0.90 of the nearest 25 and 0.79 of the nearest 1,000.

    Args:
        collection: an existing collection on a server

    Returns:
        True also where Milvus does not tell

    Raises:
        FiftyOneMilvusError: if Milvus can't be reached or refuses
    """
    return _uses_index(collection.segment_state(), collection.layout.index_type)


def _uses_index(state: SegmentState, index_type: str | None) -> bool:
    if state.growing > UNSEALED:
        return False
    if index_type == "FLAT":
        return True  # which is none
    return all(indexed for rows, indexed in state.sealed or () if rows >= INDEXED_FROM)
