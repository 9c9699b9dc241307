"""What is written is there once, whatever Milvus and the network do meanwhile."""

from __future__ import annotations

import functools
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiftyone_milvus import embedded
from fiftyone_milvus.collection import CollectionSpec, MilvusCollection
from fiftyone_milvus.connection import Settings, connect, resolve
from fiftyone_milvus.errors import EmbeddedServiceError, EngineError, UnreachableError
from fiftyone_milvus.writing import batching
from fiftyone_milvus.writing import writer as writer_module
from fiftyone_milvus.writing.validation import Batch
from fiftyone_milvus.writing.writer import Writer
from tests.conftest import Engine
from tests.support import proxy as faults
from tests.support.indexes import one_line, unique
from tests.support.proxy import Proxy, answer, away, hold, lose, too_large
from tests.support.servers import MilvusServer
from tests.support.waiting import wait_until

DIM = 16
REQUEST = 100
"""Rows of one request, here."""


@pytest.fixture(autouse=True)
def _small_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    row_bytes = 4 * DIM + batching._ID_BYTES
    monkeypatch.setattr(batching, "REQUEST_BYTES", row_bytes * REQUEST)


def make_collection(**settings: Any) -> MilvusCollection:
    connection = connect(resolve(Settings.parse(settings), None))
    collection = MilvusCollection(connection, unique("writer"))
    collection.create(CollectionSpec(DIM, "L2", "FLAT"))
    return collection


@pytest.fixture
def collection(engine: Engine) -> Iterator[MilvusCollection]:
    collection = make_collection(**engine.kwargs)
    yield collection
    collection.drop()


@pytest.fixture(scope="module")
def _between(milvus_server: MilvusServer) -> Iterator[tuple[Proxy, MilvusCollection]]:
    with faults.proxy(f"{milvus_server.host}:{milvus_server.port}") as (proxy, uri):
        collection = make_collection(uri=uri)
        yield proxy, collection
        proxy.reset()
        collection.drop()
        collection.connection.close()


@pytest.fixture
def between(_between: tuple[Proxy, MilvusCollection]) -> tuple[Proxy, MilvusCollection]:
    """An empty collection of a server that is reached through a proxy, which does no harm yet."""
    proxy, collection = _between
    proxy.reset()
    collection.delete(collection.all_ids()[0])
    assert collection.count(strong=True) == 0
    proxy.reset()
    return proxy, collection


def batch(start: int, count: int, *, turn: int = 0) -> Batch:
    ids = [f"{i:05d}" for i in range(start, start + count)]
    vectors = np.zeros((count, DIM), dtype=np.float32)
    vectors[:, 0] = range(start, start + count)
    vectors[:, 1] = turn
    return Batch(ids, [f"s{i}" for i in ids], vectors)


def assert_holds(collection: MilvusCollection, count: int, *, turn: int = 0) -> None:
    """Every row is there, once, with what was written last."""
    assert collection.count(strong=True) == count
    expected = batch(0, count, turn=turn)
    rows = collection.fetch(expected.ids)
    assert rows.ids == expected.ids
    assert rows.sample_ids == expected.sample_ids
    np.testing.assert_array_equal(rows.vectors, expected.vectors)


def written_calls(proxy: Proxy) -> list[str]:
    return [call for call in proxy.calls if call in ("Insert", "Upsert")]


# -- what goes well -----------------------------------------------------------------------------


def test_a_server_seals_rows_in_the_background(milvus_server: MilvusServer) -> None:
    collection = make_collection(uri=milvus_server.uri)
    writer_module.upload(collection, batch(0, 10), replace=False)
    start = time.monotonic()
    writer_module.flush_if_due(collection, writer_module.FLUSH_ROWS, wait=False)
    assert time.monotonic() - start < 2, "a server takes seconds to seal rows"
    client = collection.connection.client
    segments = functools.partial(client.list_persistent_segments, collection.name)
    wait_until(lambda: any("Flush" in str(segment.state) for segment in segments()))

    # What is dropped meanwhile is nobody's error
    writer_module.upload(collection, batch(10, 10), replace=False)
    writer_module.flush_if_due(collection, writer_module.FLUSH_ROWS, wait=False)
    collection.drop()


def test_batches_of_any_size(collection: MilvusCollection) -> None:
    told: list[int] = []
    sizes = [1, 7, 250, 0, 92, 400, 3]
    with Writer(collection, replace=False, on_written=told.append) as writer:
        start = 0
        for size in sizes:
            writer.add(batch(start, size))
            start += size
    assert writer.written == sum(told) == sum(sizes)
    assert max(told) == REQUEST
    assert_holds(collection, sum(sizes))


