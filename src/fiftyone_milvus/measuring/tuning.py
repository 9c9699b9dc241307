"""The cheapest search parameters that reach a recall.

Recall and cost both grow with the part of an index that is searched, so the smallest sufficient
value of a parameter is bracketed by doubling, then bisected. A first set of queries chooses it, a
second set verifies it. If it misses the target there, the second set chooses a larger one, so that
its recall is no longer independent of the choice.

For the second set, a recall counts as reached when its lower confidence bound reaches it. If only
the bound misses the target, more queries are asked.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.measuring import recall
from fiftyone_milvus.measuring.recall import Truth
from fiftyone_milvus.measuring.tables import milliseconds, table
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods import Vectors
from fiftyone_milvus.schema.index_types import FOR_RESULTS, SEARCH_RANGES, search_parameter
from fiftyone_milvus.search.planner import Searcher, Trace

logger = logging.getLogger(__name__)

MORE = 3
"""How many times as many queries may be added to the second set."""

_CONFIDENCE = (1 + recall.CONFIDENCE) / 2
"""A trial is judged up to twice, before and after more queries: 97.5 % each time are 95 % in all.

Larger values are no further chances: all are judged by the same queries, of which a larger value
finds more. So a value that is too small passes only if the largest of those that are too small
does."""

_STEPS_PER_OCTAVE = 4
"""Neighbors in the grid of values are 19 % apart."""

_MAX_EXACT = 0.01
"""The largest share of searches that may have been answered without the index."""


@dataclass(frozen=True)
class Trial:
    """What searches found with some parameters.

    Attributes:
        params: the search parameters
        recall: the share of the true ``k`` nearest that were found, in [0, 1]
        bound: the recall that all possible queries reach at least, with a confidence of 95 %
        queries: the number of queries
        p50: the median seconds of a search for one query
        p95: the seconds that 95 % of these searches took at most
        held_out: whether the queries had no part in choosing the parameters
        exact: the share of the searches for which the index returned too few results, and which
            were done exactly instead, which takes longer
    """

    params: Mapping[str, Any]
    recall: float
    bound: float
    queries: int
    p50: float
    p95: float
    held_out: bool = False
    exact: float = 0.0

    def reaches(self, target: float) -> bool:
        """Whether the bound reaches a recall.

        No number of queries proves that all others find everything. So a recall of 1 is reached
        if these do.
        """
        return self.bound >= target or self.recall == target == 1.0


@dataclass(frozen=True)
class Tuning:
    """The cheapest search parameters of an index that reach a recall.

    Attributes:
        target: the recall that was asked for
        k: the number of results that it is for
        reached: whether the lower bound of the recall of the second set reaches the target; for a
            target of 1, whether all of its queries found everything
        params: the search parameters that reach it; empty if none do, or none are needed
        stored: whether they are stored with the brain run
        recall: that of the second set, with the largest parameters if the target is not reached;
            1.0 where searches are exact. The trial says whether the set was held out
        bound: the recall that all possible queries reach at least, with a confidence of 95 %
        p50: the median seconds of a search of the second set; None where nothing was measured
        p95: the seconds that 95 % of these searches took at most, likewise
        index_type: for example ``"HNSW"``
        vectors: the number of vectors in the index
        queries: the number of queries in each set; a trial says how many it asked in the end
        trials: what was tried, in that order
        note: one line that says what to do, or why there is nothing to do
    """

    target: float
    k: int
    reached: bool
    params: Mapping[str, Any]
    stored: bool
    recall: float
    bound: float
    p50: float | None
    p95: float | None
    index_type: str
    vectors: int
    queries: int
    trials: Sequence[Trial] = field(default=())
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns a dict that JSON can hold."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{self.index_type} of {self.vectors:,} vectors, recall@{self.k} of at least "
            f"{self.target:g}"
        ]
        if self.trials:
            times = ("p50 ms", "p95 ms")
            columns = ("search_params", f"recall@{self.k}", "at least", "queries", *times, "")
            lines += table(columns, [_cells(trial) for trial in self.trials])
        return "\n".join([*lines, self.note])


def _cells(trial: Trial) -> tuple[str, ...]:
    return (
        as_text(trial.params),
        f"{trial.recall:.4f}",
        f"{trial.bound:.4f}",
        f"{trial.queries:,}",
        milliseconds(trial.p50),
        milliseconds(trial.p95),
        "held out" if trial.held_out else "",
    )


class Queries(NamedTuple):
    """Queries, and their true neighbors.

    Attributes:
        vectors: a ``num_queries x num_dims`` float32 array
        truth: the true neighbors of each
        more: returns further queries, or None if there are none
    """

    vectors: Array
    truth: Truth
    more: Callable[[], Queries] | None = None


class Found(NamedTuple):
    """The outcome of a search for parameters.

    Attributes:
        trials: what was tried, in that order
        best: the cheapest of them that reaches the target with the second set of queries; if none
            does, the one with the largest value
        reached: whether ``best`` reaches it
    """

    trials: list[Trial]
    best: Trial
    reached: bool


def draw(
    collection: MilvusCollection,
    vectors: Vectors,
    ids: Sequence[str],
    k: int,
    count: int,
    seed: int,
    *,
    progress: Any = None,
) -> tuple[Queries, Queries]:
    """Draws two disjoint sets of queries: to choose parameters with, and to verify them with.

    Args:
        collection: the collection that holds the vectors
        vectors: all of them; they must stay open
        ids: the primary keys of all vectors, at least two
        k: the number of neighbors of each query
        count: the number of queries in each set; half of all vectors, if there are fewer
        seed: the seed of the draw
        progress (None): a progress setting of FiftyOne
    """
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(ids), min((2 + MORE) * count, len(ids)), replace=False)
    count = min(count, len(rows) // 2)
    second, rest = rows[count : 2 * count], rows[2 * count :]

    def queries(rows: Array) -> Queries:
        return as_queries(collection, vectors, ids, np.sort(rows), k, progress)

    more = functools.cache(lambda: queries(rest)) if len(rest) else None
    return queries(rows[:count]), queries(second)._replace(more=more)


def as_queries(
    collection: MilvusCollection,
    vectors: Vectors,
    ids: Sequence[str],
    rows: Array,
    k: int,
    progress: Any = None,
) -> Queries:
    """Returns rows of a collection as queries; see :func:`draw` and :class:`Truth`."""
    truth = Truth(vectors, ids, rows, k, progress=progress)
    # As stored: `vectors` may be normalized
    return Queries(collection.fetch(truth.keys).vectors, truth)


def lower_bound(recalls: Array) -> float:
    """Returns the lower bound of a trial, which is judged up to twice; see :data:`_CONFIDENCE`."""
    return recall.lower_bound(recalls, _CONFIDENCE)


def find(
    make: Callable[[dict[str, Any], Trace], Searcher],
    name: str,
    values: Sequence[int],
    sets: tuple[Queries, Queries],
    target: float,
    others: Mapping[str, Any],
    *,
    progress: Any = None,
) -> Found:
    """Finds the smallest value of a parameter that reaches a recall.

    Args:
        make: returns a searcher with the given parameters that fills the given trace
        name: the name of the parameter
        values: those that it may have, ascending; recall and cost grow with them
        sets: the queries to choose with, and those to verify with
        target: the recall
        others: the other search parameters
        progress (None): a progress setting of FiftyOne
    """
    trials: list[Trial] = []
    choosing, verifying = sets

    def enough(at: int, queries: Queries, held_out: bool = False) -> bool:
        params = {**others, name: values[at]}
        trial = attempt(make, params, queries, target, held_out=held_out, progress=progress)
        trials.append(trial)
        logger.debug("%s: recall@%d %.4f", as_text(params), queries.truth.k, trial.recall)
        # To choose, the estimate is enough
        reached = trial.reaches(target) if queries is verifying else trial.recall >= target
        return reached and trial.exact <= _MAX_EXACT

    def least(low: int, high: int, queries: Queries) -> int:
        """Returns the first that is enough, where ``low`` is not and ``high`` is."""
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle, queries) else (middle, high)
        return high

    last = len(values) - 1
    low, high = -1, 0
    reached = enough(high, choosing)
    while not reached and high < last:
        low, high = high, min(high + _STEPS_PER_OCTAVE, last)
        reached = enough(high, choosing)
    if reached:
        high = least(low, high, choosing)
    step = 1
    reached = enough(high, verifying, held_out=True)
    best = trials[-1]
    # A larger value can't find more than everything
    while not reached and high < last and (best.recall < 1 or best.exact > _MAX_EXACT):
        low, high, step = high, min(high + step, last), 2 * step
        # This set chooses from now on
        reached = enough(high, verifying)
        best = trials[-1]
    if reached and step > 1:
        high = least(low, high, verifying)
        best = next(t for t in reversed(trials) if t.params[name] == values[high])
    return Found(trials, best, reached)


def attempt(
    make: Callable[[dict[str, Any], Trace], Searcher],
    params: dict[str, Any],
    queries: Queries,
    target: float | None,
    *,
    held_out: bool = False,
    progress: Any = None,
) -> Trial:
    """Returns what searches with the given parameters find.

    Args:
        make: returns a searcher with the given parameters that fills the given trace
        params: the search parameters
        queries: the queries; more of them are asked where the target is between bound and recall
        target: the recall to reach, or None
        held_out (False): whether the queries had no part in choosing the parameters
        progress (None): a progress setting of FiftyOne
    """
    trace = Trace()
    searcher = make(params, trace)

    def ask(queries: Queries) -> tuple[Array, Array]:
        return recall.measure(searcher, queries.vectors, queries.truth, progress=progress)

    recalls, seconds = ask(queries)
    undecided = target is not None and lower_bound(recalls) < target <= recalls.mean()
    if undecided and queries.more is not None:
        recalls, seconds = np.hstack([(recalls, seconds), ask(queries.more())])
    return Trial(
        params=params,
        recall=float(recalls.mean()),
        bound=lower_bound(recalls),
        queries=len(recalls),
        p50=float(np.median(seconds)),
        p95=float(np.percentile(seconds, 95)),
        held_out=held_out,
        exact=sum(step.plan != "whole" for step in trace.steps) / len(seconds),
    )


def candidates(index_type: str, k: int, rows: int, build: Mapping[str, Any]) -> list[int]:
    """Returns the values of an index type's search parameter that are worth a try, ascending.

    Args:
        index_type: one that has a :func:`fiftyone_milvus.schema.index_types.search_parameter`
        k: the number of results, without the query itself
        rows: the number of vectors
        build: the build parameters, as Milvus reports them
    """
    name = str(search_parameter(index_type))
    low, high = SEARCH_RANGES[name]
    if name == "nprobe":
        lists = int(build.get("nlist", high))
        high = min(high, lists)
        if "nlist" in build:
            # Lists that hold twice as many as are asked for, so that few results are short
            low = min(high, max(low, math.ceil(2 * (k + 1) * lists / rows)))
    else:
        low = k + 1
        high = max(low, min(high, rows))
    values = [low]
    while values[-1] < high:
        grown = round(values[-1] * 2 ** (1 / _STEPS_PER_OCTAVE))
        values.append(min(high, max(values[-1] + 1, grown)))
    return values


def advice(index_type: str, trial: Trial, target: float) -> str:
    """Returns one line for an index whose largest parameters don't reach the target."""
    tried = as_text(trial.params)
    if trial.reaches(target):
        said = (
            f"Even with {tried}, the index returns too few results for {trial.exact:.1%} of the "
            "searches, which are done exactly then and take longer; "
        )
    elif trial.recall >= target:
        said = (
            f"{tried} finds {trial.recall:.4f}, but {trial.queries} queries prove {trial.bound:.4f}"
            " only; tune with more queries, or "
        )
    else:
        said = f"Not even {tried} reaches it, {trial.recall:.4f} is the most; "
    if index_type == "IVF_RABITQ" and not trial.reaches(target):
        said += (
            "compare more candidates with a larger 'refine_k' in search_params (with 'refine' in "
        )
        return said + "index_params), or another index_type; index.compare() measures them"
    compressed = any(part in index_type for part in ("SQ", "PQ", "SCANN"))
    if compressed and not trial.reaches(target):
        return said + (
            f"{index_type} compresses vectors: make an index with an index_type that does not, "
            "such as 'HNSW' or 'IVF_FLAT'; index.compare() measures them"
        )
    if index_type.startswith("HNSW"):
        said += "make an index with index_params of a larger 'M' and 'efConstruction', or "
    else:
        said += "make an index "
    return said + "with another index_type; index.compare() measures them"


def as_text(params: Mapping[str, Any]) -> str:
    """Returns search parameters as text, without the number of results that they are for."""
    return ", ".join(f"{n}={v}" for n, v in params.items() if n != FOR_RESULTS) or "defaults"
