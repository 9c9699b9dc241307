"""Rows ranked exactly, by whichever way the engine allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fiftyone_milvus.collection import filters
from fiftyone_milvus.collection.filters import Scope
from fiftyone_milvus.collection.recent import Rows
from fiftyone_milvus.metrics import Array, Points, smallest
from fiftyone_milvus.search.calls import Requests
from fiftyone_milvus.search.exactness import Parts, parts_for
from fiftyone_milvus.search.neighbors import NOBODY, Neighbors, merge

_DISTANCES = 4_000_000
_IN_FLIGHT = 2


def nearest(
    requests: Requests, queries: Array, k: int | None, scope: Scope | None
) -> list[Neighbors]:
    """Returns exactly the ``k`` nearest rows of each query; None for all.

    Args:
        requests: how to ask
        queries: a ``num_queries x num_dims`` float32 array
        k: how many
        scope: the rows to choose from; None for all
    """
    collection = requests.collection
    if scope is None and requests.embedded:
        size = collection.count()
        limit = size if k is None else min(k, size)
        everything = filters.everything(collection.layout.id_field)
        return requests.search(queries, limit, everything) if limit else [NOBODY for _ in queries]
    ids = scope_ids(requests, scope)
    if not ids:
        return [NOBODY for _ in queries]
    parts = parts_for(collection, len(ids))
    if parts is None:
        return by_vectors(requests, queries, k, ids)
    return by_ids(requests, queries, k, ids, parts)


def by_ids(
    requests: Requests, queries: Array, k: int | None, ids: Sequence[str], parts: Parts
) -> list[Neighbors]:
    """Searches among the given keys, in parts that each are exact.

    Args:
        requests: how to ask
        queries: a ``num_queries x num_dims`` float32 array
        k: how many; None for all
        ids: primary keys
        parts: into how many parts they have to be split
    """
    key = requests.collection.layout.id_field
    most = requests.window if requests.embedded else filters.MAX_EXPRESSION_IDS
    count = max(parts.searches, -(-len(ids) // most))
    ordered = sorted(ids)  # about the order of insertion, so that a part is spread evenly

    def search(part: int) -> list[Neighbors]:
        some = ordered[part::count]
        limit = len(some) if k is None else min(k, len(some))
        return requests.search(queries, limit, filters.ids_in(key, some), parts.params)

    if count == 1:
        return search(0)
    found: list[Neighbors] = [NOBODY for _ in queries]
    waiting: list[list[Neighbors]] = [[] for _ in queries]
    with ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="fiftyone-milvus") as pool:
        for answers in pool.map(search, range(count)):
            for i, answer in enumerate(answers):
                waiting[i].append(answer)
            if k is not None:
                found = [merge([f, *w], k) for f, w in zip(found, waiting)]
                waiting = [[] for _ in queries]
    return [merge([f, *w], k) for f, w in zip(found, waiting)] if k is None else found


def by_vectors(
    requests: Requests, queries: Array, k: int | None, ids: Sequence[str]
) -> list[Neighbors]:
    """Reads the rows' vectors and ranks them here, keeping the best k of each query."""
    points = Points(queries, requests.metric)
    found_ids: list[str] = []
    sample_ids: list[str] = []
    best = np.empty((len(queries), 0))  # distances
    which = np.empty((len(queries), 0), dtype=np.int64)  # rows, in reading order
    for rows in _stream(requests, ids, len(queries)):
        new = np.arange(len(found_ids), len(found_ids) + len(rows.ids))
        found_ids += rows.ids
        sample_ids += rows.sample_ids
        distances = points.distances(Points(rows.vectors, requests.metric))
        best = np.concatenate([best, distances], axis=1)
        which = np.concatenate([which, np.broadcast_to(new, distances.shape)], axis=1)
        order = smallest(best, k)
        best = np.take_along_axis(best, order, axis=1)
        which = np.take_along_axis(which, order, axis=1)
    return [
        Neighbors([found_ids[i] for i in row], [sample_ids[i] for i in row], distances)
        for row, distances in zip(which, best)
    ]


def aggregated(
    requests: Requests,
    queries: Array,
    aggregate: Callable[[Array], Array],
    k: int | None,
    scope: Scope | None,
    *,
    reverse: bool,
) -> Neighbors:
    """Ranks rows by their aggregated distance to all queries; see :class:`.searching.Searcher`."""
    points = Points(queries, requests.metric)
    found = NOBODY
    for rows in _stream(requests, scope_ids(requests, scope), len(queries)):
        distances = aggregate(points.distances(Points(rows.vectors, requests.metric)))
        part = Neighbors(rows.ids, rows.sample_ids, distances)
        found = merge([found, part], k, farthest=reverse)
    return found


def scope_ids(requests: Requests, scope: Scope | None) -> Sequence[str]:
    """Returns the keys of a scope; None for those of the collection."""
    if scope is not None:
        return scope.ids()
    return requests.collection.all_ids(with_samples=False)[0]


def _stream(requests: Requests, ids: Sequence[str], num_queries: int) -> Iterator[Rows]:
    """Reads rows, as many at a time as keeps the distances to all queries in bounds."""
    size = max(1, min(filters.MAX_EXPRESSION_IDS, _DISTANCES // num_queries))
    for part in filters.batches(ids, size):
        rows = requests.collection.fetch(part)
        if rows.ids:
            yield rows
