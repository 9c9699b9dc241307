"""Ranks rows exactly, by whichever way the engine allows."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fiftyone_milvus.collection import filters
from fiftyone_milvus.collection.recent import Rows
from fiftyone_milvus.dataset.object_ids import IdArray, to_strings
from fiftyone_milvus.embedded.markers import SAME, name_of
from fiftyone_milvus.errors import EngineError
from fiftyone_milvus.metrics import Array, Points, smallest
from fiftyone_milvus.search.calls import Calls
from fiftyone_milvus.search.exactness import EVERY_ROW, Split, exact_split
from fiftyone_milvus.search.neighbors import NO_RESULT, Neighbors, merge
from fiftyone_milvus.search.scope import Scope

logger = logging.getLogger(__name__)

_DISTANCES = 4_000_000
_IN_FLIGHT = 2

_NAMED_FROM = 5_000
"""Keys; fewer are read by the engine as fast as their name."""

_MOST_NAMES = 64
_NAMES: OrderedDict[tuple[str, str, bytes], str] = OrderedDict()
"""The names of lists of keys that the embedded engine has read, by collection, field and keys."""


def nearest(calls: Calls, queries: Array, k: int | None, scope: Scope | None) -> list[Neighbors]:
    """Returns the exact nearest rows of each query.

    Args:
        calls: searches the collection
        queries: a ``num_queries x num_dims`` float32 array
        k: how many rows of each query; None for all
        scope: the rows to choose from; None for all

    Returns:
        a list of ``num_queries`` :class:`Neighbors` of ``min(k, rows in the scope)`` rows each
    """
    collection = calls.collection
    if scope is None and calls.embedded:
        size = collection.count()
        limit = size if k is None else min(k, size)
        # With any filter, the embedded engine uses no graph and no lists
        every = filters.everything(collection.layout.id_field)
        found = calls.search(queries, limit, every, EVERY_ROW) if limit else []
        return found or [NO_RESULT for _ in queries]
    if scope is None and k is not None and 0 < k <= calls.window:
        size = collection.count()
        split = exact_split(collection, size)
        if split is not None and split.requests == 1:
            found = calls.search(queries, k, params=split.params)
            if all(len(n.ids) == min(k, size) for n in found):
                return found
    ids = scope_ids(calls, scope) if scope is None else scope.keys()
    if not len(ids):
        return [NO_RESULT for _ in queries]
    split = exact_split(collection, len(ids))
    if split is None:
        return by_vectors(calls, queries, k, as_strings(ids))
    return by_ids(calls, queries, k, ids, split)


def by_ids(
    calls: Calls, queries: Array, k: int | None, ids: Sequence[str] | IdArray, split: Split
) -> list[Neighbors]:
    """Searches among the given keys.

    Args:
        calls: searches the collection
        queries: a ``num_queries x num_dims`` float32 array
        k: how many rows of each query; None for all
        ids: primary keys, as strings or as an array
        split: how the answer is exact

    Returns:
        a list of ``num_queries`` :class:`Neighbors` of ``min(k, existing keys)`` rows each
    """
    key = calls.collection.layout.id_field
    most = calls.window if calls.embedded else filters.MAX_EXPRESSION_IDS
    count = max(split.requests, -(-len(ids) // most))
    # About the order of insertion, so that each part is spread evenly
    ordered = ids if count == 1 else sorted(as_strings(ids))

    def search(part: int) -> list[Neighbors]:
        some = ordered[part::count]
        limit = len(some) if k is None else min(k, len(some))
        return calls.search(queries, limit, filters.ids_in(key, some), split.params)

    if count == 1:
        return _among(calls, queries, len(ids) if k is None else min(k, len(ids)), ids, split)
    with ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="fiftyone-milvus") as pool:
        answers = pool.map(search, range(count))
        if k is None:
            return [merge(parts, None) for parts in zip(*answers)]
        found = [NO_RESULT for _ in queries]
        for answer in answers:
            found = [merge(parts, k) for parts in zip(found, answer)]
    return found


def _among(
    calls: Calls, queries: Array, limit: int, ids: Sequence[str] | IdArray, split: Split
) -> list[Neighbors]:
    """Searches among all of the given keys, by the name of their list if the engine has read it."""
    field = calls.collection.layout.id_field
    if not calls.embedded or not isinstance(ids, np.ndarray) or len(ids) < _NAMED_FROM:
        return calls.search(queries, limit, filters.ids_in(field, ids), split.params)
    key = calls.collection.name, field, hashlib.blake2b(ids.tobytes(), digest_size=16).digest()
    if (name := _NAMES.get(key)) is not None:
        try:
            return calls.search(queries, limit, SAME + name, split.params)
        except EngineError as error:
            # For example, rows were written since
            logger.debug("The engine does not know the keys any more: %s", error)
    expression = filters.ids_in(field, ids)
    found = calls.search(queries, limit, expression, split.params)
    _NAMES[key] = name_of(expression)
    while len(_NAMES) > _MOST_NAMES:
        _NAMES.popitem(last=False)
    return found


def by_vectors(calls: Calls, queries: Array, k: int | None, ids: Sequence[str]) -> list[Neighbors]:
    """Reads the vectors of the given keys and computes their distances here.

    Memory holds the best rows of each query and about four million distances.

    Args:
        calls: searches the collection
        queries: a ``num_queries x num_dims`` float32 array
        k: how many rows of each query; None for all
        ids: primary keys

    Returns:
        a list of ``num_queries`` :class:`Neighbors` of ``min(k, existing keys)`` rows each
    """
    points = Points(queries, calls.metric)
    found_ids: list[str] = []
    sample_ids: list[str] = []
    best = np.empty((len(queries), 0))  # distances
    which = np.empty((len(queries), 0), dtype=np.int64)  # positions in found_ids
    for rows in _stream(calls, ids, len(queries)):
        new = np.arange(len(found_ids), len(found_ids) + len(rows.ids))
        found_ids += rows.ids
        sample_ids += rows.sample_ids
        distances = points.distances(Points(rows.vectors, calls.metric))
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
    calls: Calls,
    queries: Array,
    aggregate: Callable[[Array], Array],
    k: int | None,
    scope: Scope | None,
    *,
    reverse: bool,
) -> Neighbors:
    """Ranks rows by their aggregated distance to all queries, exactly.

    Args:
        calls: searches the collection
        queries: a ``num_queries x num_dims`` float32 array
        aggregate: turns a ``num_queries x n`` float64 array of distances into ``n``
        k: how many rows; None for all
        scope: the rows to choose from; None for all
        reverse: whether to return the farthest rows, the farthest first

    Returns:
        :class:`Neighbors` of ``min(k, rows in the scope)`` rows
    """
    points = Points(queries, calls.metric)
    found = NO_RESULT
    for rows in _stream(calls, scope_ids(calls, scope), len(queries)):
        distances = aggregate(points.distances(Points(rows.vectors, calls.metric)))
        part = Neighbors(rows.ids, rows.sample_ids, distances)
        found = merge([found, part], k, farthest=reverse)
    return found


def scope_ids(calls: Calls, scope: Scope | None) -> Sequence[str]:
    """Returns the primary keys of a scope, or of the whole collection.

    Args:
        calls: searches the collection
        scope: the rows of the keys; None for all rows of the collection

    Returns:
        a sequence of keys: in the scope's order, or in key order if ``scope`` is None

    Raises:
        FiftyOneMilvusError: if Milvus can't be reached or refuses
    """
    if scope is not None:
        return scope.ids()
    return calls.collection.known_ids(with_samples=False)[0]


def as_strings(ids: Sequence[str] | IdArray) -> Sequence[str]:
    """Returns primary keys as strings."""
    return to_strings(ids) if isinstance(ids, np.ndarray) else ids


def _stream(calls: Calls, ids: Sequence[str], num_queries: int) -> Iterator[Rows]:
    """Reads rows in pages, so that a page has at most some four million distances."""
    size = max(1, min(filters.MAX_EXPRESSION_IDS, _DISTANCES // num_queries))
    for part in filters.batches(ids, size):
        rows = calls.collection.fetch(part)
        if rows.ids:
            yield rows
