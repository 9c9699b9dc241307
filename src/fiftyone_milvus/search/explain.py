"""Which plan a search follows, and what the others would have cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from fiftyone_milvus.collection.filters import Scope
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.search.exactness import parts_for
from fiftyone_milvus.search.planner import WIDE_MARGIN, WIDE_MIN, Searcher, Trace


@dataclass(frozen=True)
class Step:
    """One step of a search.

    Attributes:
        plan: one of :data:`fiftyone_milvus.search.planner.PLANS`
        what: what it did, in words
        milliseconds: how long that took
    """

    plan: str
    what: str
    milliseconds: float


@dataclass(frozen=True)
class Alternative:
    """What a plan costs.

    Attributes:
        plan: one of :data:`fiftyone_milvus.search.planner.PLANS`
        estimate: milliseconds, by :mod:`fiftyone_milvus.search.costs`
        measured: milliseconds, if the plan was run
    """

    plan: str
    estimate: float
    measured: float | None = None


@dataclass(frozen=True)
class Explanation:
    """How a search was answered.

    Attributes:
        plan: the plan that answered
        steps: what was done, in order
        rows: in the index
        scope: rows in the view, or None if all were searched
        k: how many were asked for; None for all
        alternatives: what each plan that could answer costs, the cheapest estimate first
    """

    plan: str
    steps: tuple[Step, ...]
    rows: int
    scope: int | None
    k: int | None
    alternatives: tuple[Alternative, ...]

    @property
    def milliseconds(self) -> float:
        """How long the search took."""
        return sum(step.milliseconds for step in self.steps)

    def __str__(self) -> str:
        among = "" if self.scope is None else f"{self.scope:,} in the view, of "
        wanted = "all" if self.k is None else f"{self.k:,}"
        lines = [
            f"plan '{self.plan}', {self.milliseconds:.1f} ms: {wanted} nearest of "
            f"{among}{self.rows:,} rows",
            *(f"  {s.plan:<10} {s.milliseconds:8.1f} ms   {s.what}" for s in self.steps),
            "plans      estimate" + ("   measured" if self._analyzed else ""),
        ]
        for other in self.alternatives:
            measured = "" if other.measured is None else f"{other.measured:8.1f} ms"
            lines.append(f"  {other.plan:<10} {other.estimate:8.1f} ms {measured}".rstrip())
        return "\n".join(lines)

    @property
    def _analyzed(self) -> bool:
        return any(a.measured is not None for a in self.alternatives)


def explain(
    make: Callable[[str | None, Trace], Searcher],
    make_scope: Callable[[], Scope | None],
    query: Array,
    k: int | None,
    *,
    analyze: bool = False,
) -> Explanation:
    """Searches, and says how.

    Args:
        make: makes a searcher that follows a plan, or its own, and notes its steps
        make_scope: makes the scope, with no IDs read
        query: a ``1 x num_dims`` float32 array
        k: how many; None for all
        analyze: whether to run every plan and measure it
    """
    trace = Trace()
    searcher = make(None, trace)
    searcher.nearest(query, k, make_scope())
    rows = searcher.collection.count()
    scope = make_scope()
    size = None if scope is None else len(scope.ids())
    estimates = _estimates(searcher, rows, size, k, scope)
    others = []
    for plan, estimate in sorted(estimates.items(), key=lambda item: item[1]):
        measured = None
        if analyze:
            start = time.perf_counter()
            make(plan, Trace()).nearest(query, k, make_scope())
            measured = 1e3 * (time.perf_counter() - start)
        others.append(Alternative(plan, estimate, measured))
    steps = tuple(Step(plan, what, 1e3 * seconds) for plan, what, seconds in trace.steps)
    plan = steps[-1].plan if steps else "none"
    return Explanation(plan, steps, rows, size, k, tuple(others))


def _estimates(
    searcher: Searcher, rows: int, size: int | None, k: int | None, scope: Scope | None
) -> dict[str, float]:
    costs = searcher.costs
    wanted = rows if size is None else size
    limit = wanted if k is None else min(k, wanted)
    found = {"vectors": costs.by_vectors(wanted)}
    parts = parts_for(searcher.collection, wanted)
    if parts is not None:
        found["ids"] = costs.by_ids(wanted, parts.searches)
    if size is None or scope is None:
        found["whole"] = costs.search(limit)
        return found
    read = costs.read_ids(size)
    found = {plan: read + cost for plan, cost in found.items()}
    if size:
        wide = max(WIDE_MIN, int(WIDE_MARGIN * limit * rows / size))
        found["wide"] = costs.wide(min(wide, rows))
    if scope.expression is not None:
        found["condition"] = costs.condition(size)
    return found
