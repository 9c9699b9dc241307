"""Searches an index by a question: several likes and unlikes of any kind, with other limits."""

from __future__ import annotations

from typing import Any

import numpy as np

from fiftyone_milvus.errors import InvalidInputError, shown
from fiftyone_milvus.index import asked, parts
from fiftyone_milvus.index.queries import Aggregation, IndexQueries
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.numbers import (
    check_distance,
    check_flag,
    check_fraction,
    check_k,
    check_text,
)
from fiftyone_milvus.search import diversity, expansion, explain
from fiftyone_milvus.search.explain import Explanation
from fiftyone_milvus.search.expressions import ExpressionScope, Intersection
from fiftyone_milvus.search.neighbors import Neighbors
from fiftyone_milvus.search.question import Question
from fiftyone_milvus.search.results import SearchResults
from fiftyone_milvus.search.scope import Scope
from fiftyone_milvus.search.views import ViewScope
from fiftyone_milvus.writing import validation

DEFAULT_RESULTS = 25
"""The number of results of a search that sets neither ``k`` nor a distance, as in the App."""

Query = tuple[Array, "Aggregation | None", "Question | None"]
"""Query vectors, how to combine the distances to them, and the question that they are of."""


class IndexSearch(IndexQueries):
    """Searches an index by a question."""

    def search(
        self,
        query: Any = None,
        k: int | None = None,
        *,
        like: Any = None,
        unlike: Any = None,
        text: Any = None,
        image: Any = None,
        region: Any = None,
        weights: Any = None,
        diverse: float | None = None,
        filter: str | None = None,
        max_distance: float | None = None,
        group_by: str | None = None,
        reverse: bool = False,
        aggregation: str = "mean",
        negative: Any = None,
    ) -> SearchResults:
        """Finds the samples or patches most similar to a query, or to a question of many parts.

        Searches the current :meth:`view`, as ``sort_by_similarity()`` does. Also takes Milvus' own
        filters, finds everything within a distance, or one patch of each sample, and returns the
        IDs and distances of any number of results.

        ``like``, ``unlike``, ``text`` and ``image`` are put together into one vector, ``P + s * (P
        - N)``. ``P`` is the mean of what the results should resemble, where each argument counts
        the same, and each item of an argument too, unless ``weights`` says otherwise. ``N`` is the
        mean of ``unlike``, and ``s`` its weight, by default 1. For ``cosine``, the vectors that go
        into it are of unit length. :meth:`explain` shows the parts.

        Example::

            results = index.search("a red car", filter='split == "test"', max_distance=0.4)
            session.view = results.view(dist_field="distance")

            index.search(text="a street", like=good, unlike=bad, weights={"text": 2}, diverse=0.3)

        Args:
            query (None): a sample, a view or a dataset, or labels of patches; an ID; the path or
                URL of an image, a ``PIL.Image``, or a ``height x width x 3`` uint8 array; a
                ``Crop``; a text, if the model of the index takes text; a ``num_dims`` vector or
                ``num_queries x num_dims`` array; or an iterable of one of these. Samples and labels
                must be in the index. Images and texts are embedded with the model of the index
                (:meth:`use_model`)
            k (None): how many results; by default 25, or all if ``max_distance`` is given
            like (None): what the results should resemble; like ``query``, or a list of any of these
            unlike (None): what the results should not resemble, likewise
            text (None): a text that the results should fit, or a list; never taken for a path
            image (None): an image that the results should resemble, or a list: paths, URLs,
                ``PIL.Image``, arrays of pixels, samples whose file is read, or a ``Crop`` of these
            region (None): search only by this part of ``image``, ``[x, y, width, height]`` in
                [0, 1] from the upper left corner
            weights (None): a dict with a weight of at least 0 for ``"query"``, ``"like"``,
                ``"text"``, ``"image"`` or ``"unlike"``, or with a list of one for each item
            diverse (None): from 0, for the nearest, to 1: how much the results should differ from
                each other. They are chosen among five times as many, at least 100, by maximal
                marginal relevance (:mod:`fiftyone_milvus.search.diversity`), and come in the order
                in which they are chosen. For at most 1,000 results
            filter (None): a boolean expression over the fields of the Milvus collection, in Milvus'
                language (https://milvus.io/docs/boolean.md)
            max_distance (None): the largest distance of a result, inclusive, to the precision of
                float32. ``euclidean`` is the L2 distance, ``cosine`` is 1 - cosine similarity,
                ``dotproduct`` is 1 - inner product
            group_by (None): ``"sample_id"`` for only the nearest patch of each sample
            reverse (False): whether to find the least similar, among what the other arguments allow
            aggregation ("mean"): how several queries become one ranking; one of
                :data:`fiftyone_milvus.index.AGGREGATIONS`
            negative (None): FiftyOne's own negatives, for ``query`` only: the search is for twice
                the mean of the queries minus the mean of these, whatever their lengths are

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
        diverse = check_fraction(diverse, "diverse") if diverse is not None else 0.0
        limit = DEFAULT_RESULTS if k is None and max_distance is None else k
        size = diversity.candidates(limit) if diverse else limit
        given = {"like": like, "unlike": unlike, "text": text, "image": image}
        vectors, combine, _ = self._read(query, given, region, weights, aggregation, negative)
        scope = self._filtered(self._slice_scope() or self._search_scope(), filter)
        found = expansion.search(
            self._searcher,
            vectors,
            size,
            combine=combine,
            scope=scope,
            max_distance=max_distance,
            one_per_sample=group_by is not None,
            reverse=reverse,
            complete=self._with_samples,
        )
        if diverse:
            found = self._diverse(found, limit, diverse, reverse)
        return self._results(found, self.view)

    def explain(
        self,
        query: Any = None,
        k: int | None = DEFAULT_RESULTS,
        view: Any = None,
        analyze: bool = False,
        *,
        like: Any = None,
        unlike: Any = None,
        text: Any = None,
        image: Any = None,
        region: Any = None,
        weights: Any = None,
    ) -> Explanation:
        """Searches, and prints the plan of the search, its cost, and the cost of other plans.

        Of a question of several parts, it also prints what is searched for: the factor of each
        part, and its distance to the whole.

        Example::

            index.explain(dataset.first().id, k=25, view=dataset.match_tags("validated"))

        Args:
            query (None): what :meth:`search` takes, as for the other parts of a question
            k (25): how many results; None for all
            view (None): the view to search in; by default, the current :meth:`view`
            analyze (False): whether to run and measure every plan, not only the chosen one
            like (None): see :meth:`search`
            unlike (None): see :meth:`search`
            text (None): see :meth:`search`
            image (None): see :meth:`search`
            region (None): see :meth:`search`
            weights (None): see :meth:`search`

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
        given = {"like": like, "unlike": unlike, "text": text, "image": image}
        vectors, _, question = self._read(query, given, region, weights, "mean", None)

        def make_scope() -> ViewScope | None:
            if view is not None and view != self._samples._root_dataset:
                return self._view_scope(view)
            self._scope_cache = None
            return self._slice_scope() or self._search_scope()

        found = explain.explain(
            self._make_searcher, make_scope, vectors, k, analyze=analyze, question=question
        )
        print(found)
        return found

    def _read(
        self,
        query: Any,
        given: dict[str, Any],
        region: Any,
        weights: Any,
        aggregation: str,
        negative: Any,
    ) -> Query:
        others = {**given, "region": region, "weights": weights}
        asked_for = [name for name, value in others.items() if value is not None]
        if not asked_for:
            if query is None:
                raise InvalidInputError(
                    "There is nothing to search by; pass a query, or like, text or image"
                )
            vectors, combine = self._aggregate(self._asked(query), aggregation)
            if negative is not None:
                vectors = self._away_from(vectors, negative, aggregation)
            return vectors, combine, None
        self._check_aggregation(aggregation)
        if negative is not None or aggregation != "mean":
            what = "negative" if negative is not None else f"aggregation={aggregation!r}"
            remedy = "pass unlike" if negative is not None else "leave it out"
            raise InvalidInputError(
                f"{what} is for a query alone, and {asked_for[0]} is given too; {remedy}"
            )
        question = parts.read(self, {"query": query, **given}, region, weights)
        found = validation.as_vectors(question.vector[None, :], "queries")
        validation.check_values(found, self.config.metric)
        return found, None, question

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

    def _diverse(self, found: Neighbors, k: int | None, diverse: float, reverse: bool) -> Neighbors:
        """Returns those of the candidates that also differ from each other."""
        rows = self._collection.fetch(found.ids)
        if len(rows.ids) < len(found.ids):  # deleted meanwhile
            there = {*rows.ids}
            found = found.where(np.array([_id in there for _id in found.ids], dtype=bool))
        chosen = diversity.order(
            rows.vectors, found.distances, self.config.metric, k, diverse, reverse=reverse
        )
        return found.take(chosen)

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
