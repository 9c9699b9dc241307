"""Queries → neighbours: which plan, how many requests, and never fewer than there are.

An approximate index answers well without a filter, and badly with one
(``docs/performance.md``). So a search inside a view either searches *wide*, unfiltered, and keeps
what is in the view, or ranks the view's rows *exactly*; what an engine returns short is asked
again exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fiftyone_milvus import filters
from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.filters import Scope
from fiftyone_milvus.fresh import Hits, Rows
from fiftyone_milvus.parameters import search_params
from fiftyone_milvus.scores import Array, Points, smallest, to_distances

WIDE_FACTOR = 4
"""The first wide search takes this many times k: views of 25 % and more need no second one."""

WIDE_MIN = 128
WIDE_MAX = 4_096
"""Beyond this many candidates, reading the view's IDs costs less."""

APPROXIMATE_MAX = 4_096
"""Up to this k an approximate index is asked; a longer ranking is computed exactly."""

_HITS_PER_REQUEST = 250_000
_QUERY_BYTES = 16 << 20
_DISTANCES = 4_000_000


class Neighbors(NamedTuple):
    """The rows nearest to one query, nearest first.

    Attributes:
        ids: primary keys
        sample_ids: the sample of each
        distances: float64, ascending (descending where the farthest were asked for)
    """

    ids: list[str]
    sample_ids: list[str]
    distances: Array

    def first(self, k: int | None) -> Neighbors:
        """Returns the first ``k`` of them, or all."""
        return Neighbors(self.ids[:k], self.sample_ids[:k], self.distances[:k])

    def where(self, mask: Array) -> Neighbors:
        """Returns those where ``mask`` is True."""
        keep = np.flatnonzero(mask)
        return Neighbors(
            [self.ids[i] for i in keep], [self.sample_ids[i] for i in keep], self.distances[keep]
        )


