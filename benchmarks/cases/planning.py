"""Searches in views of a large index, next to what a backend without a planner asks.

``python -m benchmarks --engine server --rows 1000000 --dim 64 --only planning``

It also measures the constants by which the planner chooses: those of ``search/costs.py`` for a
server, and of ``search/planner.py`` for the embedded engine. They are set by hand, from a run with
the default 100,000 x 512 vectors.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.report import Goal, Table, ms
from benchmarks.vectors import Array, nearest, recall
from benchmarks.views import Case, queries_and_views
from benchmarks.world import METRIC, Engine, World

K = 25
QUERIES = 10

_SLOW = 3
"""Queries where one takes seconds."""


def run(world: World) -> list[Table]:
    tables = [_table(world, engine) for engine in world.engines]
    return tables + [_constants(world, engine) for engine in world.engines]


def _table(world: World, engine: Engine) -> Table:
    index = engine.ours
    queries, cases = queries_and_views(world, QUERIES)
    bare = _Bare(engine, index)
    rows, goals, raw = [], [], {}
    for case in cases:
        ids = [world.ids[i] for i in case.inside.nonzero()[0]]
        count = QUERIES if len(ids) <= world.rows // 20 else _SLOW
        truth = nearest(world.vectors, queries, min(K, len(ids)), case.inside)
        unfiltered: list[float] = []
        filtered: list[float] = []
        milvus: list[float] = []
        whole: list[float] = []
        plans: list[str] = []
        filter_found, our_found = [], []
        for turn, query in enumerate(queries):
            unfiltered.append(bare.search(query)[0])
            if turn < count and case.title != "all":
                seconds, found = bare.search(query, ids)
                filtered.append(seconds)
                filter_found.append([world.row_of[i] for i in found])
            total, part, found, plan = _ours(index, case, query)
            whole.append(total)
            milvus.append(part)
            plans.append(plan)
            our_found.append([world.row_of[i] for i in found])
        # What the first search in a view learns serves the others
        cells = {
            "bare, unfiltered": statistics.median(unfiltered),
            "bare, IDs": statistics.median(filtered) if filtered else None,
            "ours, Milvus": statistics.median(milvus),
            "ours, first": whole[0],
            "ours": statistics.median(whole),
        }
        found_by_filter = recall(filter_found, truth[: len(filter_found)]) if filtered else None
        ours = recall(our_found, truth)
        plan = max(set(plans), key=plans.count)
        rows.append(
            (
                case.title,
                *("" if v is None else ms(v) for v in cells.values()),
                plan,
                "" if found_by_filter is None else f"{found_by_filter:.3f}",
                f"{ours:.3f}",
            )
        )
        raw[case.title] = {
            "unfiltered": unfiltered, "filtered": filtered, "milvus": milvus, "ours": whole,
            "plans": plans, "recall": ours, "filter_recall": found_by_filter, "rows": len(ids),
        }  # fmt: skip
        goals += _goals(engine.name, case, unfiltered, filtered, milvus, ours)
    title = f"{world.rows:,} x {world.dim}"
    columns = (
        f"view of {title}", "bare, unfiltered ms", "bare, view's IDs ms", "ours, Milvus ms",
        "ours, first ms", "ours ms", "plan", "recall of the IDs", "recall of ours",
    )  # fmt: skip
    return Table(f"planning-{engine.name}", columns, rows, goals, raw)


def _constants(world: World, engine: Engine) -> Table:
    """Measures what the planner's constants stand for, in milliseconds."""
    from fiftyone import ViewField as F

    from fiftyone_milvus.collection.filters import ids_in
    from fiftyone_milvus.dataset import object_ids
    from fiftyone_milvus.search import costs, planner
    from fiftyone_milvus.search.calls import Calls
    from fiftyone_milvus.search.views import ViewScope

    collection = engine.with_fields._collection
    calls, query = Calls(collection, METRIC), world.vectors[:1]
    view = world.dataset.match(F("share") < 0.5)
    few, many = 500, min(8_000, world.rows // 2)

    def some(count: int) -> list[str]:
        return world.ids[:: world.rows // count][:count]

    def each(work: Callable[[int], object]) -> float:
        return (_median(lambda: work(many)) - _median(lambda: work(few))) / (many - few)

    request = _median(lambda: calls.search(query, 1))
    hit = each(lambda n: calls.search(query, n))
    listed = each(lambda n: calls.search(query, K, ids_in("pk", some(n))))
    tested = _median(lambda: calls.search(query, K, "share < 0.0001")) - request
    vector = each(lambda n: collection.fetch(some(n)))
    view_request = _median(lambda: object_ids.read(world.dataset.limit(1)))
    nothing = world.dataset.match(F("share") < -1)
    scanned = (_median(lambda: object_ids.read(nothing)) - view_request) / world.rows
    view_id = each(lambda n: object_ids.sample_ids(world.dataset.limit(n)))
    looked_up = each(lambda n: ViewScope(view).keep(some(n), some(n)))
    if engine.name == "server":
        found = {
            "REQUEST": (costs.REQUEST, request),
            "HIT": (costs.HIT, hit),
            "LISTED_ID": (costs.LISTED_ID, listed),
            "TESTED_ROW": (costs.TESTED_ROW, tested / world.rows),
            f"READ_VECTOR + {world.dim} READ_NUMBER": (
                costs.READ_VECTOR + world.dim * costs.READ_NUMBER,
                vector,
            ),
            "VIEW_REQUEST": (costs.VIEW_REQUEST, view_request),
            "VIEW_SCAN": (costs.VIEW_SCAN, scanned),
            "VIEW_ID": (costs.VIEW_ID, view_id),
            "CANDIDATE": (costs.CANDIDATE, looked_up),
        }
    else:
        candidate = hit + looked_up
        found = {
            "IDS_PER_CANDIDATE": (planner.IDS_PER_CANDIDATE, candidate / (view_id + listed)),
            "ROWS_PER_CANDIDATE": (planner.ROWS_PER_CANDIDATE, candidate / scanned),
        }
    rows = [(name, f"{used:.2g}", f"{measured:.2g}") for name, (used, measured) in found.items()]
    return Table(f"constants-{engine.name}", ("constant", "in use", "measured"), rows, (), found)


def _median(work: Callable[[], object]) -> float:
    """Returns the median of nine repetitions, in milliseconds."""
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds)


def _goals(
    engine: str,
    case: Case,
    unfiltered: list[float],
    filtered: list[float],
    milvus: list[float],
    ours: float,
) -> list[Goal]:
    where = f"({case.title}), {engine}"
    if case.title == "all":
        return []
    found = [Goal(f"recall@25 in a large view {where}", ">= 0.99", ours, ours, unit="")]

    def goal(text: str, wanted: str, others: list[float]) -> Goal:
        fastest = min(milvus) / min(others)
        return Goal(text, wanted, fastest, statistics.median(milvus) / statistics.median(others))

    if case.random and case.share >= 0.1:
        found.append(goal(f"Milvus' part / bare unfiltered {where}", "<= 4", unfiltered))
    found.append(goal(f"Milvus' part / bare search by IDs {where}", "<= 1.2", filtered))
    return found


def _ours(index: Any, case: Case, query: Array) -> tuple[float, float, list[str], str]:
    """Returns the seconds, those of Milvus alone, the IDs found and the plan."""
    from fiftyone_milvus.search.planner import Trace

    seconds = 0.0
    trace = Trace()
    start = time.perf_counter()
    scope = None if case.title == "all" else index._view_scope(case.view)
    searcher = index._make_searcher(trace=trace)
    search = searcher.collection.search

    def timed(*args: Any, **kwargs: Any) -> Any:
        nonlocal seconds
        begin = time.perf_counter()
        try:
            return search(*args, **kwargs)
        finally:
            seconds += time.perf_counter() - begin

    searcher.collection.search = timed
    try:
        (found,) = searcher.nearest(query[None], K, scope)
    finally:
        del searcher.collection.search
    return time.perf_counter() - start, seconds, found.ids, trace.steps[-1].plan


class _Bare:
    """``MilvusClient.search`` on the same collection."""

    def __init__(self, engine: Engine, index: Any) -> None:
        self._client = engine.client
        self._name = index.config.collection_name
        self._params = {"ef": 128} if engine.name == "server" else {}

    def search(self, query: Array, ids: list[str] | None = None) -> tuple[float, list[str]]:
        from fiftyone_milvus.collection.filters import ids_in

        expression = "" if ids is None else ids_in("pk", ids)
        start = time.perf_counter()
        found = self._client.search(
            self._name,
            data=[query],
            anns_field="vector",
            limit=K,
            filter=expression,
            search_params={"metric_type": "COSINE", "params": self._params},
            output_fields=["pk"],
        )
        return time.perf_counter() - start, list(found[0].ids)
