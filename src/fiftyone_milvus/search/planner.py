"""Queries → neighbours: which plan, and never fewer than there are.

An approximate index answers well without a filter, and badly with one
(:mod:`fiftyone_milvus.search.exactness`). So a search inside a view either searches *wide*,
unfiltered, and keeps what is in the view; or ranks the view's rows *exactly*, by their IDs or by a
condition that Milvus can evaluate. Which is cheaper depends on the view, and what a search learns
about a view serves the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.collection.filters import Scope
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.search import exact, partitions
from fiftyone_milvus.search.calls import Requests
from fiftyone_milvus.search.costs import Costs
from fiftyone_milvus.search.exactness import SHARE, UNSEALED, Parts, parts_for
from fiftyone_milvus.search.neighbors import NOBODY, Neighbors

PLANS = ("whole", "wide", "condition", "ids", "vectors")
"""The ways to search.

``whole``
    the index, unfiltered
``wide``
    the index, unfiltered, for more than ``k`` rows; keeps what MongoDB says is in the view
``condition``
    the rows that fulfill a condition on stored fields
``ids``
    the rows of the view, by their IDs
``vectors``
    the rows of the view, whose vectors are read and ranked here
"""

APPROXIMATE_MAX = 4_096
"""Up to this k an approximate index is asked; a longer ranking is computed exactly."""

WIDE_MIN = 64
"""The least that a wide search asks for: it costs no more than fewer."""

WIDE_FIRST = 4
"""The first wide search in an unknown view takes this many times k, and 128 at least."""

WIDE_MARGIN = 1.4
"""Over k / share, as the share further out is a guess."""

FEW_IDS = 20_000
"""A view of more IDs that is far from the query is searched wider before its IDs are read."""


@dataclass
class Trace:
    """What a search did.

    Attributes:
        steps: the plan of each step, what it asked for in words, and its seconds
    """

    steps: list[tuple[str, str, float]] = field(default_factory=list)

    def note(self, plan: str, what: str, start: float) -> None:
        """Adds a step that began at a ``time.perf_counter()``."""
        self.steps.append((plan, what, time.perf_counter() - start))


class Searcher:
    """Searches one collection.

    Args:
        collection: an existing collection
        metric: FiftyOne's name of its metric
        params: the user's search parameters, over the defaults
        patches: whether the sample IDs differ from the primary keys
        plan: the plan to follow wherever it can be; by default, what is estimated to cost least
        trace: where to note what was done
    """

    def __init__(
        self,
        collection: MilvusCollection,
        metric: str,
        params: dict[str, Any] | None = None,
        *,
        patches: bool = False,
        plan: str | None = None,
        trace: Trace | None = None,
    ) -> None:
        if plan is not None and plan not in PLANS:
            raise InvalidInputError(f"Unknown plan {plan!r}; expected one of {PLANS}")
        self.collection = collection
        self._requests = Requests(collection, metric, params, patches=patches)
        self._plan = plan
        self._trace = trace or Trace()

    def nearest(self, queries: Array, k: int | None, scope: Scope | None = None) -> list[Neighbors]:
        """Returns the ``k`` nearest rows of each query.

        Args:
            queries: a ``num_queries x num_dims`` float32 array
            k: how many; None for all
            scope: the rows to choose from; None for all

        Returns:
            a list of ``num_queries`` :class:`Neighbors` of ``min(k, rows in the scope)`` rows each
        """
        if k == 0:
            return [NOBODY for _ in queries]
        most = min(APPROXIMATE_MAX, self._requests.window)
        if scope is None:
            if k is None or k > most:
                size = self.collection.count()
                k = size if k is None else min(k, size)
            if k == 0:
                return [NOBODY for _ in queries]
            if k <= most and self._plan in (None, "whole"):
                return self._whole(queries, k)
            return self._exact(queries, k, None)
        found = None
        if scope.expression is not None and self._plan in (None, "condition"):
            found = self._by_condition(queries, k, scope, scope.expression)
        if found is None and k is not None and k <= most and len(queries) == 1:
            one = self._wide(queries, k, scope)
            found = None if one is None else [one]
        return self._exact(queries, k, scope) if found is None else found

    def farthest(
        self, queries: Array, k: int | None, scope: Scope | None = None
    ) -> list[Neighbors]:
        """Returns the ``k`` rows farthest from each query, farthest first, exactly."""
        return [found.last(k) for found in self._exact(queries, None, scope)]

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
        return exact.aggregated(self._requests, queries, aggregate, k, scope, reverse=reverse)

    @property
    def costs(self) -> Costs:
        """What the plans cost on this collection."""
        collection = self.collection
        return Costs(collection.rows_hint(), collection.layout.dimension, self._requests.embedded)

    # -- plans ---------------------------------------------------------------------------------

    def _whole(self, queries: Array, k: int) -> list[Neighbors]:
        start = time.perf_counter()
        found = self._requests.search(queries, k)
        self._trace.note("whole", f"{k} nearest", start)
        short = [i for i, n in enumerate(found) if len(n.ids) < k]
        if short:
            size = min(k, self.collection.count())
            short = [i for i in short if len(found[i].ids) < size]
        for i, ranked in zip(short, self._exact(queries[short], k, None) if short else []):
            found[i] = ranked
        return found

    def _by_condition(
        self, queries: Array, k: int | None, scope: Scope, expression: str
    ) -> list[Neighbors] | None:
        """Searches among the rows of a condition; None if that would not be exact."""
        start = time.perf_counter()
        alone = self._alone(k, expression)
        if not alone and self._plan is None and self._too_many(scope.facts.size):
            return None
        matches = scope.facts.size = self.collection.count(expression)
        if matches == 0:
            return [NOBODY for _ in queries]
        if not alone and self._too_many(matches):
            self._trace.note("condition", f"{matches} rows, too many to be exact", start)
            return None
        parts = Parts(1, {}) if alone else parts_for(self.collection, matches)
        limit = matches if k is None else min(k, matches)
        if parts is None or parts.searches > 1 or limit > self._requests.window:
            self._trace.note("condition", f"{matches} rows, too many to be exact", start)
            return None
        found = self._requests.search(queries, limit, expression, parts.params)
        complete = all(len(n.ids) == limit and scope.keep(n.ids, n.sample_ids).all() for n in found)
        where = ", which have partitions of their own" * alone
        self._trace.note("condition", f"{limit} nearest of {matches}{where}", start)
        # Rows of samples that are gone from the dataset fulfill it too
        return found if complete else None

    def _alone(self, k: int | None, expression: str) -> bool:
        """Whether a search of partitions is as good for a condition as one of the index is."""
        if k is None or k > min(APPROXIMATE_MAX, self._requests.window):
            return False
        return partitions.alone(self.collection, expression)

    def _too_many(self, matches: int | None) -> bool:
        """Whether a filtered search for so many rows is certain not to be exact in one part."""
        if matches is None or self._requests.embedded:
            return False
        hnsw = self.collection.layout.index_type == "HNSW"
        return hnsw and matches > max(UNSEALED, SHARE * self.collection.rows_hint())

    def _wide(self, query: Array, k: int, scope: Scope) -> Neighbors | None:
        """Searches unfiltered and keeps what is in the scope; None if another plan is better."""
        if self._plan not in (None, "wide"):
            return None
        costs, facts = self.costs, scope.facts
        last = self._requests.window if not self._requests.embedded else costs.rows
        limit = self._first_limit(k, scope, costs)
        while True:
            if self._plan is None and not self._worth(limit, last, k, scope, costs):
                return None
            limit = min(limit, last)
            start = time.perf_counter()
            (found,) = self._requests.search(query, limit)
            kept = found.where(scope.keep(found.ids, found.sample_ids))
            self._trace.note("wide", f"{len(kept.ids)} of {len(found.ids)} are in the view", start)
            # None of so many says little: the view may be small, or far from this query only
            facts.share = len(kept.ids) / len(found.ids) if kept.ids else None
            if len(kept.ids) >= k:
                return kept.first(k)
            if limit == last or len(found.ids) < limit:
                facts.share = None
                return None
            if facts.share is None:
                limit = min(16 * limit, last)
            else:
                limit = max(self._limit(k, facts.share), 2 * limit)

    def _first_limit(self, k: int, scope: Scope, costs: Costs) -> int:
        facts = scope.facts
        share = facts.share
        if share is None and facts.size is not None:
            share = facts.size / max(1, costs.rows)
        if share is None:
            return max(WIDE_FIRST * k, 2 * WIDE_MIN)
        return max(self._limit(k, share), WIDE_MIN)

    def _limit(self, k: int, share: float) -> int:
        return int(WIDE_MARGIN * k / max(share, 1e-6)) + 1

    def _worth(self, limit: int, last: int, k: int, scope: Scope, costs: Costs) -> bool:
        """Whether to search so wide rather than to rank the scope's rows by their IDs."""
        facts = scope.facts
        size = facts.size
        if limit > 2 * last:
            return False
        if size is None and limit <= max(WIDE_FIRST * k, 2 * WIDE_MIN):
            return True
        if size is None and facts.share:
            size = int(facts.share * costs.rows)
        if size is None:
            # None of the nearest are in it: a small view, or one far from the query
            if scope.few(FEW_IDS):
                return False
            size = max(FEW_IDS, costs.rows // 10)
        read = 0.0 if scope.known else costs.read_ids(size)
        return costs.wide(min(limit, last)) < read + costs.by_ids(size)

    def _exact(self, queries: Array, k: int | None, scope: Scope | None) -> list[Neighbors]:
        start = time.perf_counter()
        if self._plan == "vectors":
            ids = exact.scope_ids(self._requests, scope)
            found = exact.by_vectors(self._requests, queries, k, ids)
            self._trace.note("vectors", f"of {len(ids)} rows", start)
            return found
        found = exact.nearest(self._requests, queries, k, scope)
        self._trace.note("ids", "exact", start)
        return found