class Searcher:
    """Searches one collection.

    Args:
        collection: an existing collection
        metric: FiftyOne's name of its metric
        params: the user's search parameters, over the defaults
        patches: whether the sample IDs differ from the primary keys
    """

    def __init__(
        self,
        collection: MilvusCollection,
        metric: str,
        params: dict[str, Any] | None = None,
        *,
        patches: bool = False,
    ) -> None:
        self.collection = collection
        self.metric = metric
        self.params = params
        self.patches = patches

    def nearest(self, queries: Array, k: int | None, scope: Scope | None = None) -> list[Neighbors]:
        """Returns the ``k`` nearest rows of each query.

        Args:
            queries: a ``num_queries x num_dims`` float32 array
            k: how many; None for all
            scope: the rows to choose from; None for all

        Returns:
            a list of ``num_queries`` :class:`Neighbors` of ``min(k, rows in the scope)`` rows each
        """
        most = min(APPROXIMATE_MAX, self._window)
        if scope is None and (k is None or k > most):
            size = self.collection.count()
            k = size if k is None else min(k, size)
        if k is None or k > most:
            return self._exact(queries, k, scope)
        if k == 0:
            return [_EMPTY for _ in queries]
        if scope is None:
            return self._whole(queries, k)
        if len(queries) == 1 and not scope.known:
            found = self._wide(queries, k, scope)
            if found is not None:
                return [found]
        return self._exact(queries, k, scope)

    def farthest(
        self, queries: Array, k: int | None, scope: Scope | None = None
    ) -> list[Neighbors]:
        """Returns the ``k`` rows farthest from each query, farthest first, exactly."""
        return [
            Neighbors(n.ids[::-1], n.sample_ids[::-1], n.distances[::-1]).first(k)
            for n in self._exact(queries, None, scope)
        ]

    def ranked(
        self,
        queries: Array,
        aggregate: Callable[[Array], Array],
        k: int | None,
        scope: Scope | None = None,
        *,
        reverse: bool = False,
    ) -> Neighbors:
        """Ranks rows by their aggregated distance to all queries, exactly.

        Args:
            queries: a ``num_queries x num_dims`` float32 array
            aggregate: turns ``num_queries x n`` distances into ``n``
            k: how many rows to return; None for all
            scope: the rows to choose from; None for all
            reverse: whether to return the farthest, farthest first
        """
        points = Points(queries, self.metric)
        ids: list[str] = []
        sample_ids: list[str] = []
        parts: list[Array] = []
        for rows in self._stream(self._scope_ids(scope), len(queries)):
            ids += rows.ids
            sample_ids += rows.sample_ids
            parts.append(aggregate(points.distances(Points(rows.vectors, self.metric))))
        distances = np.concatenate(parts) if parts else np.empty(0)
        order = np.argsort(-distances if reverse else distances, kind="stable")[:k]
        return Neighbors([ids[i] for i in order], [sample_ids[i] for i in order], distances[order])

    # -- plans ---------------------------------------------------------------------------------

    def _whole(self, queries: Array, k: int) -> list[Neighbors]:
        found = self._search(queries, k)
        short = [i for i, n in enumerate(found) if len(n.ids) < k]
        if short:
            size = min(k, self.collection.count())
            short = [i for i in short if len(found[i].ids) < size]
        for i, exact in zip(short, self._exact(queries[short], k, None) if short else []):
            found[i] = exact
        return found

    def _wide(self, query: Array, k: int, scope: Scope) -> Neighbors | None:
        """Searches unfiltered and keeps what is in the scope; None if too little is."""
        limit = max(WIDE_FACTOR * k, WIDE_MIN)
        last = min(WIDE_MAX, self._window)
        while True:
            limit = min(limit, last)
            (found,) = self._search(query, limit)
            kept = found.where(scope.keep(found.ids, found.sample_ids))
            if len(kept.ids) >= k:
                return kept.first(k)
            if limit == last or len(found.ids) < limit:
                return None
            share = len(kept.ids) / limit
            # A margin, as the share among the nearest is a guess of the share further out
            wanted = 1.5 * k / share if share else np.inf
            if wanted > last:
                return None
            limit = max(int(wanted), 2 * limit)

    def _exact(self, queries: Array, k: int | None, scope: Scope | None) -> list[Neighbors]:
        if self.collection.connection.engine.lite:
            return self._exact_by_filter(queries, k, scope)
        return self._exact_by_reading(queries, k, scope)

    def _exact_by_filter(
        self, queries: Array, k: int | None, scope: Scope | None
    ) -> list[Neighbors]:
        """The embedded engine scans the rows of a filter exactly, however many they are."""
        key = self.collection.layout.id_field
        if scope is None:
            expression = filters.everything(key)
            size = self.collection.count()
        else:
            ids = scope.ids()
            expression, size = filters.ids_in(key, ids), len(ids)
        limit = size if k is None else min(k, size)
        if limit == 0:
            return [_EMPTY for _ in queries]
        return self._search(queries, limit, expression)

    def _exact_by_reading(
        self, queries: Array, k: int | None, scope: Scope | None
    ) -> list[Neighbors]:
        """Reads the rows' vectors and ranks them here, keeping the best k of each query."""
        points = Points(queries, self.metric)
        ids: list[str] = []
        sample_ids: list[str] = []
        best = np.empty((len(queries), 0))  # distances
        which = np.empty((len(queries), 0), dtype=np.int64)  # rows, in reading order
        for rows in self._stream(self._scope_ids(scope), len(queries)):
            new = np.arange(len(ids), len(ids) + len(rows.ids))
            ids += rows.ids
            sample_ids += rows.sample_ids
            distances = points.distances(Points(rows.vectors, self.metric))
            best = np.concatenate([best, distances], axis=1)
            which = np.concatenate([which, np.broadcast_to(new, distances.shape)], axis=1)
            order = smallest(best, k)
            best = np.take_along_axis(best, order, axis=1)
            which = np.take_along_axis(which, order, axis=1)
        return [
            Neighbors([ids[i] for i in row], [sample_ids[i] for i in row], distances)
            for row, distances in zip(which, best)
        ]

    # -- requests ------------------------------------------------------------------------------

    @property
    def _window(self) -> int:
        return self.collection.connection.engine.max_window or 1 << 30

    def _search(self, queries: Array, limit: int, expression: str = "") -> list[Neighbors]:
        """Searches in as few requests as fit the wire."""
        layout = self.collection.layout
        params = search_params(layout.index_type or "", self.params, limit)
        size = min(
            self._window,
            max(1, _HITS_PER_REQUEST // limit),
            max(1, _QUERY_BYTES // (4 * layout.dimension)),
        )
        found: list[Neighbors] = []
        for start in range(0, len(queries), size):
            hits = self.collection.search(
                queries[start : start + size],
                limit,
                params=params,
                expression=expression,
                with_samples=self.patches,
            )
            found += [self._neighbors(h) for h in hits]
        return found

    def _neighbors(self, hits: Hits) -> Neighbors:
        return Neighbors(hits.ids, hits.sample_ids, to_distances(hits.scores, self.metric))

    def _scope_ids(self, scope: Scope | None) -> Sequence[str]:
        return self.collection.all_ids()[0] if scope is None else scope.ids()

    def _stream(self, ids: Sequence[str], num_queries: int) -> Iterator[Rows]:
        """Reads rows, as many at a time as keeps the distances to all queries in bounds."""
        size = max(1, min(filters.MAX_EXPRESSION_IDS, _DISTANCES // num_queries))
        for part in filters.batches(ids, size):
            rows = self.collection.fetch(part)
            if rows.ids:
                yield rows


_EMPTY = Neighbors([], [], np.empty(0))
