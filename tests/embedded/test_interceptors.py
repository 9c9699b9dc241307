"""What requests pass before Milvus Lite: with its own servicer, whose calls are watched."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2_grpc

from fiftyone_milvus.embedded.database import Database
from fiftyone_milvus.embedded.interceptors import (
    ActivityInterceptor,
    LockingInterceptor,
    TokenInterceptor,
)
from fiftyone_milvus.embedded.lifetime import Activity
from fiftyone_milvus.embedded.locks import Locks
from tests.embedded.child import create, rows, vector
from tests.embedded.support import wait_until

WATCHED = ("Upsert", "Delete", "Query", "Search", "Flush")


class Watched(MilvusServicer):
    """Milvus Lite's servicer, which notes what ran at once."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._guard = threading.Lock()
        self._running: list[tuple[str, str]] = []
        self.together: set[frozenset[str]] = set()
        self.across: set[frozenset[str]] = set()
        self.finished: list[str] = []

    def watch(self, method: str, request: Any, context: Any) -> Any:
        name = getattr(request, "collection_name", "") or request.collection_names[0]
        name = {"other_name": "rows"}.get(name, name)
        with self._guard:
            for other_method, other_name in self._running:
                seen = self.together if other_name == name else self.across
                seen.add(frozenset({method, other_method}))
            self._running.append((method, name))
        time.sleep(0.05)  # long enough that whatever may run at once does
        try:
            return getattr(super(), method)(request, context)
        finally:
            with self._guard:
                self._running.remove((method, name))
                self.finished.append(method)


for _method in WATCHED:
    setattr(
        Watched,
        _method,
        lambda self, request, context, _method=_method: self.watch(_method, request, context),
    )


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Watched, MilvusClient, Activity]]:
    database, activity = Database(str(tmp_path / "data.db")), Activity()

    def resolve(database_name: str, name: str) -> str:
        return database.resolve_collection_name(name, database_name=database_name)

    server = grpc.server(
        ThreadPoolExecutor(16),
        interceptors=[
            TokenInterceptor("secret"),
            ActivityInterceptor(activity),
            LockingInterceptor(Locks(), resolve),
        ],
    )
    watched = Watched(database)
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(watched, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    client = MilvusClient(f"http://127.0.0.1:{port}", token="secret", dedicated=True)
    create(client)
    create(client, "others")
    client.create_alias("rows", "other_name")
    yield watched, client, activity
    client.close()
    server.stop(0).wait()
    database.close()


def at_once(*operations: Any) -> None:
    with ThreadPoolExecutor(len(operations)) as pool:
        for future in [pool.submit(operation) for operation in operations]:
            future.result()


def test_reads_of_a_collection_run_together_and_writes_alone(served):
    watched, client, _ = served

    def read() -> None:
        client.query("rows", filter="", output_fields=["count(*)"])

    def search() -> None:
        client.search("other_name", [vector(1)], limit=1, output_fields=["pk"])

    def write() -> None:
        client.upsert("rows", rows(range(5)))

    def write_by_alias() -> None:
        client.upsert("other_name", rows(range(5)))

    def delete() -> None:
        client.delete("rows", filter='pk in ["3"]')

    def flush() -> None:
        client.flush("rows")

    at_once(*[read, read, search, write, write_by_alias, delete, flush] * 2)

    reads = [{"Query"}, {"Search"}, {"Query", "Search"}]
    assert watched.together
    assert all(set(pair) in reads for pair in watched.together)


def test_collections_do_not_wait_for_each_other(served):
    watched, client, _ = served

    at_once(
        lambda: client.upsert("rows", rows(range(5))),
        lambda: client.upsert("others", rows(range(5))),
    )

    assert watched.across == {frozenset({"Upsert"})}


def test_a_write_whose_client_gave_up_waiting_is_not_carried_out(served):
    watched, client, _ = served
    lock = threading.Event()
    watched.watch, watch = (
        lambda *arguments: (lock.wait(10), watch(*arguments))[1],
        watched.watch,
    )
    first = threading.Thread(target=lambda: client.upsert("rows", rows(range(5))))
    first.start()
    time.sleep(0.2)

    with pytest.raises(grpc.RpcError, match="Deadline Exceeded"):
        client.upsert("rows", rows(range(5, 10)), timeout=0.3, retry_times=1)
    lock.set()
    first.join()
    time.sleep(0.3)

    assert client.query("rows", filter="", output_fields=["count(*)"])[0]["count(*)"] == 5


def test_requests_are_counted_in_and_out(served):
    watched, client, activity = served
    entered, leave = threading.Event(), threading.Event()
    watched.watch, watch = (
        lambda *arguments: (entered.set(), leave.wait(10), watch(*arguments))[2],
        watched.watch,
    )
    slow = threading.Thread(target=lambda: client.upsert("rows", rows(range(5))))
    slow.start()
    assert entered.wait(10)
    time.sleep(0.1)
    busy = activity.idle_seconds()
    leave.set()
    slow.join()

    assert busy == 0
    wait_until(lambda: activity.idle_seconds() > 0.1)


def test_a_collection_that_many_ask_for_at_once_is_opened_once(tmp_path):
    path = str(tmp_path / "data.db")
    from milvus_lite import CollectionSchema, DataType, FieldSchema

    schema = CollectionSchema(
        fields=[
            FieldSchema(name="pk", dtype=DataType.VARCHAR, is_primary=True, max_length=64),
            FieldSchema(name="vector", dtype=DataType.FLOAT_VECTOR, dim=16),
        ]
    )
    with Database(path) as database:
        database.create_collection("rows", schema).insert(rows(range(2000)))
    start = threading.Barrier(8)

    def get() -> int:
        start.wait(5)
        return id(database.get_collection("rows"))

    with Database(path) as database, ThreadPoolExecutor(8) as pool:
        assert len({future.result() for future in [pool.submit(get) for _ in range(8)]}) == 1
