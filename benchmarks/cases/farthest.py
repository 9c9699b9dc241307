"""The least similar few of the whole index and of a view, next to a ranking of everything.

The memory is that of the client alone.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.report import Goal, Table, ms
from benchmarks.vectors import near
from benchmarks.world import Engine, World

K = 25
REPEATS = 5


def run(world: World) -> list[Table]:
    return [_table(world, engine) for engine in world.engines]


def _table(world: World, engine: Engine) -> Table:
    from fiftyone import ViewField as F

    queries = near(world.vectors, REPEATS, seed=54)
    tenth = world.dataset.match(F("share") < 0.1)
    rows, goals, raw = [], [], {}
    for metric in ("cosine", "euclidean"):
        index = engine.ours if metric == "cosine" else engine.of_metric(metric)
        for title, view in (("whole index", world.dataset), ("10% view", tenth)):

            def search(i: int, k: int = K, view: Any = view, index: Any = index) -> None:
                with index.use_view(view):
                    index._kneighbors(queries[i], k=k, reverse=True)

            first, grown = _measured(search, 0)
            times = [_measured(search, i)[0] for i in range(REPEATS)]
            median = statistics.median(times)
            rows.append((f"{metric}, {title}", ms(first), ms(median), f"{grown / 1e6:,.0f}"))
            raw[f"{metric}, {title}"] = {"first": first, "times": times, "bytes": grown}
            if engine.name == "embedded":
                text = f"least similar, {metric}, {title}, s"
                goals.append(Goal(text, "<= 1", min(times), median))
    title = f"least similar {K} of {world.rows:,} x {world.dim}"
    columns = (title, "first ms", "ms", "MB more at the client")
    return Table(f"farthest-{engine.name}", columns, rows, goals, raw)


def _measured(work: Callable[[int], None], i: int) -> tuple[float, int]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    work(i)
    seconds = time.perf_counter() - start
    return seconds, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
