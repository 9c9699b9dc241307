"""One query end to end on the embedded engine, and what Milvus Lite alone takes for its part."""

from __future__ import annotations

from functools import partial
from typing import Any

from pymilvus import MilvusClient

from benchmarks.cases.building import create
from benchmarks.report import Table, ms, times
from benchmarks.timing import Ratio, take_turns, timed
from benchmarks.vectors import Array, near
from benchmarks.world import Engine, World, finish_lite

K = 25
KINDS = ("FLAT", "IVF_FLAT", "HNSW")


def run(world: World) -> list[Table]:
    engines = [e for e in world.engines if e.name == "embedded"]
    return [table for engine in engines for table in (_end_to_end(engine), _search_only(engine))]


def _end_to_end(engine: Engine) -> Table:
    dataset, query = engine.world.dataset, near(engine.world.vectors, 1)[0]
    keys = {"ours": engine.ours.key, "built-in": engine.built_in.key}
    contenders = {name: timed(partial(_sort, dataset, query, key)) for name, key in keys.items()}
    found = take_turns(contenders, 30, warmup=2)
    ratio = Ratio.of(found["built-in"], found["ours"])
    rows = [(name, ms(t.min), ms(t.median)) for name, t in found.items()]
    rows.append(("built-in / ours", times(ratio.min), times(ratio.median)))
    raw = {n: t.seconds for n, t in found.items()}
    return Table("sorting", ("sort_by_similarity", "ms (min)", "(median)"), rows, (), raw)


def _sort(dataset: Any, query: Array, key: str) -> list[str]:
    return list(dataset.sort_by_similarity(query, k=K, brain_key=key).values("id"))


def _search_only(engine: Engine) -> Table:
    """The same bare search of Milvus Lite in this process and of the service, by index type."""
    world = engine.world
    lite = MilvusClient(str(world.root / "lite.db"))
    rows, raw = [], {}
    for kind in KINDS:
        contenders = {}
        for who, client in (("lite", lite), ("service", engine.client)):
            name = f"only_{kind}"
            _fill(client, name, kind, world)
            contenders[who] = timed(partial(_search, client, name, world))
        found = take_turns(contenders, 30, warmup=2)
        one, two = found["lite"], found["service"]
        ratio = Ratio.of(one, two)
        rows.append(
            (kind, ms(one.min), ms(one.median), ms(two.min), ms(two.median), times(ratio.min),
             f"{100 * (1 - two.min / one.min):.0f} %")
        )  # fmt: skip
        raw[kind] = {n: t.seconds for n, t in found.items()}
        for client in (lite, engine.client):
            client.drop_collection(f"only_{kind}")
    lite.close()
    columns = ("index", "Milvus Lite in process ms (min)", "(median)", "our service ms (min)",
               "(median)", "Lite / service", "saved")  # fmt: skip
    return Table("sorting-engine", columns, rows, (), raw)


def _fill(client: MilvusClient, name: str, kind: str, world: World) -> None:
    create(client, name, world.dim, kind)
    for start in range(0, world.rows, 2_000):
        stop = min(start + 2_000, world.rows)
        data: list[dict[str, Any]] = [
            {"pk": world.ids[i], "vector": world.vectors[i], "sample_id": world.ids[i]}
            for i in range(start, stop)
        ]
        client.insert(name, data)
    client.flush(name)
    finish_lite(client, name)


def _search(client: MilvusClient, name: str, world: World) -> None:
    client.search(
        name,
        [world.vectors[7]],
        limit=K,
        search_params={"metric_type": "COSINE", "params": {"nprobe": 64, "ef": 128}},
        output_fields=["pk"],
    )
