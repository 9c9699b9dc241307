"""Views on a server right after an upload, and when it has indexed: recall and time.

With 5 to 5,000 clusters, a view has more and fewer rows of the query's cluster than are asked for.
In the latter case, the rest of the answer is far. 100,000 vectors at most. Beside them, what Milvus
finds by itself in the whole index.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from benchmarks.report import Goal, Table, ms
from benchmarks.vectors import Array, clustered, near, nearest, recall
from benchmarks.world import METRIC, Engine, World, new_index

K = 25
QUERIES = 10
CLUSTERS = (5, 50, 500, 5_000)
SHARES = (0.01, 0.1, 0.5, 0.9)
MOST = 100_000
PART = 4_000
"""An upload of so many rows does not have them sealed."""


def run(world: World) -> list[Table]:
    return [_table(world, engine) for engine in world.engines if engine.name == "server"]


def _table(world: World, engine: Engine) -> Table:
    count = min(MOST, world.rows)
    ids = world.ids[:count]
    shares = np.array(world.dataset.values("share"))[:count]
    rows, goals, raw = [], [], {}
    for clusters in CLUSTERS:
        vectors = clustered(count, world.dim, clusters=clusters)[0]
        queries = near(vectors, QUERIES, seed=54)
        index = new_index(world.dataset, f"minutes_{clusters}", engine.kwargs())
        for start in range(0, count, PART):
            index.add_to_index(vectors[start : start + PART], ids[start : start + PART])
        for state in ("growing", "indexed"):
            if state == "indexed":
                index._collection.wait_until_built()
            cells, promised = [], []
            for share in (*SHARES, None, "Milvus"):
                inside = np.full(count, True) if share in (None, "Milvus") else shares < share
                if share == "Milvus":
                    seconds, found = _by_itself(index, queries)
                else:
                    seconds, found = _searched(index, queries, share)
                right = recall(
                    [[world.row_of[i] for i in f] for f in found],
                    nearest(vectors, queries, K, inside),
                )
                cells.append(f"{ms(statistics.median(seconds))} ms, {right:.3f}")
                raw[f"{clusters}, {state}, {share}"] = {"seconds": seconds, "recall": right}
                if share != "Milvus" and (state == "growing" or share is not None):
                    promised.append(right)
            text = f"least recall@{K} of views of data in {clusters:,} clusters, {state}"
            goals.append(Goal(text, ">= 0.99", min(promised), min(promised), unit=""))
            rows.append((f"{clusters:,}", state, *cells))
        world.dataset.delete_brain_run(index.key)
        index.cleanup()
    views = (*(f"{share:.0%} view" for share in SHARES), "whole index", "Milvus by itself")
    title = f"clusters of {count:,} x {world.dim}"
    return Table("first-minutes", (title, "rows are", *views), rows, goals, raw)


def _by_itself(index: Any, queries: Array) -> tuple[list[float], list[list[str]]]:
    from fiftyone_milvus.search.calls import Calls

    calls = Calls(index._collection, METRIC)
    seconds, found = [], []
    for query in queries:
        start = time.perf_counter()
        (answer,) = calls.search(query[None], K)
        seconds.append(time.perf_counter() - start)
        found.append(answer.ids)
    return seconds, found


def _searched(
    index: Any, queries: Array, share: float | None
) -> tuple[list[float], list[list[str]]]:
    from fiftyone import ViewField as F

    view = index._samples if share is None else index._samples.match(F("share") < share)
    seconds, found = [], []
    for query in queries:
        start = time.perf_counter()
        with index.use_view(view):
            ids, _ = index._kneighbors(query, k=K)
        seconds.append(time.perf_counter() - start)
        found.append(ids)
    return seconds, found