def test_existing_keys_are_replaced(collection: MilvusCollection) -> None:
    with Writer(collection, replace=True) as writer:
        writer.add(batch(0, 250))
    with Writer(collection, replace=True) as writer:
        writer.add(batch(100, 300, turn=1))
        writer.add(batch(0, 100, turn=1))
    assert_holds(collection, 400, turn=1)


def test_nothing_is_sent_before_there_is_a_request_of_it(
    between: tuple[Proxy, MilvusCollection],
) -> None:
    proxy, collection = between
    with Writer(collection, replace=False) as writer:
        for start in range(0, REQUEST - 1, 9):
            writer.add(batch(start, 9))
        assert written_calls(proxy) == []
    assert written_calls(proxy) == ["Insert"]
    with Writer(collection, replace=False):
        pass
    assert written_calls(proxy) == ["Insert"]


def test_what_waits_can_be_sent(collection: MilvusCollection) -> None:
    with Writer(collection, replace=False) as writer:
        writer.add(batch(0, 5))
        writer.send()
        wait_until(lambda: collection.count(strong=True) == 5)
        writer.send()
    assert writer.written == 5


def test_a_slow_milvus_slows_the_caller(between: tuple[Proxy, MilvusCollection]) -> None:
    proxy, collection = between
    through = threading.Event()
    proxy.fail("Insert", *[hold(through)] * 20)
    added: list[int] = []

    def fill() -> None:
        with Writer(collection, replace=False) as writer:
            for i in range(20):
                writer.add(batch(i * REQUEST, REQUEST))
                added.append(i)

    thread = threading.Thread(target=fill)
    thread.start()
    time.sleep(0.5)
    assert len(written_calls(proxy)) == 2
    assert len(added) == 4
    through.set()
    thread.join(30)
    assert_holds(collection, 20 * REQUEST)


# -- what passes --------------------------------------------------------------------------------


def test_a_lost_answer_leaves_no_row_twice(between: tuple[Proxy, MilvusCollection]) -> None:
    proxy, collection = between
    proxy.fail("Insert", lose, lose)
    proxy.fail("Upsert", lose)
    with Writer(collection, replace=False) as writer:
        writer.add(batch(0, 5 * REQUEST))
    assert writer.written == 5 * REQUEST
    calls = written_calls(proxy)
    assert calls.count("Insert") == 5
    assert calls.count("Upsert") == 3, "what is repeated replaces"
    assert_holds(collection, 5 * REQUEST)


TRANSIENT = {
    "away": away,
    "rate": answer(8, "request is rejected by grpc RateLimiter middleware, please retry later"),
    "not ready": answer(1, "service not ready[proxy=3]: Initializing"),
    "channel": answer(503, "channel not available[channel=by-dev-rootcoord-dml_0]"),
    "node": answer(902, "node offline[node=3]"),
    "leader": answer(65535, "etcdserver: leader changed"),
    "time tick": answer(9, "quota exceeded[reason=time tick long delay]"),
}


