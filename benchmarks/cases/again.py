"""The second search in a view: what it costs to know its IDs already.

Each view is searched through ``view.sort_by_similarity(...).values("id")`` once with nothing kept,
and then again and again with other queries.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from benchmarks.report import Goal, Table, ms
from benchmarks.vectors import Array, nearest, recall
from benchmarks.views import Case, queries_and_views
from benchmarks.world import Engine, World

K = 25
QUERIES = 10


def run(world: World) -> list[Table]:
    return [_table(world, engine) for engine in world.engines]


def _table(world: World, engine: Engine) -> Table:
    from fiftyone_milvus.dataset.kept_ids import KEPT

    index = engine.ours
    queries, cases = queries_and_views(world, QUERIES)
    rows, goals, raw = [], [], {}
    whole = statistics.median(_times(world, index, cases[0], queries)[0])
    for case in cases:
        KEPT.clear()
        index._facts = type(index._facts)()
        truth = nearest(world.vectors, queries, min(K, int(case.inside.sum())), case.inside)
        (first, *_), _ = _times(world, index, case, queries)
        again, found = _times(world, index, case, queries)
        right = recall(found, truth)
        plan = index.explain(queries[0], K, case.view).plan
        median = statistics.median(again)
        kept = f"{KEPT.nbytes / 1e6:.1f}"
        rows.append(
            (case.title, ms(first), ms(median), f"{median / whole:.2f}", plan, kept, f"{right:.3f}")
        )
        raw[case.title] = {"first": first, "again": again, "plan": plan, "recall": right}
        where = f"({case.title}), {engine.name}"
        goals.append(
            Goal(f"second search / whole index {where}", "<= 2", min(again) / whole, median / whole)
        )
        goals.append(Goal(f"recall@{K} {where}", ">= 0.99", right, right, unit=""))
    title = f"view of {world.rows:,} x {world.dim}"
    columns = (title, "first ms", "again ms", "again / whole", "plan", "IDs MB", "recall")
    return Table(f"again-{engine.name}", columns, rows, goals, raw)


def _times(
    world: World, index: Any, case: Case, queries: Array
) -> tuple[list[float], list[list[int]]]:
    times, found = [], []
    for query in queries:
        start = time.perf_counter()
        ids = case.view.sort_by_similarity(query, k=K, brain_key=index.key).values("id")
        times.append(time.perf_counter() - start)
        found.append([world.row_of[i] for i in ids])
    return times, found
