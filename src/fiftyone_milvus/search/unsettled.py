"""Searches a server that does not use its index yet, and finds what it would not by itself.

Until rows are sealed and indexed, Milvus searches them with an interim index: 128 lists of near
rows in each segment, of which it looks into 16, whatever the parameters are. What that finds is the
column "Milvus by itself" of the benchmark ``first_minutes``. A range search looks into one list
after the other, the nearest first, until one has no row within the radius. Where every row is
within it, that compares all rows, in about the same time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.errors import EngineError
from fiftyone_milvus.metrics import Array, to_scores
from fiftyone_milvus.search.calls import Calls
from fiftyone_milvus.search.exactness import is_settled
from fiftyone_milvus.search.neighbors import Neighbors, merge

logger = logging.getLogger(__name__)

MOST_QUERIES = 1_000
"""For so many, Milvus compares all rows in about the time that reading all vectors takes."""

MOST_INDEXED = 200_000
"""A radius that all rows are within makes Milvus walk over the whole graph of indexed segments."""

_EVERY = {"cosine": -1.01, "dotproduct": -1e30, "euclidean": 1e30}
"""The score that every row is better than."""

_ROUNDING = 4 * float(np.finfo(np.float32).eps)

_DEPTH = 2_048
"""The rows within the radius where there are more indexed ones than :data:`MOST_INDEXED`."""


def nearest(
    calls: Calls, queries: Array, limit: int, params: Mapping[str, Any] | None = None
) -> list[Neighbors] | None:
    """Returns the nearest rows of each query, in whichever state the server is.

    Args:
        calls: searches the collection
        queries: a ``num_queries x num_dims`` float32 array; of an index type without range
            searches, the answer is what Milvus gives by itself
        limit: how many rows, from 1 to ``calls.window``
        params: search parameters, which replace the user's

    Returns:
        a list of ``num_queries`` :class:`Neighbors` of at most ``limit`` rows each; None if a
        server that does not use its index yet has not looked into all lists, or would take longer
        than reading all vectors

    Raises:
        FiftyOneMilvusError: if Milvus can't be reached or refuses
    """
    collection = calls.collection

    def search() -> list[Neighbors]:
        return calls.search(queries, limit, params=params)

    if calls.embedded or collection.held:
        return search()
    found, settled = _with_state(collection, search)
    if settled:
        return found
    if len(queries) > MOST_QUERIES:
        return None
    try:
        within = _within(calls, queries, limit, params)
    except EngineError as error:
        logger.debug("The index type has no range search: %s", error)
        return found
    if _compares_all(collection) and any(map(_stopped_early, within, found)):
        return None
    if any(len(n.ids) < limit for n in within):
        size = min(limit, collection.count())
        if any(len(n.ids) < size for n in within):
            return None
    return [_union(one, other, limit) for one, other in zip(within, found)]


def _within(
    calls: Calls, queries: Array, limit: int, params: Mapping[str, Any] | None
) -> list[Neighbors]:
    """Searches within a radius that all rows are within, or many."""
    radius = _EVERY[calls.metric]
    if not _compares_all(calls.collection):
        depth = min(calls.window, max(limit, _DEPTH))
        many = [n for n in calls.search(queries, depth, params=params) if n.ids]
        last = [float(to_scores(n.distances, calls.metric)[-1]) for n in many]
        # The widest of all: of one query, that is only deeper
        widest = max if calls.metric == "euclidean" else min
        radius = widest(last, default=radius)
    return calls.search(queries, limit, params={**(params or {}), "radius": radius})


def _compares_all(collection: MilvusCollection) -> bool:
    sealed = collection.segment_state().sealed
    return sum(rows for rows, indexed in sealed or () if indexed) <= MOST_INDEXED


def _stopped_early(within: Neighbors, found: Neighbors) -> bool:
    """Whether a range search lacks a row that is nearer than its last.

    It ends at lists whose rows were all deleted, and then not even the nearest lists are sure.
    """
    if not within.ids:
        return False
    last = float(within.distances[-1])
    nearer = found.distances < last - _ROUNDING * max(1.0, abs(last))
    return bool(nearer.any()) and not {*found.where(nearer).ids} <= {*within.ids}


def _union(one: Neighbors, other: Neighbors, limit: int) -> Neighbors:
    known = set(one.ids)
    missed = np.array([i not in known for i in other.ids], dtype=bool)
    return merge([one, other.where(missed)], limit)


def _with_state(
    collection: MilvusCollection, search: Callable[[], list[Neighbors]]
) -> tuple[list[Neighbors], bool]:
    """Searches, and asks at the same time whether the server uses its index."""
    if collection.knows_segments:
        return search(), is_settled(collection)
    with ThreadPoolExecutor(1, thread_name_prefix="fiftyone-milvus") as pool:
        settled = pool.submit(is_settled, collection)
        return search(), settled.result()
