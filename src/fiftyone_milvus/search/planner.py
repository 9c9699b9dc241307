"""Chooses a plan for each search, and follows it.

A filtered search of an approximate index has a low recall (:mod:`.exactness`). So a search in a
view is either *wide*, which means that it has no filter and keeps what is in the view, or exact:
among the rows of a condition, or among the view's IDs. The result never has fewer rows than there
are.

The embedded engine compares every row of any filter, so there a view that translates into a
condition is always searched by it. On a server, :mod:`.costs` says which plan is cheapest. What a
search learns about a view serves the next search in it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fiftyone_milvus.collection import MilvusCollection, filters
from fiftyone_milvus.embedded.markers import FARTHEST
from fiftyone_milvus.errors import EngineError, InvalidInputError
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.search import exact, partitions, unsettled
from fiftyone_milvus.search.calls import Calls
from fiftyone_milvus.search.costs import Costs
from fiftyone_milvus.search.exactness import SHARE, UNSEALED, Split, exact_split, is_settled
from fiftyone_milvus.search.neighbors import NO_RESULT, Neighbors
from fiftyone_milvus.search.scope import Facts, Scope

logger = logging.getLogger(__name__)

PLANS = ("whole", "wide", "condition", "ids", "vectors")
"""The ways to search.

``whole``
    the index, without a filter
``wide``
    the index, without a filter, for more than ``k`` candidates; keeps those that MongoDB finds in
    the view
``condition``
    among the rows for which a condition on metadata fields is true
``ids``
    among the rows of the view, by their IDs
``vectors``
    reads the vectors of the view and computes their distances here
"""

APPROXIMATE_MAX = 4_096
"""The largest k for which an approximate index is used; more neighbors are found exactly."""

WIDE_MIN = 64
"""The fewest candidates of a wide search; fewer would take as long."""

WIDE_FIRST = 4
"""The first wide search in an unknown view asks for this many times k, and for at least 128."""

WIDE_MARGIN = 1.4
"""A wide search asks for this many times k / share, as the share may be lower further out."""

DEEP_EF, EF_PER_CANDIDATE, MAX_EF = 1_024, 4, 32_768
"""The least ``ef`` of a wide search on a server, that for each candidate, and Milvus' largest. With
five clusters of 12,000 x 128, an ``ef`` of 128 finds 0.87 of the nearest 25, and one of 2,000 finds
0.99 of the nearest 1,000."""

FEW_IDS = 20_000
"""The IDs of a view that is far from the query are read at once if there are no more than this."""

DEEP_WIDE = 1_000
"""The IDs of a view that takes more candidates are read and kept for the next search in it."""

READ_SECONDS = 1e-6
"""For each sample of a dataset: once wide searches in a view have taken so long, its IDs are read
and kept, as that would have been faster."""

MOST_KEPT = 4_000_000
"""The IDs of views of larger collections may not fit where they are kept."""

IDS_PER_CANDIDATE, KNOWN_IDS_PER_CANDIDATE, ROWS_PER_CANDIDATE = 3, 100, 25
"""In the time of one candidate of a wide search on the embedded engine, this many IDs of a view
are read and searched, or searched where they are known, or samples are scanned by MongoDB
(``python -m benchmarks --engine embedded --only planning``)."""


@dataclass(frozen=True)
class Step:
    """One step of a search.

    Attributes:
        plan: one of :data:`PLANS`
        what: what it did, in words
        milliseconds: how many milliseconds that took
    """

    plan: str
    what: str
    milliseconds: float


class Trace:
    """Collects the steps of a search."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def note(self, plan: str, what: str, start: float) -> None:
        """Adds a step that ends now.

        Args:
            plan: one of :data:`PLANS`
            what: what the step did, in words
            start: the ``time.perf_counter()`` at which it began, in seconds
        """
        self.steps.append(Step(plan, what, 1e3 * (time.perf_counter() - start)))