@pytest.mark.parametrize("fault", TRANSIENT.values(), ids=TRANSIENT)
def test_transient_errors_are_retried(
    between: tuple[Proxy, MilvusCollection], fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    proxy, collection = between
    proxy.fail("Insert Upsert", *[fault] * 8)
    with (
        caplog.at_level(logging.INFO, "fiftyone_milvus"),
        Writer(collection, replace=False) as writer,
    ):
        writer.add(batch(0, 3 * REQUEST))
    assert writer.written == 3 * REQUEST
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1, "one for all requests"
    assert collection.connection.target.address in warnings[0]
    assert "trying again for 60 s" in warnings[0]
    assert caplog.messages[-1] == "Milvus takes rows again"
    assert_holds(collection, 3 * REQUEST)


def test_a_hiccup_is_nobodys_business(
    between: tuple[Proxy, MilvusCollection], caplog: pytest.LogCaptureFixture
) -> None:
    proxy, collection = between
    proxy.fail("Upsert", away)
    with (
        caplog.at_level(logging.INFO, "fiftyone_milvus"),
        Writer(collection, replace=True) as writer,
    ):
        writer.add(batch(0, REQUEST))
    assert caplog.messages == []


@pytest.mark.parametrize("replace", [True, False])
def test_the_embedded_service_is_killed(embedded_path: Path, replace: bool) -> None:
    collection = make_collection(uri=str(embedded_path))
    with Writer(collection, replace=replace) as writer:
        for i in range(60):
            writer.add(batch(i * REQUEST, REQUEST))
            if i == 30:
                status = embedded.status(embedded_path)
                assert status is not None
                os.kill(status.pid, signal.SIGKILL)
    assert writer.written == 60 * REQUEST
    assert_holds(collection, 60 * REQUEST)


# -- what does not ------------------------------------------------------------------------------

FINAL = {
    "memory": (
        answer(9, "quota exceeded[reason=memory quota exceeded, please allocate more resources]"),
        "memory quota exceeded.*raise its quota",
    ),
    "disk": (
        answer(9, "quota exceeded[reason=disk quota exceeded, please allocate more resources]"),
        "disk quota exceeded.*disk",
    ),
    "size": (too_large, "larger than max.*send less"),
    "schema": (answer(1100, "the length(5) of float data should divide the dim(4)"), "divide"),
    "unknown": (answer(65535, "something else"), "something else"),
}


@pytest.mark.parametrize(("fault", "message"), FINAL.values(), ids=FINAL)
def test_what_does_not_pass_is_raised_at_once(
    between: tuple[Proxy, MilvusCollection], fault: Any, message: str
) -> None:
    proxy, collection = between
    proxy.fail("Insert", fault)
    writer = Writer(collection, replace=False)

    def fill() -> None:
        with writer:
            for i in range(50):
                writer.add(batch(i * REQUEST, REQUEST))

    start = time.monotonic()
    with pytest.raises(EngineError, match=message) as error:
        fill()
    assert time.monotonic() - start < 10
    one_line(error.value)
    calls = written_calls(proxy)
    assert "Upsert" not in calls
    assert len(calls) < 20, "and nothing is sent any more, but for what was on its way"
    assert collection.count(strong=True) == writer.written == REQUEST * (len(calls) - 1)


def test_a_failure_is_remembered(between: tuple[Proxy, MilvusCollection]) -> None:
    proxy, collection = between
    proxy.fail("Insert", answer(65535, "the first failure"))
    writer = Writer(collection, replace=False)
    writer.add(batch(0, REQUEST))

    def fill() -> None:
        for _ in range(1000):
            writer.add(batch(REQUEST, 0))
            time.sleep(0.01)

    for attempt in (fill, fill, lambda: writer.__exit__(None, None, None)):
        with pytest.raises(EngineError, match="the first failure"):
            attempt()


def test_retries_end(
    between: tuple[Proxy, MilvusCollection], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, collection = between
    monkeypatch.setattr(writer_module, "UPLOAD_RETRY_SECONDS", 0.5)
    proxy.fail("Insert Upsert", *[away] * 100)
    with pytest.raises(UnreachableError) as error, Writer(collection, replace=True) as writer:
        writer.add(batch(0, REQUEST))
    one_line(error.value)


@pytest.mark.parametrize("reason", [KeyboardInterrupt, RuntimeError])
def test_leaving_by_an_exception_does_not_wait_for_milvus(
    between: tuple[Proxy, MilvusCollection], reason: type[BaseException]
) -> None:
    proxy, collection = between
    proxy.fail("Insert Upsert", *[away] * 1000)
    writer = Writer(collection, replace=False)
    left = 0.0

    def leave() -> None:
        nonlocal left
        with writer:
            writer.add(batch(0, 3 * REQUEST))
            time.sleep(0.5)
            left = time.monotonic()
            raise reason

    with pytest.raises(reason):
        leave()
    assert time.monotonic() - left < 5
    assert writer.written == 0
    calls = len(proxy.calls)
    time.sleep(0.5)
    assert len(proxy.calls) == calls, "and nothing is sent any more"


def test_leaving_by_an_exception_counts_what_was_sent(
    between: tuple[Proxy, MilvusCollection],
) -> None:
    proxy, collection = between
    through = threading.Event()
    proxy.fail("Insert", *[hold(through)] * 4)
    writer = Writer(collection, replace=False)

    def leave() -> None:
        with writer:
            writer.add(batch(0, 4 * REQUEST + 50))
            threading.Timer(0.5, through.set).start()
            time.sleep(0.2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert writer.written == 2 * REQUEST
    assert collection.count(strong=True) == 2 * REQUEST


def test_an_embedded_service_that_cannot_start_is_said_at_once(embedded_path: Path) -> None:
    collection = make_collection(uri=str(embedded_path))
    embedded.stop(embedded_path)
    moved = embedded_path.rename(embedded_path.with_name("moved"))
    embedded_path.write_text("a file in the way")
    start = time.monotonic()
    with pytest.raises(EmbeddedServiceError) as error, Writer(collection, replace=True) as writer:
        writer.add(batch(0, REQUEST))
    one_line(error.value)
    assert time.monotonic() - start < 10
    embedded_path.unlink()
    moved.rename(embedded_path)
