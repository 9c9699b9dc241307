"""Many readers or one writer, in the order of asking, until a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from milvus_lite.schema.types import CollectionSchema, DataType, FieldSchema

from fiftyone_milvus.embedded.locks import Call, Locks, ReadWriteLock, WaitError
from tests.support.waiting import wait_until


class Context:
    """As much of gRPC's context as a lock needs."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def time_remaining(self) -> float | None:
        return self._seconds


def call(method: str = "Upsert", seconds: float = 30.0) -> Call:
    return Call(method, time.monotonic() + seconds)


def start(target: Callable[..., Any], *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread


def join(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_readers_share_and_a_writer_is_alone():
    lock = ReadWriteLock("it")
    inside = threading.Barrier(3)
    record: list[str] = []

    def read() -> None:
        with lock.reading(call()):
            inside.wait(60)  # passes only if all are in at once
            record.append("read")

    def write() -> None:
        with lock.writing(call()):
            record.append("begin")
            time.sleep(0.02)
            record.append("end")

    join(*[start(target) for target in (read, read, read, write, write)])

    assert record.count("read") == 3
    assert [word for word in record if word != "read"] == ["begin", "end"] * 2
    for number, word in enumerate(record):
        assert word != "begin" or record[number + 1] == "end"


def test_requests_are_served_in_the_order_of_asking():
    lock = ReadWriteLock("it")
    record: list[str] = []

    def hold(name: str, writing: bool) -> None:
        with lock.writing(call()) if writing else lock.reading(call()):
            record.append(name)

    waiting: list[threading.Thread] = []
    with lock.reading(call()):
        for name, writing in (("w1", True), ("r1", False), ("w2", True), ("r2", False)):
            waiting.append(start(hold, name, writing))
            wait_until(lambda: len(lock._queue) == len(waiting))
        assert record == []  # r1 could share, but w1 was first
    join(*waiting)

    assert record == ["w1", "r1", "w2", "r2"]


def test_an_error_inside_releases():
    lock = ReadWriteLock("it")
    for hold in (lock.reading, lock.writing):
        with pytest.raises(KeyError), hold(call()):
            raise KeyError
    with lock.writing(call(seconds=0)):
        pass


@pytest.mark.parametrize("seconds", [0, 0.05])
def test_a_deadline_ends_a_wait_and_says_for_what(seconds):
    locks = Locks()
    rows = [("default", "rows")]

    def refused(hold: Any) -> str:
        with pytest.raises(WaitError) as caught, hold(rows, call("Delete", seconds)):
            pass
        assert "\n" not in str(caught.value)
        return str(caught.value)

    with locks.writing(rows, call("Upsert")):
        for hold in (locks.reading, locks.writing, locks.changing_list):
            assert refused(hold).startswith(
                "Delete waited too long for Upsert on collection 'rows', which has run for 0."
            )
    with locks.reading(rows, call("Query")):
        assert "other requests on collection 'rows'" in refused(locks.writing)
        with locks.reading(rows, call("Query", 0)):
            pass
    with locks.changing_list([], call("CreateCollection")):
        with pytest.raises(WaitError, match="CreateCollection on the list of collections"):
            locks.listing(call("ShowCollections", seconds)).__enter__()
        assert "the list of collections" in refused(locks.changing_list)
    # Requests that gave up hold nothing
    with locks.changing_list(rows, call(seconds=0)):
        pass


def test_who_gives_up_lets_the_next_in():
    lock = ReadWriteLock("it")
    read = threading.Event()

    def give_up() -> None:
        with pytest.raises(WaitError), lock.writing(call(seconds=0.2)):
            pass

    def wait() -> None:
        with lock.reading(call()):
            read.set()

    with lock.reading(call()):
        first = start(give_up)
        wait_until(lambda: lock._queue)
        second = start(wait)
        assert read.wait(60)
    join(first, second)


def test_requests_that_name_several_collections_do_not_wait_for_each_other():
    locks = Locks()
    pairs = [("default", "a"), ("default", "b")]

    def hammer(order: list[tuple[str, str]]) -> None:
        for _ in range(200):
            with locks.writing(order, call()):
                pass
            with locks.changing_list(order, call()):
                pass

    join(start(hammer, pairs), start(hammer, pairs[::-1]), start(hammer, pairs[:1]))


def test_a_wait_for_one_collection_holds_up_no_other():
    locks = Locks()
    a, b = [("default", "a")], [("default", "b")]

    def drop() -> None:
        with locks.changing_list(a, call("DropCollection")):
            pass

    with locks.writing(a, call()):
        waiting = start(drop)
        wait_until(lambda: locks._collections[a[0]]._queue)
        holds: list[AbstractContextManager[None]] = [
            locks.writing(b, call(seconds=0)),
            locks.reading(b, call(seconds=0)),
            locks.listing(call(seconds=0)),
            locks.changing_list(b, call(seconds=0)),
        ]
        for hold in holds:
            with hold:
                pass
    join(waiting)


def test_waits_end_before_the_client_gives_up():
    for seconds in (0.1, 1.0, 60.0):
        assert 0.7 * seconds < Call.of("Query", Context(seconds)).remaining < seconds
    for none in (None, 9e9):
        assert 500 < Call.of("Query", Context(none)).remaining <= 600
    assert Call.of("Query", Context(60)).at_once().remaining == 0
    assert Call.of("Query", Context(-1)).remaining == 0


def test_milvus_lites_locks_are_waited_for_until_the_deadline():
    lock = threading.RLock()
    call(seconds=0).acquire(lock, "a compaction")

    def wait() -> None:
        with pytest.raises(WaitError, match="Flush waited too long for a compaction; try again"):
            call("Flush", 0.05).acquire(lock, "a compaction")

    join(start(wait))


def test_who_has_gone_does_not_wait():
    lock = ReadWriteLock("it")
    left = threading.Event()
    gone = Call("Upsert", time.monotonic() + 30, lambda: not left.is_set())

    def wait() -> None:
        with pytest.raises(WaitError), lock.writing(gone):
            pass

    with lock.writing(call("Flush")):
        waiting = start(wait)
        wait_until(lambda: lock._queue)
        left.set()
        join(waiting)
        assert not lock._queue


def test_a_slow_opening_holds_up_no_other_collection(tmp_path):
    from fiftyone_milvus.embedded.database import Database

    filling = Database(str(tmp_path / "some.db"))
    schema = CollectionSchema(
        [
            FieldSchema("pk", DataType.VARCHAR, max_length=24, is_primary=True),
            FieldSchema("vector", DataType.FLOAT_VECTOR, dim=2),
        ]
    )
    for name in ("slow", "other"):
        filling.create_collection(name, schema)
    filling.close()
    database = Database(str(tmp_path / "some.db"))
    slow = database._opening.setdefault(("default", "slow"), threading.Lock())
    try:
        with slow:  # as another request that opens it
            with pytest.raises(WaitError, match="Search waited too long for the opening of"):
                database.get_collection("slow", call=call("Search", 0.1))
            assert database.get_collection("other", call=call("Search", 0.1)).name == "other"
        assert database.get_collection("slow", call=call("Search", 0.1)).name == "slow"
    finally:
        database.close()
