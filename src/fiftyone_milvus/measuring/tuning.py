"""The cheapest search parameters that reach a recall.

Recall and cost both grow with how much of an index is looked at, so the least that is enough is
bracketed by doubling and then bisected. What is enough for one set of queries may just miss for
another, so it is verified with queries that had no part in choosing it. Where these miss, it is
raised until they don't, and bisected again: from then on they choose too, and their recall is no
longer independent.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fiftyone_milvus.measuring import recall
from fiftyone_milvus.measuring.recall import Truth
from fiftyone_milvus.measuring.tables import milliseconds, table
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.schema.index_types import FOR_RESULTS, SEARCH_RANGES, search_parameter
from fiftyone_milvus.search.planner import Searcher, Trace

logger = logging.getLogger(__name__)

_DOUBLING = 4
"""Steps of the grid to the next octave: neighbors are 19 % apart."""

_EXACT = 0.01
"""Of the searches, at most, that may have been answered without the index."""


@dataclass(frozen=True)
class Trial:
    """What a search found with some parameters.

    Attributes:
        params: the search parameters
        recall: the share of the true ``k`` nearest that were found, in [0, 1]
        p50: the median seconds of a search for one query
        p95: the seconds that 95 % of these searches took at most
        held_out: whether it was asked queries that had no part in choosing the parameters; not
            where these had missed before, and the parameters were raised for them
        exact: the share of the searches that the index left short of results, and that were ranked
            exactly instead, which takes longer
    """

    params: Mapping[str, Any]
    recall: float
    p50: float
    p95: float
    held_out: bool = False
    exact: float = 0.0


@dataclass(frozen=True)
class Tuning:
    """The cheapest search parameters of an index that reach a recall.

    Attributes:
        target: the recall that was asked for
        k: of how many results
        reached: whether the target is reached, on the second set of queries
        params: the search parameters that reach it; empty if none do, or none are needed
        stored: whether they are stored with the brain run
        recall: on the second set, which was held out if the trial with these parameters says so;
            with the largest parameters if the target is not reached; 1.0 where searches are exact
        p50: the median seconds of a search, likewise; None where nothing was measured
        p95: the seconds that 95 % of the searches took at most, likewise
        index_type: as ``"HNSW"``
        vectors: the number of vectors in the index
        queries: how many there were in each of the two sets
        trials: what was tried, in that order
        note: one line that says what to do, or why there is nothing to do
    """

    target: float
    k: int
    reached: bool
    params: Mapping[str, Any]
    stored: bool
    recall: float
    p50: float | None
    p95: float | None
    index_type: str
    vectors: int
    queries: int
    trials: Sequence[Trial] = field(default=())
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns it as what JSON can hold."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{self.index_type} of {self.vectors:,} vectors, recall@{self.k} of at least "
            f"{self.target:g}"
        ]
        if self.trials:
            rows = [
                (
                    as_text(trial.params),
                    f"{trial.recall:.4f}",
                    milliseconds(trial.p50),
                    milliseconds(trial.p95),
                    "held out" if trial.held_out else "",
                )
                for trial in self.trials
            ]
            lines += table(("search_params", f"recall@{self.k}", "p50 ms", "p95 ms", ""), rows)
        return "\n".join([*lines, self.note])


class Questions(NamedTuple):
    """Queries, and what they should find.

    Attributes:
        vectors: a ``num_queries x num_dims`` float32 array
        truth: the true neighbors of each
    """

    vectors: Array
    truth: Truth


class Found(NamedTuple):
    """The outcome of a search for parameters.

    Attributes:
        trials: what was tried, in that order
        best: the cheapest of them that reaches the target with the second set of queries; if none
            does, that with the greatest value
        reached: whether ``best`` reaches it
    """

    trials: list[Trial]
    best: Trial
    reached: bool


def find(
    make: Callable[[dict[str, Any], Trace], Searcher],
    name: str,
    values: Sequence[int],
    sets: tuple[Questions, Questions],
    target: float,
    others: Mapping[str, Any],
    *,
    progress: Any = None,
) -> Found:
    """Finds the least value of a parameter that reaches a recall.

    Args:
        make: returns a searcher with the given parameters, which notes what it does
        name: of the parameter
        values: that it may have, ascending; recall and cost grow with them
        sets: the queries to choose with, and those to verify with
        target: the recall
        others: the other search parameters
        progress (None): as FiftyOne's progress bars take it
    """
    trials: list[Trial] = []
    choosing, verifying = sets

    def enough(at: int, questions: Questions, held_out: bool = False) -> bool:
        params = {**others, name: values[at]}
        one = attempt(make, params, questions, held_out=held_out, progress=progress)
        trials.append(one)
        logger.debug("%s: recall@%d %.4f", as_text(params), questions.truth.k, one.recall)
        return one.recall >= target and one.exact <= _EXACT

    def least(low: int, high: int, questions: Questions) -> int:
        """Returns the first that is enough, where ``low`` is not and ``high`` is."""
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle, questions) else (middle, high)
        return high

    last = len(values) - 1
    low, high = -1, 0
    reached = enough(high, choosing)
    while not reached and high < last:
        low, high = high, min(high + _DOUBLING, last)
        reached = enough(high, choosing)
    if reached:
        high = least(low, high, choosing)
    step = 1
    reached = enough(high, verifying, held_out=True)
    best = trials[-1]
    while not reached and high < last:
        low, high, step = high, min(high + step, last), 2 * step
        # They choose now, too
        reached = enough(high, verifying)
        best = trials[-1]
    if reached and step > 1:
        high = least(low, high, verifying)
        best = next(t for t in reversed(trials) if t.params[name] == values[high])
    return Found(trials, best, reached)


def attempt(
    make: Callable[[dict[str, Any], Trace], Searcher],
    params: dict[str, Any],
    questions: Questions,
    *,
    held_out: bool = False,
    progress: Any = None,
) -> Trial:
    """Returns what searches with the given parameters find."""
    trace = Trace()
    found, seconds = recall.measure(
        make(params, trace), questions.vectors, questions.truth, progress=progress
    )
    exact = sum(step.plan != "whole" for step in trace.steps) / len(seconds)
    p50, p95 = float(np.median(seconds)), float(np.percentile(seconds, 95))
    return Trial(params, found, p50, p95, held_out, exact)


def candidates(index_type: str, k: int, rows: int, build: Mapping[str, Any]) -> list[int]:
    """Returns the values of an index' search parameter that are worth a try, ascending.

    Args:
        index_type: one that has a :func:`fiftyone_milvus.schema.index_types.search_parameter`
        k: how many results are asked for, beside the query itself
        rows: how many vectors there are
        build: the build parameters, as Milvus reports them
    """
    name = str(search_parameter(index_type))
    low, high = SEARCH_RANGES[name]
    if name == "nprobe":
        lists = int(build.get("nlist", high))
        high = min(high, lists)
        if "nlist" in build:
            # Lists that hold twice as many as are asked for, so that few answers are short
            low = min(high, max(low, math.ceil(2 * (k + 1) * lists / rows)))
    else:
        low = k + 1
        high = max(low, min(high, rows))
    values = [low]
    while values[-1] < high:
        values.append(min(high, max(values[-1] + 1, round(values[-1] * 2 ** (1 / _DOUBLING)))))
    return values


def advice(index_type: str, trial: Trial, target: float) -> str:
    """Returns one line for an index whose greatest parameters don't reach the target."""
    tried = as_text(trial.params)
    if trial.recall >= target:
        said = (
            f"Even with {tried}, the index leaves {trial.exact:.1%} of the searches short of "
            "results, which are ranked exactly then and take longer; "
        )
    else:
        said = f"Not even {tried} reaches it, {trial.recall:.4f} is the most; "
    compressed = any(part in index_type for part in ("SQ", "PQ", "RABITQ", "SCANN"))
    if compressed and trial.recall < target:
        return said + (
            f"{index_type} compresses vectors: make an index with an index_type that does not, as "
            "'HNSW' or 'IVF_FLAT'; index.compare() measures them"
        )
    if index_type.startswith("HNSW"):
        said += "make an index with index_params of a larger 'M' and 'efConstruction', or "
    else:
        said += "make an index "
    return said + "with another index_type; index.compare() measures them"


def as_text(params: Mapping[str, Any]) -> str:
    """Returns search parameters as text, without for how many results they are."""
    return ", ".join(f"{n}={v}" for n, v in params.items() if n != FOR_RESULTS) or "defaults"
