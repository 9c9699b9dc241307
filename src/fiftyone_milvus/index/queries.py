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
from fiftyone_milvus.index import asked
from fiftyone_milvus.index.base import IndexBase
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.numbers import check_distance, check_flag, check_k, check_text
from fiftyone_milvus.search import expansion, explain, queries, results
from fiftyone_milvus.search.explain import Explanation
from fiftyone_milvus.search.expressions import ExpressionScope, Intersection
from fiftyone_milvus.search.neighbors import Neighbors
from fiftyone_milvus.search.results import SearchResults
from fiftyone_milvus.search.scope import Scope
from fiftyone_milvus.search.views import ViewScope
from fiftyone_milvus.writing import arrays, validation

DEFAULT_RESULTS = 25
"""The number of results of a search that sets neither ``k`` nor a distance, as in the App."""

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

    def search(
        self,
        query: Any,
        k: int | None = None,
        *,
        filter: str | None = None,
        max_distance: float | None = None,
        group_by: str | None = None,
        reverse: bool = False,
        aggregation: str = "mean",
        negative: Any = None,
    ) -> SearchResults:
        """Finds the samples or patches most similar to a query.

        Searches the current :meth:`view`, as ``sort_by_similarity()`` does. Also takes Milvus' own
        filters, finds everything within a distance, or one patch of each sample, and returns the
        IDs and distances of any number of results.

        Example::

            results = index.search("a red car", filter='split == "test"', max_distance=0.4)
            session.view = results.view(dist_field="distance")

        Args:
            query: a sample, a view or a dataset, or labels of patches; an ID; the path or URL of an
                image, a ``PIL.Image``, or a ``height x width x 3`` uint8 array; a text, if the
                model of the index takes text; a ``num_dims`` vector or ``num_queries x num_dims``
                array; or an iterable of one of these. Samples and labels must be in the index.
                Images and texts are embedded with the model of the index (:meth:`use_model`)
            k (None): how many results; by default 25, or all if ``max_distance`` is given
            filter (None): a boolean expression over the fields of the Milvus collection, in Milvus'
                language (https://milvus.io/docs/boolean.md)
            max_distance (None): the largest distance of a result, inclusive, to the precision of
                float32. ``euclidean`` is the L2 distance, ``cosine`` is 1 - cosine similarity,
                ``dotproduct`` is 1 - inner product
            group_by (None): ``"sample_id"`` for only the nearest patch of each sample
            reverse (False): whether to find the least similar, among what the other arguments allow
            aggregation ("mean"): how several queries become one ranking; one of
                :data:`fiftyone_milvus.index.AGGREGATIONS`
            negative (None): what the results should not resemble; like ``query``. The search is
                then for twice the mean of the queries minus the mean of these

        Returns:
            a :class:`fiftyone_milvus.search.results.SearchResults`

        Raises:
            InvalidInputError: if an argument can't be used, or Milvus refuses the filter
            MissingIDsError: if the query is an ID that is not in the index
        """
        k = check_k(k)
        if max_distance is not None:
            max_distance = check_distance(max_distance, "max_distance")
        if group_by is not None:
            self._check_group_by(group_by)
        reverse = check_flag("reverse", reverse)
        filter = check_text("filter", filter, what="an expression in Milvus' language")
        vectors = self._asked(query)
        vectors, combine = self._aggregate(vectors, aggregation)
        if negative is not None:
            vectors = self._away_from(vectors, negative, aggregation)
        scope = self._filtered(self._slice_scope() or self._search_scope(), filter)
        found = expansion.search(
            self._searcher,
            vectors,
            DEFAULT_RESULTS if k is None and max_distance is None else k,
            combine=combine,
            scope=scope,
            max_distance=max_distance,
            one_per_sample=group_by is not None,
            reverse=reverse,
            complete=self._with_samples,
        )
        return self._results(found, self.view)

    def explain(
        self, query: Any, k: int | None = DEFAULT_RESULTS, view: Any = None, analyze: bool = False
    ) -> Explanation:
        """Searches, and prints the plan of the search, its cost, and the cost of other plans.

        Example::

            index.explain(dataset.first().id, k=25, view=dataset.match_tags("validated"))

        Args:
            query: what :meth:`search` takes
            k (25): how many results; None for all
            view (None): the view to search in; by default, the current :meth:`view`
            analyze (False): whether to run and measure every plan, not only the chosen one

        Returns:
            the :class:`fiftyone_milvus.search.explain.Explanation` that was printed

        Raises:
            InvalidInputError: if an argument can't be used
            MissingIDsError: if the query is an ID that is not in the index
        """
        k = check_k(k)
        analyze = check_flag("analyze", analyze)
        if view is not None:
            self._check_samples(view)
        vectors = self._asked(query)
        vectors, _ = self._aggregate(vectors, "mean")

        def make_scope() -> ViewScope | None:
            if view is not None and view != self._samples._root_dataset:
                return self._view_scope(view)
            self._scope_cache = None
            return self._slice_scope() or self._search_scope()

        found = explain.explain(self._make_searcher, make_scope, vectors, k, analyze=analyze)
        print(found)
        return found

    def _asked(self, query: Any) -> Array:
        """Returns the vectors of a query, in which a path names an image."""
        found = asked.texts(asked.read(self, query, files=True))
        return self._parse_vectors(self._parse_query(found))[0]

    def _away_from(self, vectors: Array, negative: Any, aggregation: str) -> Array:
        """Returns the query vector for what resembles some vectors, and others not."""
        if aggregation != "mean":
            raise InvalidInputError(
                f"negative needs aggregation='mean', not {aggregation!r}; leave one of them out"
            )
        others = self._asked(negative)
        found = 2 * vectors - others.mean(axis=0, keepdims=True)
        validation.check_values(found, self.config.metric)
        return found

    @staticmethod
    def _check_aggregation(aggregation: Any) -> None:
        if not isinstance(aggregation, str) or aggregation not in AGGREGATIONS:
            raise InvalidInputError(
                f"Unsupported aggregation {shown(aggregation)}; expected one of "
                f"{tuple(AGGREGATIONS)}"
            )

    def _check_group_by(self, group_by: Any) -> None:
        if group_by != "sample_id":
            raise InvalidInputError(
                f"Unsupported group_by {shown(group_by)}; expected 'sample_id', or None"
            )
        if not self._patches:
            raise InvalidInputError(
                "group_by='sample_id' needs an index of patches, and this one has one vector per "
                "sample; leave group_by out"
            )

    def _filtered(self, scope: ViewScope | None, expression: str | None) -> Scope | None:
        if expression is None:
            return scope
        condition = ExpressionScope(self._collection, expression)
        return condition if scope is None else Intersection(scope, condition)

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
