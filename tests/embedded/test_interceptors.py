"""What requests pass before Milvus Lite, with the servicer that ships and with the plain one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from milvus_lite import db
from pymilvus import MilvusClient

from fiftyone_milvus.connection import Settings
from fiftyone_milvus.connection.failures import translate
from fiftyone_milvus.connection.target import Target
from fiftyone_milvus.embedded import locks
from fiftyone_milvus.embedded.database import Database
from tests.embedded.child import DIMENSION, count, create, rows, vector
from tests.embedded.served import APPLY, FLUSH
from tests.support.waiting import wait_until


def nearest(client: MilvusClient, key: int, **options: Any) -> list[tuple[str, float]]:
    (hits,) = client.search("rows", [vector(key)], limit=5, output_fields=["pk"], **options)
    return [(hit["pk"], hit["distance"]) for hit in hits]


def distances(hits: list[tuple[str, float]]) -> Any:
    return pytest.approx([distance for _, distance in hits], rel=1e-5)


def oracle(keys: range, key: int) -> list[float]:
    x = np.array([vector(k) for k in keys])
    return sorted(((x - np.array(vector(key))) ** 2).sum(axis=1).tolist())[:5]


@pytest.mark.parametrize("step", [APPLY, FLUSH])
def test_reads_during_a_slow_write_return_the_state_before_it_at_once(served, step):
    client = served.client
    client.upsert("rows", rows(range(20)))
    assert count(client) == 20
    with served.halted(step) as there:
        if step == APPLY:
            writing = served.run(client.upsert, "rows", rows(range(10, 30)))
        else:
            writing = served.run(served.flush)
        assert there.wait(60)

        assert count(client) == count(client, "other_name") == 20
        assert distances(nearest(client, 25)) == oracle(range(20), 25)
        assert len(client.query("rows", filter='pk in ["3", "25"]')) == 1
        assert client.get_collection_stats("rows")["row_count"] == 20
        assert client.describe_index("rows", "vector")["total_rows"] == 20
        assert client.describe_collection("rows")["collection_name"] == "rows"
        assert "Loaded" in str(client.get_load_state("rows"))
        assert client.list_partitions("rows") == ["_default"]
        assert not writing.done()

    writing.result(60)
    end = 30 if step == APPLY else 20
    assert count(client) == end
    assert distances(nearest(client, 25)) == oracle(range(end), 25)


def test_a_slow_write_holds_up_no_other_collection(served):
    client = served.client
    with served.halted(APPLY) as there:
        writing = served.run(client.upsert, "rows", rows(range(20)))
        assert there.wait(60)

        client.upsert("others", rows(range(5)))
        assert count(client, "others") == 5
        dropping = served.run(client.drop_collection, "rows")  # waits for the write
        create(client, "third")
        assert set(client.list_collections()) == {"rows", "others", "third"}
        assert not dropping.done()
        assert not writing.done()
    writing.result(60)
    dropping.result(60)
    assert "rows" not in client.list_collections()


@pytest.mark.parametrize("engine", ["served", "plain"])
@pytest.mark.parametrize("step", [APPLY, FLUSH])
def test_reads_that_milvus_lite_answers_wait_for_a_write(request, engine, step):
    served = request.getfixturevalue(engine)
    client = served.client
    client.upsert("rows", rows(range(20)))
    options = {} if engine == "plain" else {"partition_names": ["_default"]}  # has no fast path
    with served.halted(step) as there:
        writing = served.run(client.upsert, "rows", rows(range(20, 30)))
        flushing = served.run(lambda: (writing.result(60), served.flush()))
        assert there.wait(60)
        reading = served.run(nearest, client, 25, **options)
        wait_until(served.waiting)
        assert not reading.done()
    flushing.result(60)

    assert distances(reading.result(60)) == oracle(range(30), 25)
    assert count(client) == 30


def test_a_wait_ends_with_the_deadline_and_says_for_what(served, monkeypatch):
    client = served.client
    monkeypatch.setattr(locks, "_DEFAULT_SECONDS", 0.2)
    target = Target("embedded", "'data.db'", Settings(), Path("data.db"))
    with served.halted(APPLY) as there:
        writing = served.run(client.upsert, "rows", rows(range(5)))
        assert there.wait(60)
        for waiting in (
            lambda: client.upsert("rows", rows(range(5, 10))),
            lambda: client.delete("rows", ids=["1"]),
            lambda: client.drop_collection("rows"),
            lambda: client.rename_collection("rows", "renamed"),
            lambda: nearest(client, 1, group_by_field="pk"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                waiting()
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert "waited too long for Upsert on collection 'rows'" in caught.value.details()
            message = str(translate(caught.value, target))
            assert message.startswith("The service of 'data.db' is busy: ")
            assert "\n" not in message
        # The client's own deadline ends a wait as well
        with pytest.raises(grpc.RpcError, match=r"waited too long|Deadline Exceeded"):
            client.upsert("rows", rows(range(5, 10)), timeout=0.3, retry_times=1)
    writing.result(60)

    assert count(client) == 5  # nothing was done by those that gave up
    wait_until(lambda: not served.waiting())
    client.upsert("rows", rows(range(5, 10)))
    assert count(client) == 10


def test_a_write_during_a_compaction_is_acknowledged_without_a_flush(served, monkeypatch):
    client = served.client
    monkeypatch.setattr(locks, "_DEFAULT_SECONDS", 0.2)
    collection = served.database.get_collection("rows")
    monkeypatch.setattr(collection, "_should_flush", lambda: True, raising=False)
    monkeypatch.setattr("milvus_lite.engine.collection.MEMTABLE_SIZE_LIMIT", 1, raising=False)
    with collection._maintenance_lock:
        client.upsert("rows", rows(range(5)))
        with pytest.raises(grpc.RpcError, match="waited too long for a compaction"):
            served.flush()
        assert not collection._segment_cache
    client.upsert("rows", rows(range(5, 10)))

    assert count(client) == 10
    assert sum(segment.num_rows for segment in collection._segment_cache.values()) == 10


def test_nothing_is_torn(served):
    """Each write gives all rows one version: no read sees two, or one older than acknowledged."""
    client, size = served.client, 64
    pks = [str(key) for key in range(size)]
    acknowledged, last = [0], 40
    failed = threading.Event()

    def write() -> None:
        for version in range(1, last + 1):
            shift = np.full(DIMENSION, version, dtype=np.float32)
            client.upsert("rows", [{"pk": pk, "vector": shift} for pk in pks])
            acknowledged[0] = version
            if version % 4 == 0:
                served.flush()

    def read() -> int:
        reads = 0
        while acknowledged[0] < last and not failed.is_set():
            before = acknowledged[0]
            found = client.query("rows", filter='pk != ""', output_fields=["pk", "vector"])
            (hits,) = client.search("rows", [[0.0] * DIMENSION], limit=size, output_fields=["pk"])
            counted = count(client)
            after = acknowledged[0] + 1
            x = np.array([row["vector"] for row in found])
            squares = np.array([hit["distance"] for hit in hits])
            try:
                assert counted == len(x) == len(squares) == size
                assert len(np.unique(x)) == 1
                assert before <= x[0, 0] <= after
                # The scores of one state, by numpy
                assert len(np.unique(squares)) == 1
                version = np.sqrt(squares[0] / DIMENSION)
                np.testing.assert_allclose(version, np.round(version), rtol=1e-5)
                assert before <= np.round(version) <= after
            except AssertionError:
                failed.set()
                raise
            reads += 1
        return reads

    client.upsert("rows", [{"pk": pk, "vector": [0.0] * DIMENSION} for pk in pks])
    readers = [served.run(read) for _ in range(3)]
    writing = served.run(write)
    assert all(reader.result(120) for reader in readers)
    writing.result(120)


@pytest.mark.parametrize("engine", ["served", "plain"])
def test_writes_of_a_collection_run_alone(request, engine):
    served = request.getfixturevalue(engine)
    client, running, most = served.client, [0], [0]
    collection = served.database.get_collection("rows")
    apply = collection._apply

    def watch(*arguments: Any) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        apply(*arguments)
        running[0] -= 1

    collection._apply = watch
    operations: list[Callable[[], Any]] = [
        lambda: client.upsert("rows", rows(range(50))),
        lambda: client.upsert("other_name", rows(range(25, 75))),
        lambda: client.delete("rows", filter='pk in ["3"]'),
        lambda: served.flush(),
        lambda: count(client),
        lambda: nearest(client, 1),
    ]
    for future in [served.run(operation) for operation in operations * 4]:
        future.result(60)

    assert most == [1]
    client.upsert("rows", rows(range(75)))
    assert count(client) == 75


def test_requests_are_counted_in_and_out(served):
    client, activity = served.client, served.activity
    with served.halted(APPLY) as there:
        writing = served.run(client.upsert, "rows", rows(range(5)))
        assert there.wait(60)
        assert activity.idle_seconds() == 0
    writing.result(60)

    wait_until(lambda: activity.idle_seconds() > 0)


def test_a_collection_that_opens_slowly_holds_up_no_other(served, monkeypatch):
    client, collection = served.client, db.Collection
    client.upsert("rows", rows(range(20)))
    served.database.close()
    served.database.__init__(served.database._data_dir)
    there, go_on = threading.Event(), threading.Event()

    def slow(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "rows":
            there.set()
            assert go_on.wait(60)
        return collection(name, *arguments, **options)

    monkeypatch.setattr(db, "Collection", slow)
    opening = [served.run(count, client), served.run(client.load_collection, "rows")]
    assert there.wait(60)
    client.load_collection("others")
    assert count(client, "others") == 0
    assert not any(future.done() for future in opening)
    go_on.set()
    for future in opening:
        future.result(60)
    assert count(client) == 20


def test_a_collection_that_many_ask_for_at_once_is_opened_once(tmp_path):
    path = str(tmp_path / "data.db")
    from milvus_lite import CollectionSchema, DataType, FieldSchema

    schema = CollectionSchema(
        fields=[
            FieldSchema(name="pk", dtype=DataType.VARCHAR, is_primary=True, max_length=64),
            FieldSchema(name="vector", dtype=DataType.FLOAT_VECTOR, dim=DIMENSION),
        ]
    )
    with Database(path) as database:
        database.create_collection("rows", schema).insert(rows(range(2000)))
    start = threading.Barrier(8)

    def get() -> int:
        start.wait(60)
        return id(database.get_collection("rows"))

    with Database(path) as database, ThreadPoolExecutor(8) as pool:
        assert len({future.result() for future in [pool.submit(get) for _ in range(8)]}) == 1
