"""Building a large index from an array, next to bare pymilvus and the built-in backend."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from pymilvus import DataType, MilvusClient
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

from benchmarks.report import Goal, Table, s, times
from benchmarks.timing import Contender, Ratio, take_turns
from benchmarks.world import Engine, World, new_index, wait_indexed
from fiftyone_milvus.schema.index_types import build_params, default_index_type

REPEATS = 3
_number = itertools.count()


def run(world: World) -> list[Table]:
    tables = []
    for engine in world.engines:
        ready: dict[str, list[float]] = {}
        contenders: dict[str, Contender] = {
            "ours": _through_fiftyone(engine, ready, built_in=False),
            "built-in": _through_fiftyone(engine, ready, built_in=True),
        }
        for title, insert in _bare_routes(engine).items():
            contenders[title] = _bare(engine, title, insert, ready)
        found = take_turns(contenders, REPEATS, warmup=0)
        fastest = min((n for n in found if n.startswith("bare")), key=lambda n: found[n].min)
        rows = [
            (name, s(t.min), s(t.median), f"{world.rows / t.min / 1e3:.1f}k", s(min(ready[name])),
             times(Ratio.of(t, found["ours"]).min))
            for name, t in found.items()
        ]  # fmt: skip
        bare = Ratio.of(found["ours"], found[fastest])
        built_in = Ratio.of(found["built-in"], found["ours"])
        goals = [
            Goal(f"build, {engine.name}: ours / {fastest}", "<= 1.2", bare.min, bare.median),
            Goal(f"build, {engine.name}: built-in / ours", ">= 2", built_in.min, built_in.median),
        ]
        columns = ("route", "s (min)", "(median)", "rows/s", "until ready s", "/ ours")
        raw = {"seconds": {n: t.seconds for n, t in found.items()}, "ready": ready}
        tables.append(Table(f"building-{engine.name}", columns, rows, goals, raw))
    return tables


def _through_fiftyone(
    engine: Engine, ready: dict[str, list[float]], *, built_in: bool
) -> Contender:
    world = engine.world
    name = "built-in" if built_in else "ours"

    def contender() -> float:
        key = f"build_{next(_number)}"
        index = new_index(world.dataset, key, engine.kwargs(built_in=built_in))
        start = time.perf_counter()
        index.add_to_index(world.vectors, world.ids)
        seconds = time.perf_counter() - start
        if engine.name == "server":
            wait_indexed(engine.client, index.config.collection_name, world.rows)
        index._kneighbors(world.vectors[0], k=10)
        ready.setdefault(name, []).append(time.perf_counter() - start)
        index.cleanup()
        world.dataset.delete_brain_run(key)
        return seconds

    return contender


Insert = Callable[[MilvusClient, str], None]


def _bare(engine: Engine, title: str, insert: Insert, ready: dict[str, list[float]]) -> Contender:
    """Create, insert and flush with pymilvus alone, with the same index."""
    client = engine.client
    index_type = default_index_type(engine.ours.connection.engine)

    def contender() -> float:
        name = f"bare_{next(_number)}"
        start = time.perf_counter()
        create(client, name, engine.world.dim, index_type)
        insert(client, name)
        client.flush(name)
        seconds = time.perf_counter() - start
        if engine.name == "server":
            wait_indexed(client, name, engine.world.rows)
        client.search(name, [engine.world.vectors[0]], limit=10, output_fields=["pk"])
        ready.setdefault(title, []).append(time.perf_counter() - start)
        client.drop_collection(name)
        return seconds

    return contender


def create(
    client: MilvusClient,
    name: str,
    dim: int,
    index_type: str,
    extra: dict[str, str] | None = None,
) -> None:
    """Makes a collection such as this package makes; ``extra`` goes to it and to its index."""
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=512)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    schema.add_field("sample_id", DataType.VARCHAR, max_length=512)
    index = client.prepare_index_params()
    params = {**build_params(index_type, None, dim), **(extra or {})}
    index.add_index("vector", index_type=index_type, metric_type="COSINE", params=params)
    client.create_collection(
        name, schema=schema, consistency_level="Session", properties=extra or {}
    )
    client.create_index(name, index, sync=False)
    client.load_collection(name, _async=True)


def _bare_routes(engine: Engine) -> dict[str, Insert]:
    world = engine.world

    def rows(start: int, size: int) -> list[dict[str, Any]]:
        stop = min(start + size, world.rows)
        return [
            {"pk": world.ids[i], "vector": world.vectors[i], "sample_id": world.ids[i]}
            for i in range(start, stop)
        ]

    def one_by_one(size: int) -> Insert:
        def insert(client: MilvusClient, name: str) -> None:
            for start in range(0, world.rows, size):
                client.insert(name, rows(start, size))

        return insert

    def two_at_a_time(size: int) -> Insert:
        def insert(client: MilvusClient, name: str) -> None:
            with ThreadPoolExecutor(2) as pool:
                starts = range(0, world.rows, size)
                list(pool.map(lambda start: client.insert(name, rows(start, size)), starts))

        return insert

    return {
        "bare, 1,000 rows": one_by_one(1_000),
        "bare, 4,000 rows": one_by_one(4_000),
        "bare, 2,000 rows, 2 threads": two_at_a_time(2_000),
        "gRPC without pymilvus, 2,000 rows, 2 threads": _without_pymilvus(engine, 2_000),
    }


def _without_pymilvus(engine: Engine, size: int) -> Insert:
    """Requests made by hand: what is left when packing costs nothing. No public API."""
    world = engine.world

    def request(name: str, start: int) -> Any:
        part = slice(start, min(start + size, world.rows))
        vectors = world.vectors[part]
        message = milvus_pb2.InsertRequest(collection_name=name, num_rows=len(vectors))
        for field_name in ("pk", "sample_id"):
            field = message.fields_data.add(field_name=field_name, type=DataType.VARCHAR)
            field.scalars.string_data.data.extend(world.ids[part])
        field = message.fields_data.add(field_name="vector", type=DataType.FLOAT_VECTOR)
        field.vectors.dim = world.dim
        # FloatArray.data, field 1, packed: its length as a varint, then the floats as they are
        data, length, prefix = vectors.tobytes(), vectors.nbytes, bytearray(b"\x0a")
        while length > 127:
            prefix.append(length & 127 | 128)
            length >>= 7
        prefix.append(length)
        field.vectors.float_vector.MergeFromString(bytes(prefix) + data)
        return message

    def insert(client: MilvusClient, name: str) -> None:
        address, metadata = engine.endpoint()
        with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(2) as pool:
            stub = milvus_pb2_grpc.MilvusServiceStub(channel)

            def send(start: int) -> None:
                answer = stub.Insert(request(name, start), metadata=metadata)
                if answer.status.code or answer.insert_cnt == 0:
                    raise RuntimeError(answer.status.reason)

            list(pool.map(send, range(0, world.rows, size)))

    return insert
