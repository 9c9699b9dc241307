"""Tells which plan a search followed, and what the others would have cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from fiftyone_milvus.dataset.kept_ids import KEPT
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.search.exactness import exact_split
from fiftyone_milvus.search.planner import WIDE_MARGIN, WIDE_MIN, Searcher, Step, Trace
from fiftyone_milvus.search.question import Question
from fiftyone_milvus.search.scope import Scope


@dataclass(frozen=True)
class Alternative:
    """A plan that could have answered.

    Attributes:
        plan: one of :data:`fiftyone_milvus.search.planner.PLANS`
        estimate: milliseconds, by :mod:`fiftyone_milvus.search.costs`; None on the embedded engine,
            which chooses without estimates
        measured: milliseconds, if the plan was run
    """

    plan: str
    estimate: float | None
    measured: float | None = None


@dataclass(frozen=True)
class Explanation:
    """How a search was answered.

    Attributes:
        plan: the plan that answered
        steps: what was done, in order
        rows: the number of rows in the index
        scope: the number of rows in the view, or None if all were searched
        k: how many were asked for; None for all
        alternatives: every plan that could answer, the cheapest estimate first
        kept_views: of how many views this process keeps the IDs, for the next search in them
        kept_bytes: the memory of these IDs
        question: what was searched for, if it has several parts
    """

    plan: str
    steps: tuple[Step, ...]
    rows: int
    scope: int | None
    k: int | None
    alternatives: tuple[Alternative, ...]
    kept_views: int = 0
    kept_bytes: int = 0
    question: Question | None = None

    @property
    def milliseconds(self) -> float:
        """How long the search took, in milliseconds."""
        return sum(step.milliseconds for step in self.steps)

    def __str__(self) -> str:
        among = "" if self.scope is None else f"{self.scope:,} in the view, of "
        asked = "all" if self.k is None else f"{self.k:,}"
        lines = [
            f"plan '{self.plan}', {self.milliseconds:.1f} ms: {asked} nearest of "
            f"{among}{self.rows:,} rows",
            *(f"  {s.plan:<10} {s.milliseconds:8.1f} ms   {s.what}" for s in self.steps),
        ]
        if self.question is not None:
            lines += ["question   share", *self.question.lines()]
        columns = {
            "estimate": [a.estimate for a in self.alternatives],
            "measured": [a.measured for a in self.alternatives],
        }
        shown = {name: times for name, times in columns.items() if times.count(None) < len(times)}
        lines.append(f"plans      {'   '.join(shown)}".rstrip())
        for i, other in enumerate(self.alternatives):
            cells = [
                " " * 11 if (time := times[i]) is None else f"{time:8.1f} ms"
                for times in shown.values()
            ]
            lines.append(f"  {other.plan:<10} {' '.join(cells)}".rstrip())
        if self.scope is not None:
            views = "1 view" if self.kept_views == 1 else f"{self.kept_views} views"
            lines.append(
                f"IDs kept   of {views}, {self.kept_bytes / 1e6:.1f} MB of at most "
                f"{KEPT.max_bytes / 1e6:.0f} MB"
            )
        return "\n".join(lines)


def explain(
    make: Callable[[str | None, Trace], Searcher],
    make_scope: Callable[[], Scope | None],
    query: Array,
    k: int | None,
    *,
    analyze: bool = False,
    question: Question | None = None,
) -> Explanation:
    """Searches, and returns how.

    Args:
        make: makes a searcher that follows a plan, or the best one for None, and notes its steps
        make_scope: makes the scope, with no IDs read
        query: a ``1 x num_dims`` float32 array
        k: how many rows; None for all
        analyze (False): whether to run every plan and measure it
        question (None): what ``query`` was put together from

    Returns:
        an :class:`Explanation`, whose times are in milliseconds

    Raises:
        FiftyOneMilvusError: if Milvus can't be reached or refuses
    """
    trace = Trace()
    searcher = make(None, trace)
    searcher.nearest(query, k, make_scope())
    rows = searcher.collection.count()
    scope = make_scope()
    size = None if scope is None else len(scope.ids())
    others = []
    for plan, estimate in _estimates(searcher, rows, size, k, scope):
        measured = None
        if analyze:
            start = time.perf_counter()
            make(plan, Trace()).nearest(query, k, make_scope())
            measured = 1e3 * (time.perf_counter() - start)
        others.append(Alternative(plan, estimate, measured))
    plan = trace.steps[-1].plan if trace.steps else "none"
    return Explanation(
        plan, tuple(trace.steps), rows, size, k, tuple(others), len(KEPT), KEPT.nbytes, question
    )


def _estimates(
    searcher: Searcher, rows: int, size: int | None, k: int | None, scope: Scope | None
) -> list[tuple[str, float | None]]:
    """Returns the plans that can answer and the estimate of each, the cheapest first."""
    chosen = rows if size is None else size
    limit = chosen if k is None else min(k, chosen)
    split = exact_split(searcher.collection, chosen)
    wide = min(rows, max(WIDE_MIN, int(WIDE_MARGIN * limit * rows / size))) if size else 0
    possible = {
        "condition": scope is not None and scope.expression is not None,
        "whole": scope is None,
        "wide": wide > 0,
        "ids": split is not None,
        "vectors": True,
    }
    plans = [plan for plan, can in possible.items() if can]
    costs = searcher.costs
    if costs is None:
        return [(plan, None) for plan in plans]
    read = 0.0 if size is None else costs.read_ids(size)
    estimates = {
        "condition": costs.condition(),
        "whole": costs.search(limit),
        "wide": costs.wide(wide),
        "ids": read + costs.by_ids(chosen, split.requests if split else 1),
        "vectors": read + costs.by_vectors(chosen),
    }
    return [(plan, estimates[plan]) for plan in sorted(plans, key=estimates.__getitem__)]
