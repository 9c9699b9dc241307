"""Searches one collection, in as few requests as Milvus' limits allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.metrics import Array, to_distances
from fiftyone_milvus.schema.index_types import search_params, window
from fiftyone_milvus.search.neighbors import Neighbors

_HITS_PER_REQUEST = 250_000
_QUERY_BYTES = 16 << 20
_GROWTH = 4


@dataclass(frozen=True)
class Calls:
    """Sends searches to one collection, in as few requests as fit.

    Attributes:
        collection: an existing collection
        metric: FiftyOne's name of its metric
        params: the user's search parameters, which replace the defaults
        patches: whether the sample IDs differ from the primary keys
    """

    collection: MilvusCollection
    metric: str
    params: Mapping[str, Any] | None = None
    patches: bool = False

    @property
    def embedded(self) -> bool:
        """Whether the collection is in the embedded engine."""
        return self.collection.connection.engine.lite

    @property
    def window(self) -> int:
        """The largest number of rows that one query can ask for."""
        engine = self.collection.connection.engine
        limits = engine.max_window, window(self.collection.layout.index_type)
        return min((limit for limit in limits if limit), default=1 << 30)

    def search(
        self,
        queries: Array,
        limit: int,
        expression: str = "",
        params: Mapping[str, Any] | None = None,
    ) -> list[Neighbors]:
        """Returns the best ``limit`` rows of each query.

        Rows whose keys are no IDs of FiftyOne are skipped; more are asked for where they are met.

        Args:
            queries: a ``num_queries x num_dims`` float32 array
            limit: how many rows, from 1 to :attr:`window`
            expression: a filter expression, or ``""``
            params: search parameters, which replace the user's

        Returns:
            a list of ``num_queries`` :class:`Neighbors` of at most ``limit`` rows each

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses, for example the expression
        """
        found = [self._known(n) for n in self._search(queries, limit, expression, params)]
        size = limit
        while size < self.window:
            # Where rows were skipped, fewer than asked for are not all there are
            short = [i for i, (n, read) in enumerate(found) if len(n.ids) < limit and read == size]
            if not short:
                break
            size = min(_GROWTH * size, self.window)
            again = self._search(queries[short], size, expression, params)
            for i, n in zip(short, again):
                found[i] = self._known(n)
        return [n.first(limit) for n, _ in found]

    def _known(self, found: Neighbors) -> tuple[Neighbors, int]:
        """Returns the rows that are FiftyOne's, and how many there were."""
        strange = self.collection.skipped(found.ids, found.sample_ids if self.patches else None)
        count = len(found.ids)
        if strange:
            found = found.take(np.array([i for i in range(count) if i not in strange], np.intp))
        return found, count

    def _search(
        self,
        queries: Array,
        limit: int,
        expression: str,
        params: Mapping[str, Any] | None,
    ) -> list[Neighbors]:
        layout = self.collection.layout
        merged = search_params(
            layout.index_type or "", {**(self.params or {}), **(params or {})}, limit
        )
        size = min(
            self.window,
            max(1, _HITS_PER_REQUEST // limit),
            max(1, _QUERY_BYTES // (4 * layout.dimension)),
        )
        return [
            Neighbors(hits.ids, hits.sample_ids, to_distances(hits.scores, self.metric))
            for start in range(0, len(queries), size)
            for hits in self.collection.search(
                queries[start : start + size],
                limit,
                params=merged,
                expression=expression,
                with_samples=self.patches,
            )
        ]
