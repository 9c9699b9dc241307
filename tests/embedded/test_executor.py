"""The embedded engine and plain Milvus Lite give the same answers to the same requests."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.db import MilvusLite
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

from fiftyone_milvus.embedded.executor import build_servicer
from fiftyone_milvus.embedded.interceptors import LockingInterceptor
from fiftyone_milvus.schema.layout import Built

DIM = 8
MESSAGE_BYTES = 256 * 1024 * 1024


class Engine:
    """A servicer behind a gRPC server of its own, and a client of it."""

    def __init__(self, path: Path, *, fast: bool, database: type[MilvusLite] = MilvusLite) -> None:
        self.db = database(str(path))
        self.servicer: Any = build_servicer(self.db) if fast else MilvusServicer(self.db)
        self._server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=8),
            interceptors=[LockingInterceptor(self.servicer, self.db)],
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES),
                ("grpc.max_send_message_length", MESSAGE_BYTES),
            ],
        )
        milvus_pb2_grpc.add_MilvusServiceServicer_to_server(self.servicer, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self.client = MilvusClient(f"http://127.0.0.1:{port}")
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._stub = milvus_pb2_grpc.MilvusServiceStub(self._channel)

    def flush(self, name: str) -> None:
        """Flush, without the half second for which pymilvus sleeps afterwards."""
        status = self._stub.Flush(milvus_pb2.FlushRequest(collection_names=[name])).status
        assert status.code == 0, status.reason

    def close(self) -> None:
        self.client.close()
        self._channel.close()
        self._server.stop(0).wait()
        self.db.close()

    def settle(self, name: str) -> None:
        self.db.get_collection(name)._wait_for_bg()


class Pair:
    """Both engines. ``both`` asks each and compares."""

    def __init__(self, root: Path) -> None:
        self.fast = Engine(root / "fast.db", fast=True)
        self.plain = Engine(root / "plain.db", fast=False)
        self._names = 0

    def close(self) -> None:
        self.fast.close()
        self.plain.close()

    @property
    def clients(self) -> tuple[MilvusClient, MilvusClient]:
        return self.fast.client, self.plain.client

    def each(self, call: Any) -> list[Any]:
        return [_outcome(call, client) for client in self.clients]

    def both(self, call: Any) -> Any:
        mine, theirs = self.each(call)
        assert mine == theirs
        return mine

    def flush(self, name: str) -> None:
        self.fast.flush(name)
        self.plain.flush(name)

    def create(self, metric: str = "COSINE", index: str | None = "FLAT", **params: Any) -> str:
        self._names += 1
        name = f"c{self._names}"
        for client in self.clients:
            create(client, name, metric, index, params)
        return name

    def settle(self, name: str) -> None:
        self.fast.settle(name)
        self.plain.settle(name)


def _outcome(call: Any, client: MilvusClient) -> Any:
    try:
        return call(client)
    except MilvusException as exc:
        return type(exc).__name__, exc.code, exc.message


def create(
    client: MilvusClient, name: str, metric: str, index: str | None, params: dict[str, Any]
) -> None:
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("sample_id", DataType.VARCHAR, max_length=64)
    schema.add_field("number", DataType.INT64, nullable=True)
    index_params = None
    if index:
        index_params = client.prepare_index_params()
        # Plain Milvus Lite reads build parameters only from a parameter named "params".
        index_params.add_index(
            "vector", index_type=index, metric_type=metric, params={"params": params}
        )
    client.create_collection(name, schema=schema, index_params=index_params)
    client.load_collection(name)


def rows(pks: Any, vectors: Any, sample_ids: Any = None) -> list[dict[str, Any]]:
    return [
        {
            "pk": pk,
            "vector": vector,
            "sample_id": pk if sample_ids is None else sample_ids[i],
            "number": None if i % 3 == 0 else i,
        }
        for i, (pk, vector) in enumerate(zip(pks, vectors, strict=True))
    ]


def contents(client: MilvusClient, name: str, expr: str = "", **kwargs: Any) -> dict[str, Any]:
    found = client.query(
        name, filter=expr, output_fields=["pk", "vector", "sample_id", "number"], **kwargs
    )
    assert len({r["pk"] for r in found}) == len(found)
    return {r["pk"]: (list(r["vector"]), r["sample_id"], r["number"]) for r in found}


def count(client: MilvusClient, name: str, expr: str = "") -> int:
    return int(client.query(name, filter=expr, output_fields=["count(*)"])[0]["count(*)"])


def hits(client: MilvusClient, name: str, queries: Any, **kwargs: Any) -> list[dict[str, float]]:
    kwargs = {"output_fields": ["pk"], "limit": 10, **kwargs}
    found = client.search(name, data=queries, anns_field="vector", **kwargs)
    return [dict(zip(h.ids, h.distances, strict=True)) for h in found]


def assert_same_hits(mine: list[dict[str, float]], theirs: list[dict[str, float]]) -> None:
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        assert len(a) == len(b)
        np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-4, atol=1e-5)
        for pk in a.keys() & b.keys():
            assert a[pk] == pytest.approx(b[pk], rel=1e-4, abs=1e-5)


def oracle(model: dict[str, Any], query: Any, metric: str, k: int) -> list[float]:
    """Best scores by numpy, in double precision."""
    if not model:
        return []
    x = np.array([v[0] for v in model.values()], dtype=np.float64)
    q = np.asarray(query, dtype=np.float64)
    if metric == "L2":
        return sorted(((x - q) ** 2).sum(axis=1).tolist())[:k]
    scores = x @ q
    if metric == "COSINE":
        norms = np.linalg.norm(x, axis=1) * np.linalg.norm(q)
        scores = scores / np.where(norms == 0, 1.0, norms)
    return sorted(scores.tolist(), reverse=True)[:k]


def ids_in(field: str, ids: Any, negate: bool = False) -> str:
    return f"{field} {'not in' if negate else 'in'} {json.dumps(list(ids), ensure_ascii=False)}"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pair = Pair(tmp_path_factory.mktemp("engines"))
    yield pair
    pair.close()


@pytest.fixture(autouse=True)
def _no_silent_failures(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert "fast path failed" not in caplog.text
    assert "can't follow a write" not in caplog.text


INDEXES = [
    pytest.param(None, {}, {}, id="no-index"),
    pytest.param("FLAT", {}, {}, id="FLAT"),
    pytest.param("IVF_FLAT", {"nlist": 4}, {"nprobe": 4}, id="IVF_FLAT"),
    pytest.param("HNSW", {"M": 16, "efConstruction": 100}, {"ef": 200}, id="HNSW"),
]


@pytest.mark.parametrize("metric", ["COSINE", "IP", "L2"])
@pytest.mark.parametrize(("index", "build", "search"), INDEXES)
def test_whole_life_of_a_collection(
    pair: Pair, metric: str, index: str | None, build: Any, search: Any
) -> None:
    name = pair.create(metric, index, **build)
    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((300, DIM)).astype(np.float32)
    vectors[5] = 0
    pks = [f"p{i:03}" for i in range(300)]
    queries = rng.standard_normal((3, DIM)).astype(np.float32)
    params = {"metric_type": metric, "params": search}

    def compare() -> None:
        pair.settle(name)
        model = pair.both(lambda c: contents(c, name))
        pair.both(lambda c: count(c, name))
        pair.both(lambda c: c.get_collection_stats(name))
        for expr in ("", ids_in("pk", pks[::7]), ids_in("pk", pks[::2], negate=True), "number > 8"):
            inside = pair.both(lambda c, e=expr: contents(c, name, e))
            mine, theirs = pair.each(
                lambda c, e=expr: hits(c, name, queries, filter=e, search_params=params)
            )
            for query, found in zip(queries, mine, strict=True):
                best = oracle(inside, query, metric, 10)
                np.testing.assert_allclose(list(found.values()), best, rtol=1e-4, atol=1e-5)
            if index != "HNSW":
                assert_same_hits(mine, theirs)
        assert len(model) == pair.both(lambda c: count(c, name))

    compare()
    for client in pair.clients:
        client.insert(name, rows(pks[:200], vectors[:200]))
    compare()
    pair.flush(name)
    compare()
    for client in pair.clients:
        client.upsert(name, rows(pks[100:250], vectors[100:250] + 1))
    compare()
    for client in pair.clients:
        client.delete(name, filter=ids_in("pk", pks[150:170]))
    compare()
    pair.flush(name)
    for client in pair.clients:
        client.upsert(name, rows(pks[150:160], vectors[150:160] - 1))
    compare()
    for client in pair.clients:
        client.delete(name, filter=ids_in("sample_id", pks[:40]))
    pair.flush(name)
    compare()


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.lists(st.integers(0, 30), min_size=1, max_size=12)),
        st.tuples(st.just("upsert"), st.lists(st.integers(0, 30), min_size=1, max_size=12)),
        st.tuples(st.just("delete"), st.lists(st.integers(0, 30), min_size=1, max_size=8)),
        st.tuples(st.just("delete_by_sample"), st.lists(st.integers(0, 5), min_size=1, max_size=2)),
        st.tuples(st.just("flush"), st.just([])),
        st.tuples(st.just("read"), st.lists(st.integers(0, 30), max_size=12, unique=True)),
    ),
    min_size=1,
    max_size=14,
)


@given(
    operations=OPERATIONS, metric=st.sampled_from(["COSINE", "IP", "L2"]), seed=st.integers(0, 9)
)
@settings(max_examples=10)
def test_any_sequence_of_operations(pair: Pair, operations: Any, metric: str, seed: int) -> None:
    name = pair.create(metric, "FLAT")
    rng = np.random.default_rng(seed)
    model: dict[str, Any] = {}

    def compare(some: list[int]) -> None:
        found = pair.both(lambda c: contents(c, name))
        assert {pk: v[1:2] for pk, v in found.items()} == {pk: v[1:2] for pk, v in model.items()}
        assert pair.both(lambda c: count(c, name)) == len(model)
        query = rng.standard_normal((2, DIM)).astype(np.float32)
        for expr in ("", ids_in("pk", [f"k{i}" for i in some]), 'sample_id == "s1"'):
            inside = pair.both(lambda c, e=expr: contents(c, name, e))
            mine = hits(pair.fast.client, name, query, filter=expr, limit=7)
            for q, got in zip(query, mine, strict=True):
                best = oracle(inside, q, metric, 7)
                np.testing.assert_allclose(list(got.values()), best, rtol=1e-4, atol=1e-5)

    for operation, numbers in operations:
        pks = [f"k{i}" for i in numbers]
        if operation in ("insert", "upsert"):
            vectors = rng.standard_normal((len(pks), DIM)).astype(np.float32)
            data = rows(pks, vectors, [f"s{i % 6}" for i in numbers])
            for client in pair.clients:
                getattr(client, operation)(name, data)
            model.update({r["pk"]: (r["vector"].tolist(), r["sample_id"]) for r in data})
        elif operation == "delete":
            for client in pair.clients:
                client.delete(name, filter=ids_in("pk", pks))
            for pk in pks:
                model.pop(pk, None)
        elif operation == "delete_by_sample":
            samples = [f"s{i}" for i in numbers]
            for client in pair.clients:
                client.delete(name, filter=ids_in("sample_id", samples))
            model = {pk: v for pk, v in model.items() if v[1] not in samples}
        elif operation == "flush":
            pair.flush(name)
        else:
            compare(numbers)
    compare([1, 2, 3])
    for client in pair.clients:
        client.drop_collection(name)


ODD_IDS = ['a"b', "a'b", "a\\b", "a\tb", "a\nb", "日本語", "é", "🦁", "in", "a, b", "[x]", " "]


def test_any_text_may_be_an_id(pair: Pair) -> None:
    name = pair.create()
    vectors = np.eye(len(ODD_IDS), DIM, dtype=np.float32) + 0.1
    for client in pair.clients:
        client.insert(name, rows(ODD_IDS, vectors))
    for pk in ODD_IDS:
        assert set(pair.both(lambda c, p=pk: contents(c, name, ids_in("pk", [p])))) == {pk}
        assert set(pair.both(lambda c, p=pk: contents(c, name, ids_in("sample_id", [p])))) == {pk}
        expr = f"pk == {json.dumps(pk, ensure_ascii=False)}"
        assert set(pair.both(lambda c, e=expr: contents(c, name, e))) == {pk}
    expr = ids_in("pk", ODD_IDS[:-1], negate=True)
    assert set(pair.both(lambda c: contents(c, name, expr))) == {ODD_IDS[-1]}
    for client in pair.clients:
        client.delete(name, filter=ids_in("pk", ODD_IDS[:3]))
    assert set(pair.both(lambda c: contents(c, name))) == set(ODD_IDS[3:])


FILTERS = [
    'pk in ["k1", "k2"]',
    "pk in ['k1', 'k2']",
    'pk not in ["k1", "k2"]',
    "pk in []",
    "pk not in []",
    'pk == "k3"',
    'pk != "k3"',
    'pk > "k3"',
    'pk like "k1%"',
    'sample_id in ["s0", "s2"]',
    'sample_id not in ["s0"]',
    'sample_id == "s1" and number > 3',
    'pk in ["k1"] or pk in ["k2"]',
    'not (pk in ["k1"])',
    "number in [1, 2]",
    "number is null",
    "number not in [1, 2]",
]

BAD_FILTERS = ['nope in ["x"]', "pk in [1, 2]", "number in ['x']", "pk in", 'pk in ["a"', "pk ~ 3"]


@pytest.mark.parametrize("flushed", [False, True])
def test_filters_mean_what_they_mean_in_milvus_lite(pair: Pair, flushed: bool) -> None:
    name = pair.create()
    vectors = np.random.default_rng(1).standard_normal((20, DIM)).astype(np.float32)
    data = rows([f"k{i}" for i in range(20)], vectors, [f"s{i % 3}" for i in range(20)])
    for client in pair.clients:
        client.insert(name, data)
        if flushed:
            client.flush(name)
        client.upsert(name, data[:4])
    for expr in FILTERS + BAD_FILTERS:
        pair.both(lambda c, e=expr: contents(c, name, e))
        pair.both(lambda c, e=expr: count(c, name, e))
        mine, theirs = pair.each(lambda c, e=expr: hits(c, name, vectors[:2], filter=e))
        if expr in FILTERS:
            assert_same_hits(mine, theirs)
        else:
            assert mine == theirs


def test_get_keeps_the_order_of_the_keys(pair: Pair) -> None:
    name = pair.create()
    pks = [f"k{i}" for i in range(10)]
    for client in pair.clients:
        client.insert(name, rows(pks[:5], np.ones((5, DIM), np.float32)))
        client.flush(name)
        client.insert(name, rows(pks[5:], np.ones((5, DIM), np.float32)))
    wanted = ["k7", "k1", "nope", "k3", "k1", "k9"]
    got = pair.both(lambda c: [r["pk"] for r in c.get(name, ids=wanted, output_fields=["pk"])])
    assert got == ["k7", "k1", "k3", "k1", "k9"]


def test_paging_and_iterators_see_every_row_once(pair: Pair) -> None:
    name = pair.create()
    rng = np.random.default_rng(3)
    pks = [f"{i:04}" for i in rng.permutation(500)]
    vectors = rng.standard_normal((500, DIM)).astype(np.float32)
    for client in pair.clients:
        client.insert(name, rows(pks[:300], vectors[:300]))
        client.flush(name)
        client.insert(name, rows(pks[200:], vectors[200:]))

    def iterate(client: MilvusClient, expr: str) -> list[str]:
        found: list[str] = []
        iterator = client.query_iterator(name, batch_size=70, filter=expr, output_fields=["pk"])
        while batch := iterator.next():
            found += [r["pk"] for r in batch]
        iterator.close()
        return found

    assert pair.both(lambda c: iterate(c, "")) == sorted(pks)
    assert pair.both(lambda c: iterate(c, "number > 20"))
    client = pair.fast.client
    pages = [
        [r["pk"] for r in client.query(name, filter="", output_fields=["pk"], limit=90, offset=o)]
        for o in range(0, 540, 90)
    ]
    assert sorted(pk for page in pages for pk in page) == sorted(pks)


def test_search_with_offset_and_every_field(pair: Pair) -> None:
    name = pair.create("L2")
    vectors = np.random.default_rng(4).standard_normal((40, DIM)).astype(np.float32)
    for client in pair.clients:
        client.insert(name, rows([f"k{i}" for i in range(40)], vectors))

    def ask(client: MilvusClient, fields: Any, offset: int) -> Any:
        found = client.search(name, data=vectors[:2], limit=5, offset=offset, output_fields=fields)
        # Milvus Lite 3.2.1 returns the key as a field too, always.
        return [[{**h["entity"], "pk": h["pk"]} for h in one] for one in found]

    for fields in (None, ["*"], ["pk"], ["sample_id"], ["number", "vector"], ["nope"], []):
        for offset in (0, 3, 38, 60):
            pair.both(lambda c, f=fields, o=offset: ask(c, f, o))


def test_k_beyond_the_rows_and_an_empty_collection(pair: Pair) -> None:
    name = pair.create()
    query = np.ones((2, DIM), np.float32)
    assert pair.both(lambda c: hits(c, name, query)) == [{}, {}]
    assert pair.both(lambda c: contents(c, name)) == {}
    assert pair.both(lambda c: count(c, name)) == 0
    for client in pair.clients:
        client.insert(name, rows(["a", "b"], np.eye(2, DIM, dtype=np.float32)))
    assert [len(h) for h in hits(pair.fast.client, name, query, limit=5000)] == [2, 2]
    for client in pair.clients:
        client.delete(name, filter='pk in ["a", "b"]')
    assert pair.both(lambda c: hits(c, name, query)) == [{}, {}]
    pair.flush(name)
    assert pair.both(lambda c: hits(c, name, query)) == [{}, {}]
    assert pair.both(lambda c: count(c, name)) == 0


def test_a_released_collection_gives_the_same_errors(pair: Pair) -> None:
    name = pair.create()
    for client in pair.clients:
        client.insert(name, rows(["a"], np.ones((1, DIM), np.float32)))
        client.release_collection(name)
    kind, code, _ = pair.both(lambda c: hits(c, name, np.ones((1, DIM), np.float32)))
    assert (kind, code) == ("MilvusException", 101)
    assert pair.both(lambda c: contents(c, name))[1] == 101
    pair.both(lambda c: count(c, name))
    for client in pair.clients:
        client.delete(name, filter='sample_id in ["a"]')
        client.load_collection(name)
    assert pair.both(lambda c: count(c, name)) == 0


def test_bad_writes_are_refused_alike_and_leave_nothing(pair: Pair) -> None:
    name = pair.create()
    good = np.ones((2, DIM), np.float32)
    too_long = rows(["a" * 65, "b"], good)
    assert pair.both(lambda c: c.insert(name, too_long))[0] == "MilvusException"
    assert pair.both(lambda c: count(c, name)) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", ["insert", "upsert"])
def test_vectors_must_be_finite(pair: Pair, bad: float, method: str) -> None:
    name = pair.create()
    vectors = np.ones((3, DIM), np.float32)
    vectors[1, 2] = bad
    client = pair.fast.client
    with pytest.raises(MilvusException, match=r"vector.*row 1 of 3 holds .*finite"):
        getattr(client, method)(name, rows("abc", vectors))
    assert count(client, name) == 0


def test_partitions_are_milvus_lites(pair: Pair) -> None:
    name = pair.create()
    vectors = np.random.default_rng(5).standard_normal((12, DIM)).astype(np.float32)
    pks = [f"k{i}" for i in range(12)]
    for client in pair.clients:
        client.create_partition(name, "left")
        client.insert(name, rows(pks[:8], vectors[:8]))
        client.flush(name)
        client.upsert(name, rows(pks[4:], vectors[4:]), partition_name="left")
    pair.both(lambda c: contents(c, name))
    pair.both(lambda c: contents(c, name, partition_names=["left"]))
    assert_same_hits(
        *pair.each(lambda c: hits(c, name, vectors[:2], partition_names=["left"], limit=20))
    )
    assert_same_hits(*pair.each(lambda c: hits(c, name, vectors[:2], limit=20)))
    pair.flush(name)
    pair.both(lambda c: contents(c, name))
    for client in pair.clients:
        client.release_collection(name)
        client.drop_partition(name, "left")
        client.load_collection(name)
    # What "left" had replaced is there again: so it is in Milvus Lite.
    assert set(pair.both(lambda c: contents(c, name))) == set(pks[:8])


def test_compaction_and_reopening_lose_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    engine = Engine(tmp_path / "data.db", fast=True)
    create(engine.client, "c", "L2", "IVF_FLAT", {"nlist": 8})
    model: dict[str, Any] = {}
    for round_ in range(9):
        pks = [f"k{i}" for i in rng.integers(0, 400, 80)]
        vectors = rng.standard_normal((80, DIM)).astype(np.float32)
        engine.client.upsert("c", rows(pks, vectors))
        model.update(zip(pks, vectors.tolist(), strict=True))
        gone = [f"k{i}" for i in rng.integers(0, 400, 10)]
        engine.client.delete("c", filter=ids_in("pk", gone))
        for pk in gone:
            model.pop(pk, None)
        engine.flush("c")
        if round_ % 3 == 2:
            engine.settle("c")
        assert {pk: v[0] for pk, v in contents(engine.client, "c").items()} == model
    assert len(engine.db.get_collection("c")._segments_snapshot()) < 9
    engine.close()

    for fast in (False, True):
        engine = Engine(tmp_path / "data.db", fast=fast)
        engine.client.load_collection("c")
        assert {pk: v[0] for pk, v in contents(engine.client, "c").items()} == model
        engine.close()


def test_readers_during_writes_see_whole_writes(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "data.db", fast=True)
    create(engine.client, "c", "COSINE", "FLAT", {})
    vectors = np.random.default_rng(8).standard_normal((50, DIM)).astype(np.float32)
    engine.client.insert("c", rows([f"k{i}" for i in range(50)], vectors))
    stop = threading.Event()
    seen: set[int] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(len(hits(engine.client, "c", vectors[:1], limit=1000)[0]))
            seen.add(count(engine.client, "c"))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    with contextlib.ExitStack() as stack:
        stack.callback(stop.set)
        for _ in range(40):
            engine.client.upsert("c", rows([f"k{i}" for i in range(50)], vectors))
            engine.flush("c")
    for reader in readers:
        reader.join()
    engine.close()
    assert seen == {50}


def test_common_requests_take_the_fast_paths(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "data.db", fast=True)
    client = engine.client
    create(client, "c", "COSINE", "FLAT", {})
    vectors = np.ones((4, DIM), np.float32)
    client.insert("c", rows("abcd", vectors))
    client.upsert("c", rows("ab", vectors[:2]))
    client.delete("c", filter='pk in ["d"]')
    client.delete("c", ids=["c"])
    client.delete("c", filter='sample_id in ["x"]')
    engine.flush("c")
    for expr in ("", 'pk in ["a"]', 'pk not in ["a"]', 'sample_id in ["a"]', "number > 0"):
        hits(client, "c", vectors[:1], filter=expr)
        contents(client, "c", expr)
        count(client, "c", expr)
    client.get_collection_stats("c")
    assert engine.servicer.delegated == {}
    client.search("c", data=vectors[:1], limit=3, group_by_field="sample_id")
    assert sum(engine.servicer.delegated.values()) == 1
    engine.close()


def test_build_parameters_reach_the_index(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "data.db", fast=True)
    create(engine.client, "c", "L2", None, {})
    index_params = engine.client.prepare_index_params()
    index_params.add_index("vector", index_type="IVF_FLAT", metric_type="L2", params={"nlist": 5})
    engine.client.create_index("c", index_params)
    assert engine.client.describe_index("c", "vector")["params"] == {"nlist": 5}
    vectors = np.random.default_rng(9).standard_normal((300, DIM)).astype(np.float32)
    engine.client.insert("c", rows([f"k{i}" for i in range(300)], vectors))
    described = engine.client.describe_index("c", "vector")
    # Nothing waits for an index while the rows are in no file
    assert (described["indexed_rows"], described["pending_index_rows"]) == (0, 0)
    assert Built.of(described).share == 1
    engine.flush("c")
    engine.settle("c")
    described = engine.client.describe_index("c", "vector")
    assert (described["indexed_rows"], described["pending_index_rows"]) == (300, 0)
    assert Built.of(described).share == 1
    (segment,) = engine.db.get_collection("c")._segments_snapshot()
    assert segment.indexes["vector"]._index.nlist == 5
    assert engine.client.describe_index("c", "vector")["total_rows"] == 300
    engine.close()


def test_l2_far_from_the_origin_stays_exact(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "data.db", fast=True)
    create(engine.client, "c", "L2", "FLAT", {})
    vectors = np.random.default_rng(10).standard_normal((2000, DIM)).astype(np.float32) + 1000
    engine.client.insert("c", rows([f"k{i}" for i in range(2000)], vectors))
    for flush in (False, True):
        if flush:
            engine.flush("c")
        for expr in ("", ids_in("sample_id", [f"k{i}" for i in range(0, 2000, 20)])):
            found = hits(engine.client, "c", vectors[:40], filter=expr)
            inside = contents(engine.client, "c", expr)
            for query, got in zip(vectors[:40], found, strict=True):
                best = oracle(inside, query, "L2", 10)
                np.testing.assert_allclose(list(got.values()), best, rtol=1e-4, atol=1e-6)
    engine.close()