@dataclass
class Searcher:
    """Chooses a plan to search one collection, and follows it.

    Attributes:
        collection: an existing collection
        metric: FiftyOne's name of its metric
        params: the user's search parameters, which replace the defaults
        patches: whether the sample IDs differ from the primary keys
        plan: the plan to follow where it is possible; None for the cheapest
        trace: notes what is done

    Raises:
        InvalidInputError: if there is no such plan
    """

    collection: MilvusCollection
    metric: str
    params: Mapping[str, Any] | None = None
    patches: bool = False
    plan: str | None = None
    trace: Trace = field(default_factory=Trace)

    def __post_init__(self) -> None:
        if self.plan is not None and self.plan not in PLANS:
            raise InvalidInputError(f"Unknown plan {self.plan!r}; expected one of {PLANS}")
        self._calls = Calls(self.collection, self.metric, self.params, self.patches)

    def nearest(self, queries: Array, k: int | None, scope: Scope | None = None) -> list[Neighbors]:
        """Returns the nearest rows of each query, the nearest first.

        Args:
            queries: a ``num_queries x num_dims`` float32 array
            k: how many; None for all
            scope (None): the rows to choose from; None for all

        Returns:
            a list of ``num_queries`` :class:`Neighbors` of ``min(k, rows in the scope)`` rows each

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        if scope is None and (k is None or k > self._most):
            size = self.collection.count()
            k = size if k is None else min(k, size)
        if k == 0:
            return [NO_RESULT for _ in queries]
        few = k if k is not None and k <= self._most else None
        found = None
        if scope is None:
            if few is not None and self.plan in (None, "whole"):
                found = self._whole(queries, few)
        else:
            if scope.expression is not None and self.plan in (None, "condition"):
                found = self._by_condition(queries, k, scope, scope.expression)
            if found is None and few is not None and len(queries) == 1:
                found = self._wide(queries, few, scope)
        return self._exact(queries, k, scope) if found is None else found

    def farthest(
        self, queries: Array, k: int | None, scope: Scope | None = None
    ) -> list[Neighbors]:
        """Returns the exact farthest rows of each query, the farthest first.

        Args:
            queries: a ``num_queries x num_dims`` float32 array
            k: how many; None for all
            scope (None): the rows to choose from; None for all

        Returns:
            a list of ``num_queries`` :class:`Neighbors` of ``min(k, rows in the scope)`` rows each

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        found = None
        if k is not None and 0 < k <= self._most:
            if self._calls.metric == "euclidean":
                found = self._scanned_for_farthest(queries, k, scope)
            else:
                found = self._opposite(queries, k, scope)
        if found is None:
            found = [whole.last(k) for whole in self._exact(queries, None, scope)]
        return found

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
            aggregate: turns a ``num_queries x n`` float64 array of distances into ``n``
            k: how many rows to return; None for all
            scope (None): the rows to choose from; None for all
            reverse (False): whether to return the farthest, farthest first

        Returns:
            :class:`Neighbors` of ``min(k, rows in the scope)`` rows

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        return exact.aggregated(self._calls, queries, aggregate, k, scope, reverse=reverse)

    @property
    def costs(self) -> Costs | None:
        """Estimates the cost of each plan; None on the embedded engine, which needs none."""
        if self._calls.embedded:
            return None
        return Costs(self.collection.rows_hint(), self.collection.layout.dimension)

    @property
    def _most(self) -> int:
        return min(APPROXIMATE_MAX, self._calls.window)

    # -- plans ---------------------------------------------------------------------------------

    def _whole(self, queries: Array, k: int) -> list[Neighbors] | None:
        """Searches without a filter; None if a server has not compared what it had to."""
        start = time.perf_counter()
        found = unsettled.nearest(self._calls, queries, k)
        self.trace.note("whole", f"{k} nearest", start)
        if found is None:
            return None
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
        if self._calls.embedded and k is not None and k <= self._most:
            # Any filter is exact there, so nothing depends on the number of rows
            found = self._calls.search(queries, k, expression)
            self.trace.note("condition", f"{k} nearest", start)
            return found if _all_in(scope, found) else None
        own = self._has_partitions(k, expression)
        if not own and self.plan is None and self._too_many(scope.facts.size):
            return None
        matches = scope.facts.size = self.collection.count(expression)
        if matches == 0:
            self.trace.note("condition", "no rows", start)
            return [NO_RESULT for _ in queries]
        limit = matches if k is None else min(k, matches)
        split = Split(1, {}) if own else exact_split(self.collection, matches)
        if split is None or split.requests > 1 or limit > self._calls.window:
            self.trace.note("condition", f"{matches} rows, too many to be exact", start)
            return None
        found = self._calls.search(queries, limit, expression, split.params)
        where = ", which have partitions of their own" * own
        self.trace.note("condition", f"{limit} nearest of {matches}{where}", start)
        complete = all(len(n.ids) == limit for n in found)
        return found if complete and _all_in(scope, found) else None

    def _has_partitions(self, k: int | None, expression: str) -> bool:
        """Whether an unfiltered search of partitions returns the rows of a condition."""
        if k is None or k > self._most:
            return False
        return partitions.hold_only(self.collection, expression)

    def _too_many(self, matches: int | None) -> bool:
        """Whether a filtered search for so many rows needs more than one request to be exact."""
        if matches is None or self._calls.embedded:
            return False
        hnsw = self.collection.layout.index_type == "HNSW"
        return hnsw and matches > max(UNSEALED, SHARE * self.collection.rows_hint())

    def _wide(self, query: Array, k: int, scope: Scope) -> list[Neighbors] | None:
        """Searches without a filter and keeps what is in the scope; None if that is not best."""
        if self.plan not in (None, "wide"):
            return None
        facts, rows = scope.facts, self.collection.rows_hint()
        _ = scope.known  # if so, the facts have its size
        most = rows if self._calls.embedded else self._calls.window
        limit = self._first_limit(k, facts, rows)
        while True:
            if self.plan is None and not self._is_wide_best(limit, most, k, scope, rows):
                return None
            limit = min(limit, most)
            start = time.perf_counter()
            nearest = unsettled.nearest(self._calls, query, limit, self._depth(limit))
            if nearest is None:
                return None
            (found,) = nearest
            inside = np.flatnonzero(scope.keep(found.ids, found.sample_ids))
            what = f"{len(inside)} of {len(found.ids)} are in the view"
            self.trace.note("wide", what + _kept(scope), start)
            if not scope.known:
                facts.spent += time.perf_counter() - start
            if len(inside) >= k:
                # Not of all candidates: a view far from the query has none of the first
                facts.share = k / (int(inside[k - 1]) + 1)
                return [found.take(inside[:k])]
            # A view without any of them may be small, or only far from this query
            facts.share = len(inside) / len(found.ids) if len(inside) else None
            if limit == most or len(found.ids) < limit:
                facts.share = None
                return None
            if facts.share is None:
                limit = min(16 * limit, most)
            else:
                limit = max(_limit(k, facts.share), 2 * limit)

    def _depth(self, limit: int) -> dict[str, int]:
        """Returns the search parameters of a wide search: none if the user has set some.

        Its last candidates are far, and far ones need a deeper search than the nearest few.
        """
        hnsw = self.collection.layout.index_type == "HNSW"
        if self._calls.embedded or not hnsw or "ef" in (self.params or {}):
            return {}
        return {"ef": min(MAX_EF, max(DEEP_EF, EF_PER_CANDIDATE * limit))}

    def _first_limit(self, k: int, facts: Facts, rows: int) -> int:
        share = facts.share
        if share is None and facts.size is not None:
            share = facts.size / max(1, rows)
        if share is None:
            return max(WIDE_FIRST * k, 2 * WIDE_MIN)
        return max(_limit(k, share), WIDE_MIN)

    def _is_wide_best(self, limit: int, most: int, k: int, scope: Scope, rows: int) -> bool:
        """Whether a wide search for ``limit`` candidates is cheaper than one by the scope's IDs."""
        known = scope.known
        if not known and self.plan is None and self._is_worth_reading(limit, scope, rows):
            scope.keys()
            known = True
        size, share = scope.facts.size, scope.facts.share
        if limit > 2 * most:
            return False
        limit = min(limit, most)
        if size is None and limit <= max(WIDE_FIRST * k, 2 * WIDE_MIN):
            return True
        if size is None and share:
            size = int(share * rows)
        if size is None:
            # None of the nearest are in it: a small view, or one far from the query
            if scope.few(FEW_IDS):
                return False
            size = max(FEW_IDS, rows // 10)
        if (costs := self.costs) is None:
            if known:
                return limit <= size / KNOWN_IDS_PER_CANDIDATE
            return limit <= size / IDS_PER_CANDIDATE + rows / ROWS_PER_CANDIDATE
        if is_settled(self.collection):
            among, again = costs.by_ids(size), 0.0
        else:
            among, again = costs.by_vectors(size), costs.search(limit)
        if known:
            return costs.search(limit) + again < among
        return costs.wide(limit) + again < costs.read_ids(size) + among

    def _opposite(self, queries: Array, k: int, scope: Scope | None) -> list[Neighbors]:
        """Returns the farthest rows, which are the nearest of the opposite vectors.

        Cosine and inner product of the opposite vector are those of the vector, times -1.
        """
        found = None
        condition = None if scope is None else scope.expression
        if scope is not None and condition is not None and self.plan in (None, "condition"):
            found = self._by_condition(-queries, k, scope, condition)
        if found is None:
            found = self._exact(-queries, k, scope)
        return [n._replace(distances=2.0 - n.distances) for n in found]

    def _scanned_for_farthest(
        self, queries: Array, k: int, scope: Scope | None
    ) -> list[Neighbors] | None:
        """Lets the embedded engine scan for the farthest rows; None if it can't."""
        if not self._calls.embedded or self.plan == "vectors":
            return None
        field = self.collection.layout.id_field
        if scope is None:
            return self._farthest_of(queries, k, filters.everything(field))
        if scope.expression is not None and self.plan in (None, "condition"):
            found = self._farthest_of(queries, k, scope.expression)
            if found is None or _all_in(scope, found):
                return found
        keys = scope.keys()
        if not len(keys):
            return [NO_RESULT for _ in queries]
        return self._farthest_of(queries, k, filters.ids_in(field, keys))

    def _farthest_of(self, queries: Array, k: int, expression: str) -> list[Neighbors] | None:
        start = time.perf_counter()
        try:
            found = self._calls.search(queries, k, FARTHEST + expression)
        except EngineError as error:
            # Without its fast paths, the service is Milvus Lite alone
            logger.debug("Ranking all rows to find the farthest: %s", error)
            return None
        self.trace.note("ids", f"{k} farthest", start)
        return found

    def _is_worth_reading(self, limit: int, scope: Scope, rows: int) -> bool:
        """Whether to read the IDs of a view, for this search and the next ones in it."""
        if not scope.keeps or rows > MOST_KEPT:
            return False
        return limit > DEEP_WIDE or scope.facts.spent > rows * READ_SECONDS

    def _exact(self, queries: Array, k: int | None, scope: Scope | None) -> list[Neighbors]:
        start = time.perf_counter()
        if self.plan == "vectors":
            ids = exact.scope_ids(self._calls, scope)
            found = exact.by_vectors(self._calls, queries, k, ids)
            self.trace.note("vectors", f"of {len(ids)} rows", start)
        else:
            found = exact.nearest(self._calls, queries, k, scope)
            self.trace.note("ids", "exact" + ("" if scope is None else _kept(scope)), start)
        return found


def _limit(k: int, share: float) -> int:
    """Returns how many candidates a wide search needs, if ``share`` of them are in the view."""
    return int(WIDE_MARGIN * k / max(share, 1e-6)) + 1


def _kept(scope: Scope) -> str:
    return ", by the IDs of an earlier search" if scope.reused else ""


def _all_in(scope: Scope, found: list[Neighbors]) -> bool:
    """Whether all rows are in the scope; those of deleted samples fulfill a condition too."""
    ids = [i for n in found for i in n.ids]
    return not ids or bool(scope.keep(ids, [i for n in found for i in n.sample_ids]).all())
