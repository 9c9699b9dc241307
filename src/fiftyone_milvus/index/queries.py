"""Searches an index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from fiftyone_milvus import neighborhoods
from fiftyone_milvus.dataset import limits
from fiftyone_milvus.errors import InvalidInputError, MissingIDsError, shown
from fiftyone_milvus.index.base import IndexBase
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.numbers import check_distance, check_flag, check_k, check_text
from fiftyone_milvus.search import expansion, queries, results
from fiftyone_milvus.search.neighbors import Neighbors
from fiftyone_milvus.search.results import SearchResults
from fiftyone_milvus.search.views import ViewScope
from fiftyone_milvus.writing import arrays, validation

Aggregation = Callable[[Array], Array]

AGGREGATIONS: dict[str, Aggregation | None] = {
    "mean": None,  # of the query vectors, before the search
    "post-mean": lambda d: d.mean(axis=0),
    "post-min": lambda d: d.min(axis=0),
    "post-max": lambda d: d.max(axis=0),
    "min": lambda d: d.min(axis=0),
    "max": lambda d: d.max(axis=0),
}
"""How several queries become one ranking.

``"mean"`` averages the query vectors. The others combine the distances of each sample to all
queries. The names that start with ``post-`` are those of FiftyOne's default backend.
"""


class IndexQueries(IndexBase):
    """Searches an index."""

    _result_view: Any = None
    """The samples that the results of the running ``sort_by_similarity()`` are shown in."""
    _slice_of_view: ViewScope | None = None

    def sort_by_similarity(
        self,
        query: Any,
        k: int | None = None,
        reverse: bool = False,
        aggregation: str = "mean",
        dist_field: str | None = None,
        _mongo: bool = False,
    ) -> Any:
        """Returns a view of the samples or labels sorted by similarity; see the base class.

        Raises:
            InvalidInputError: if an argument can't be used, or there are more results than a view
                can hold, about 420,000
        """
        k = check_k(k)
        dist_field = check_text("dist_field", dist_field, what="the name of a field")
        reverse = check_flag("reverse", False if reverse is None else reverse)
        self._check_aggregation(aggregation)
        samples = self.view
        with self._results_in(samples):
            view = super().sort_by_similarity(
                query,
                k=k,
                reverse=reverse,
                aggregation=aggregation,
                dist_field=None,
                _mongo=_mongo,
            )
        if dist_field is not None:
            # The base class marks samples as edited, and fails on labels that are in a list
            self._results(self._found[0], samples).store(dist_field)
        return view

    @staticmethod
    def _check_aggregation(aggregation: Any) -> None:
        if not isinstance(aggregation, str) or aggregation not in AGGREGATIONS:
            raise InvalidInputError(
                f"Unsupported aggregation {shown(aggregation)}; expected one of "
                f"{tuple(AGGREGATIONS)}"
            )

    def _search_scope(self) -> ViewScope | None:
        return self._scope() or self._shared_scope()

    def _slice_scope(self) -> ViewScope | None:
        """Returns the active slice of a grouped dataset, or None for other datasets and views."""
        samples = self.view
        if samples.media_type == "group" and not self.has_view:
            # A view of the results shows this slice only, so k of its samples must be found
            return self._view_scope(samples)
        return None

    def _with_samples(self, found: Neighbors) -> Neighbors:
        return Neighbors(*self._lookup.with_samples(found.ids, found.sample_ids), found.distances)

    def _results(self, found: Neighbors, samples: Any) -> SearchResults:
        ids, sample_ids, distances = self._with_samples(found)
        labels = ids if self._patches else None
        return SearchResults(sample_ids, labels, distances, samples, self.config.patches_field)

    @contextmanager
    def _results_in(self, samples: Any) -> Iterator[None]:
        """Tells :meth:`_kneighbors` that the results become a view of some samples."""
        self._result_view, self._slice_of_view = samples, self._slice_scope()
        try:
            yield
        finally:
            self._result_view = self._slice_of_view = None

    def _kneighbors(
        self,
        query: Any = None,
        k: int | None = None,
        reverse: bool = False,
        aggregation: str | None = None,
        return_dists: bool = False,
    ) -> Any:
        k = check_k(k)
        if query is None:
            if aggregation is not None or reverse:
                what = "reverse=True" if aggregation is None else "aggregation"
                raise InvalidInputError(f"Full index queries do not support {what}; leave it out")
            with self._vectors(self._current_ids()) as points:
                inds, dists = neighborhoods.nearest(points, k)
            return (inds, dists) if return_dists else inds

        vectors, single = self._parse_vectors(query)
        combine = None
        if aggregation is not None:
            vectors, combine = self._aggregate(vectors, aggregation)
        scope = self._slice_of_view or self._search_scope()
        if self._result_view is not None and scope is None:
            self._check_view_size(k)
        searcher = self._searcher
        if combine is not None:
            found = [searcher.ranked(vectors, combine, k, scope, reverse=reverse)]
        else:
            search = searcher.farthest if reverse else searcher.nearest
            found = search(vectors, k, scope)
        if self._result_view is not None:
            self._check_view(found[0], all_labels=k is None)
        return self._format(found, single or aggregation is not None, return_dists)

    def _aggregate(self, vectors: Array, aggregation: str) -> tuple[Array, Aggregation | None]:
        """Returns the query vectors, and how to combine the distances to them if there are many."""
        self._check_aggregation(aggregation)
        combine = AGGREGATIONS[aggregation]
        if len(vectors) == 1:
            return vectors, None
        if combine is None:
            vectors = vectors.mean(axis=0, keepdims=True)
            validation.check_values(vectors, self.config.metric)
        return vectors, combine

    def _check_view_size(self, k: int | None) -> None:
        """Refuses a ranking that no view can hold before the search, which may take minutes."""
        if self._patches or (k is not None and k < limits.CHECK_FROM):
            return
        size = self._collection.count()
        limits.check_results(self._result_view, size if k is None else min(k, size))

    def _check_view(self, found: Neighbors, *, all_labels: bool) -> None:
        labels = found.ids if self._patches else None
        selected, filtered = results.shown(self._result_view, found.sample_ids, labels)
        # FiftyOne does not filter the labels of a whole ranking
        limits.check_results(self._result_view, len(selected), 0 if all_labels else len(filtered))

    def _radius_neighbors(
        self, query: Any = None, thresh: float | None = None, return_dists: bool = False
    ) -> Any:
        thresh = check_distance(thresh)
        if query is None:
            with self._vectors(self._current_ids()) as points:
                inds, dists = neighborhoods.within(points, thresh)
            return (inds, dists) if return_dists else inds
        vectors, single = self._parse_vectors(query)
        search = partial(self._searcher.nearest, scope=self._search_scope())
        found = expansion.expand(search, vectors, None, thresh)
        return self._format(found, single, return_dists)

    def _parse_vectors(self, query: Any) -> tuple[Array, bool]:
        """Returns the query vectors, and whether the query was a single ID or vector."""
        collection = self._collection
        ids, single = queries.texts_of(query), isinstance(query, str)
        if ids is None:
            values = arrays.real_numbers(query, "queries")
            single = values.ndim == 1
            vectors = validation.as_vectors(values[None, :] if single else values, "queries")
            validation.check_dimension(vectors.shape[1], collection.layout.dimension)
            validation.check_values(vectors, self.config.metric)
            return vectors, single
        rows = collection.fetch(list(dict.fromkeys(ids)))
        table = dict(zip(rows.ids, rows.vectors))
        missing = [i for i in ids if i not in table]
        if missing:
            raise MissingIDsError(
                f"Query IDs {missing[:5]} do not exist in this index; add their embeddings with "
                "sync() or add_to_index() first"
            )
        return np.stack([table[i] for i in ids]), single

    def _format(self, found: list[Neighbors], single: bool, return_dists: bool) -> Any:
        self._found = found if len(found) == 1 else []
        pairs = [self._lookup.with_samples(n.ids, n.sample_ids) for n in found]
        samples: Any = [samples for _, samples in pairs]
        labels: Any = [ids for ids, _ in pairs] if self._patches else None
        dists: Any = [n.distances.tolist() for n in found]
        if single:
            samples, dists = samples[0], dists[0]
            labels = labels[0] if labels is not None else None
        return (samples, labels, dists) if return_dists else (samples, labels)
