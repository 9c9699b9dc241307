"""Queries by vector, next to bare ``MilvusClient.search`` with the same parameters."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.report import Goal, Table, ms, times
from benchmarks.timing import Ratio, take_turns, timed
from benchmarks.vectors import Array, near
from benchmarks.world import Engine, World
from fiftyone_milvus.schema.index_types import search_params

K = 25
QUERIES = 1_000


def bare_search(engine: Engine, index: Any, queries: Array, k: int = K) -> list[Any]:
    """What a user of pymilvus writes for the same answer."""
    layout = index._collection.layout
    found = engine.client.search(
        index.config.collection_name,
        data=list(queries),
        anns_field="vector",
        limit=k,
        search_params={
            "metric_type": layout.metric_type,
            "params": search_params(layout.index_type, None, k),
        },
        output_fields=["pk"],
        consistency_level=index.config.consistency_level,
    )
    return [(hits.ids, hits.distances) for hits in found]


def run(world: World) -> list[Table]:
    queries = near(world.vectors, QUERIES)
    rows, goals, raw = [], [], {}
    for engine in world.engines:
        index = engine.ours
        for title, data, repeats in (
            ("one query", queries[:1], 300),
            ("1,000 queries", queries, 7),
        ):
            contenders = {
                "ours": timed(partial(index._kneighbors, data if len(data) > 1 else data[0], k=K)),
                "bare": timed(partial(bare_search, engine, index, data)),
            }
            found = take_turns(contenders, repeats, warmup=2)
            ours, bare = found["ours"], found["bare"]
            ratio = Ratio.of(ours, bare)
            rows.append(
                (engine.name, title, ms(ours.min), ms(ours.median), ms(bare.min), ms(bare.median),
                 times(ratio.min), times(ratio.median))
            )  # fmt: skip
            goals.append(
                Goal(f"{title}, {engine.name}: ours / bare", "<= 1.15", ratio.min, ratio.median)
            )
            raw[f"{engine.name} {title}"] = {n: t.seconds for n, t in found.items()}
    columns = ("engine", "search", "ours ms (min)", "(median)", "bare ms (min)", "(median)",
               "ratio (min)", "(median)")  # fmt: skip
    return [Table("querying", columns, rows, goals, raw)]
