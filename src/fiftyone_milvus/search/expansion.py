"""Searches whose size is not known before: within a distance, or one row per sample.

The nearest rows are asked for in growing numbers until they reach far enough. That holds on every
engine: Milvus 2.3 ignores ``group_by_field`` without a word, and an approximate index asked for a
range ends where its probe or graph does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from fiftyone_milvus.collection.filters import Scope
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.search.neighbors import Neighbors
from fiftyone_milvus.search.planner import APPROXIMATE_MAX, Searcher

Complete = Callable[[Neighbors], Neighbors]
Search = Callable[[Array, "int | None"], "list[Neighbors]"]
"""Queries and k (None for all) to the exact number of rows there are, in order."""

_FIRST = 256
_GROWTH = 4


def find(
    searcher: Searcher,
    queries: Array,
    k: int | None,
    *,
    combine: Callable[[Array], Array] | None = None,
    scope: Scope | None = None,
    max_distance: float | None = None,
    one_per_sample: bool = False,
    reverse: bool = False,
    complete: Complete = lambda found: found,
) -> Neighbors:
    """Answers one search.

    Args:
        searcher: asks Milvus
        queries: one query, or several if there is ``combine``: a ``num_queries x num_dims`` array
        k: how many rows to return; None for all
        combine: turns ``num_queries x n`` distances into ``n``
        scope: the rows to choose from; None for all
        max_distance: the largest distance to return, inclusive; None for any
        one_per_sample: whether to return only the best row of each sample
        reverse: whether to return the farthest of what the above allows, farthest first
        complete: returns rows with their true sample IDs
    """

    def choose(found: Neighbors) -> Neighbors:
        return pick(found, k, max_distance=max_distance, one_per_sample=one_per_sample)

    if combine is not None:
        some = k if max_distance is None and not one_per_sample else None
        return choose(complete(searcher.ranked(queries, combine, some, scope, reverse=reverse)))

    def nearest(queries: Array, size: int | None) -> list[Neighbors]:
        return [complete(found) for found in searcher.nearest(queries, size, scope)]

    def farthest(queries: Array, size: int | None) -> list[Neighbors]:
        return [complete(found) for found in searcher.farthest(queries, size, scope)]

    if reverse and max_distance is not None:
        (within,) = reach(nearest, queries, None, max_distance=max_distance)
        return choose(within.last(None))
    (found,) = reach(
        farthest if reverse else nearest,
        queries,
        k,
        max_distance=max_distance,
        one_per_sample=one_per_sample,
    )
    return found


def reach(
    search: Search,
    queries: Array,
    k: int | None,
    *,
    max_distance: float | None = None,
    one_per_sample: bool = False,
) -> list[Neighbors]:
    """Searches until each query has what was asked for, or there is no more.

    Args:
        search: as :meth:`Searcher.nearest() <fiftyone_milvus.search.planner.Searcher.nearest>`, or
            ``farthest`` where there is no ``max_distance``
        queries: a ``num_queries x num_dims`` float32 array
        k: how many rows to return of each query; None for all
        max_distance: the largest distance to return, inclusive
        one_per_sample: whether to return only the first row of each sample
    """
    answers: list[Neighbors | None] = [None] * len(queries)
    waiting = list(range(len(queries)))
    for size in _sizes(k, max_distance, one_per_sample):
        if not waiting:
            break
        short = []
        for i, found in zip(waiting, search(queries[waiting], size)):
            picked = pick(found, k, max_distance=max_distance, one_per_sample=one_per_sample)
            exhausted = size is None or len(found.ids) < size
            if exhausted or _beyond(found, max_distance) or len(picked.ids) == k:
                answers[i] = picked
            else:
                short.append(i)
        waiting = short
    return [answer for answer in answers if answer is not None]


def pick(
    found: Neighbors,
    k: int | None,
    *,
    max_distance: float | None = None,
    one_per_sample: bool = False,
) -> Neighbors:
    """Returns the first ``k`` rows within a distance, of each sample the first if asked for."""
    if max_distance is not None:
        found = found.where(found.distances <= max_distance)
    if one_per_sample:
        firsts = np.unique(np.asarray(found.sample_ids, dtype=str), return_index=True)[1]
        found = found.where(np.isin(np.arange(len(found.ids)), firsts))
    return found.first(k)


def _sizes(k: int | None, max_distance: float | None, one_per_sample: bool) -> Iterator[int | None]:
    if k is not None and not one_per_sample:
        yield k
        return
    if k is not None or max_distance is not None:
        size = max(_FIRST, 2 * k if k is not None else 0)
        # A longer ranking is computed from all rows anyway
        while size <= APPROXIMATE_MAX:
            yield size
            size *= _GROWTH
    yield None


def _beyond(found: Neighbors, max_distance: float | None) -> bool:
    return max_distance is not None and bool(
        len(found.distances) and found.distances[-1] > max_distance
    )
