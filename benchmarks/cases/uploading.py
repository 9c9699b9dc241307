"""Uploading an array: next to bare pymilvus on each of its public routes and to the built-in."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.cases.building import create
from benchmarks.report import Goal, Table, s, times
from benchmarks.timing import Contender, Ratio, take_turns
from benchmarks.world import Engine, World, new_index

REPEATS = 3
REPEATS_LARGE = 1
INDEX = {"index_type": "FLAT"}
BUILT_IN = "benchmarks.flat.MilvusSimilarityConfig"
BUILT_IN_ROWS = 200_000
"""The built-in makes a Python object of each number: of a million vectors, in 16 GB."""

Send = Callable[[int], None]
"""Writes the rows from there on."""
_number = itertools.count()


def run(world: World) -> list[Table]:
    tables = []
    for engine in world.engines:
        contenders: dict[str, Contender] = {
            "ours, add_to_index": _add(engine, engine.kwargs() | INDEX),
            "ours, upserting as sync does": _writer(engine),
        }
        large = world.rows > BUILT_IN_ROWS
        if not large:
            built_in = engine.kwargs(built_in=True) | {"config_cls": BUILT_IN}
            contenders["built-in, add_to_index"] = _add(engine, built_in)
        for threads in (1, 2, 4):
            contenders[f"bare, insert of rows, {threads} at once"] = _rows(
                engine, "insert", threads
            )
        contenders["bare, upsert of rows, 2 at once"] = _rows(engine, "upsert", 2)
        contenders["bare, ORM columns, 2 at once"] = _columns(engine, 2)
        found = take_turns(contenders, REPEATS_LARGE if large else REPEATS, warmup=0)
        ours, upserting = found["ours, add_to_index"], found["ours, upserting as sync does"]
        bare = [name for name in found if name.startswith("bare")]
        fastest = min(bare, key=lambda name: found[name].min)
        rows = [
            (name, s(t.min), s(t.median), f"{world.rows / t.min / 1e3:.1f}k",
             times(Ratio.of(t, ours).median))
            for name, t in found.items()
        ]  # fmt: skip
        what = f"upload of {world.rows:,}, {engine.name}"
        goals = [
            _goal(f"{what}: {fastest} / ours", ">= 0.85", found[fastest], ours),
            _goal(
                f"{what}: bare, upsert of rows, 2 at once / ours upserting",
                ">= 0.85",
                found["bare, upsert of rows, 2 at once"],
                upserting,
            ),
        ]
        if "built-in, add_to_index" in found:
            goals.append(
                _goal(f"{what}: built-in / ours", ">= 3", found["built-in, add_to_index"], ours)
            )
        columns = ("route", "s (min)", "(median)", "rows/s", "/ ours")
        raw = {name: t.seconds for name, t in found.items()}
        name = f"uploading-{engine.name}{'-large' if large else ''}"
        tables.append(Table(name, columns, rows, goals, raw))
    return tables


def _goal(text: str, wanted: str, one: Any, other: Any) -> Goal:
    ratio = Ratio.of(one, other)
    return Goal(text, wanted, ratio.min, ratio.median)


def _add(engine: Engine, kwargs: dict[str, Any]) -> Contender:
    world = engine.world

    def contender() -> float:
        key = f"upload_{next(_number)}"
        index = new_index(world.dataset, key, kwargs)
        start = time.perf_counter()
        index.add_to_index(world.vectors, world.ids)
        seconds = time.perf_counter() - start
        assert index._kneighbors(world.vectors[0], k=1)[0] == [world.ids[0]]
        index.cleanup()
        world.dataset.delete_brain_run(key)
        return seconds

    return contender


def _writer(engine: Engine) -> Contender:
    """Creates a collection and upserts the rows, as sync() does with what it has embedded."""
    from fiftyone_milvus.collection import CollectionSpec, MilvusCollection
    from fiftyone_milvus.writing.validation import check
    from fiftyone_milvus.writing.writer import Writer, flush_if_due

    world = engine.world
    connection = _connection(engine)

    def contender() -> float:
        collection = MilvusCollection(connection, f"upload_{next(_number)}")
        start = time.perf_counter()
        collection.create(CollectionSpec(world.dim, "COSINE", "FLAT"))
        with Writer(collection, replace=True) as writer:
            ids, vectors = world.ids, world.vectors
            writer.add(check(vectors, ids, None, metric="cosine", dimension=world.dim))
        flush_if_due(collection, writer.written)
        seconds = time.perf_counter() - start
        collection.drop()
        return seconds

    return contender


def _connection(engine: Engine) -> Any:
    from fiftyone_milvus.connection import Settings, connect, resolve

    return connect(resolve(Settings.parse({"uri": engine.uri}), None))


def _bare(engine: Engine, sender: Callable[[str], Send], threads: int) -> Contender:
    """Create, write and flush with pymilvus alone, in requests of 4 MB."""
    world, client = engine.world, engine.client
    size = (4 << 20) // (4 * world.dim)

    def contender() -> float:
        name = f"bare_{next(_number)}"
        start = time.perf_counter()
        create(client, name, world.dim, "FLAT")
        send = sender(name)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(send, range(0, world.rows, size)))
        client.flush(name)
        seconds = time.perf_counter() - start
        client.drop_collection(name)
        return seconds

    return contender


def _rows(engine: Engine, how: str, threads: int) -> Contender:
    world, write = engine.world, getattr(engine.client, how)
    size = (4 << 20) // (4 * world.dim)

    def sender(name: str) -> Send:
        def send(start: int) -> None:
            part = range(start, min(start + size, world.rows))
            write(
                name,
                [
                    {"pk": world.ids[i], "vector": world.vectors[i], "sample_id": world.ids[i]}
                    for i in part
                ],
            )

        return send

    return _bare(engine, sender, threads)


def _columns(engine: Engine, threads: int) -> Contender:
    world, connection = engine.world, _connection(engine)
    size = (4 << 20) // (4 * world.dim)

    def sender(name: str) -> Send:
        collection = connection.collection(name)

        def send(start: int) -> None:
            part = slice(start, min(start + size, world.rows))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ids = world.ids[part]
                collection.insert([ids, world.vectors[part].tolist(), ids])

        return send

    return _bare(engine, sender, threads)
