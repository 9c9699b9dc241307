"""Searches whose size is not known before: within a distance, or one row per sample.

They ask for more and more of the nearest rows until they have enough. This works on every engine:
Milvus 2.3 silently ignores ``group_by_field``, and a range search of an approximate index ends
where its probes or its graph do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from fiftyone_milvus.metrics import Array
from fiftyone_milvus.search.neighbors import Neighbors
from fiftyone_milvus.search.planner import APPROXIMATE_MAX, Searcher
from fiftyone_milvus.search.scope import Scope

Complete = Callable[[Neighbors], Neighbors]
Search = Callable[[Array, "int | None"], "list[Neighbors]"]
"""Takes queries and k (None for all); returns all rows there are, up to k, of each query."""

_FIRST = 256
_ROUNDING = 4 * float(np.finfo(np.float32).eps)
_GROWTH = 4


def search(
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
        searcher: searches the collection
        queries: a ``num_queries x num_dims`` float32 array: one query, or several with ``combine``
        k: how many rows to return; None for all
        combine: turns a ``num_queries x n`` float64 array of distances into ``n``
        scope: the rows to choose from; None for all
        max_distance: the largest distance to return, inclusive; None for any
        one_per_sample: whether to return only the best row of each sample
        reverse: whether to return the farthest of what the above allows, farthest first
        complete: returns rows with their true sample IDs

    Returns:
        :class:`Neighbors` of at most ``k`` rows, the best first
    """
    if combine is not None:
        some = k if max_distance is None and not one_per_sample else None
        found = complete(searcher.ranked(queries, combine, some, scope, reverse=reverse))
        return _best(found, k, max_distance, one_per_sample)

    farthest = reverse and max_distance is None
    once = searcher.farthest if farthest else searcher.nearest

    def ask(queries: Array, size: int | None) -> list[Neighbors]:
        return [complete(found) for found in once(queries, size, scope)]

    if reverse and not farthest:
        (within,) = expand(ask, queries, None, max_distance)
        return _best(within.last(None), k, max_distance, one_per_sample)
    return expand(ask, queries, k, max_distance, one_per_sample)[0]


def expand(
    search: Search,
    queries: Array,
    k: int | None,
    max_distance: float | None,
    one_per_sample: bool = False,
) -> list[Neighbors]:
    """Searches until each query has what was asked for, or there is no more.

    Args:
        search: as :meth:`Searcher.nearest() <fiftyone_milvus.search.planner.Searcher.nearest>`, or
            ``farthest`` if ``max_distance`` is None
        queries: a ``num_queries x num_dims`` float32 array
        k: how many rows to return of each query; None for all
        max_distance: the largest distance to return, inclusive; None for any
        one_per_sample: whether to return only the first row of each sample

    Returns:
        a list of ``num_queries`` :class:`Neighbors` of at most ``k`` rows each
    """
    answers: dict[int, Neighbors] = {}
    waiting = list(range(len(queries)))
    for size in _sizes(k, max_distance, one_per_sample):
        for i, found in zip(waiting, search(queries[waiting], size)):
            best = _best(found, k, max_distance, one_per_sample)
            exhausted = size is None or len(found.ids) < size
            beyond = (
                max_distance is not None and (found.distances[-1:] > _widened(max_distance)).any()
            )
            if exhausted or beyond or len(best.ids) == k:
                answers[i] = best
        waiting = [i for i in waiting if i not in answers]
        if not waiting:
            break
    return [answers[i] for i in range(len(queries))]


def _best(
    found: Neighbors, k: int | None, max_distance: float | None, one_per_sample: bool
) -> Neighbors:
    """Returns the first ``k`` rows within a distance, of each sample the first if asked for."""
    if max_distance is not None:
        found = found.where(found.distances <= _widened(max_distance))
    if one_per_sample:
        firsts = np.unique(np.asarray(found.sample_ids, dtype=str), return_index=True)[1]
        found = found.take(np.sort(firsts))
    return found.first(k)


def _widened(max_distance: float) -> float:
    """The distance, and what float32 sums of another order differ by.

    So a distance that a search has returned is within itself, whichever index answers next.
    """
    return max_distance + _ROUNDING * max(1.0, abs(max_distance))


def _sizes(k: int | None, max_distance: float | None, one_per_sample: bool) -> Iterator[int | None]:
    if k is not None and not one_per_sample:
        yield k
        return
    if k is not None or max_distance is not None:
        size = max(_FIRST, 2 * k if k is not None else 0)
        # Beyond, all rows are ranked exactly anyway
        while size <= APPROXIMATE_MAX:
            yield size
            size *= _GROWTH
    yield None
