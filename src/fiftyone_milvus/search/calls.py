"""Searches in as few requests as fit the wire."""

from __future__ import annotations

from typing import Any

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.metrics import Array, to_distances
from fiftyone_milvus.schema.index_types import search_params, window
from fiftyone_milvus.search.neighbors import Neighbors

_HITS_PER_REQUEST = 250_000
_QUERY_BYTES = 16 << 20


class Requests:
    """Asks one collection.

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

    @property
    def embedded(self) -> bool:
        """Whether the embedded engine answers."""
        return self.collection.connection.engine.lite

    @property
    def window(self) -> int:
        """The largest number of rows that one query can ask for."""
        limits = (
            self.collection.connection.engine.max_window,
            window(self.collection.layout.index_type),
        )
        return min((limit for limit in limits if limit), default=1 << 30)

    def search(
        self,
        queries: Array,
        limit: int,
        expression: str = "",
        params: dict[str, Any] | None = None,
    ) -> list[Neighbors]:
        """Returns the best ``limit`` rows of each query.

        Args:
            queries: a ``num_queries x num_dims`` float32 array
            limit: how many, at most :attr:`window`
            expression: a filter expression, or ``""``
            params: search parameters over the user's
        """
        layout = self.collection.layout
        merged = search_params(
            layout.index_type or "", {**(self.params or {}), **(params or {})}, limit
        )
        size = min(
            self.window,
            max(1, _HITS_PER_REQUEST // limit),
            max(1, _QUERY_BYTES // (4 * layout.dimension)),
        )
        found: list[Neighbors] = []
        for start in range(0, len(queries), size):
            hits = self.collection.search(
                queries[start : start + size],
                limit,
                params=merged,
                expression=expression,
                with_samples=self.patches,
            )
            found += [
                Neighbors(h.ids, h.sample_ids, to_distances(h.scores, self.metric)) for h in hits
            ]
        return found
