"""Many readers or one writer, in the order of asking."""

from __future__ import annotations

import threading
import time

import pytest

from fiftyone_milvus.embedded.locks import Locks, ReadWriteLock


def test_readers_share_and_a_writer_is_alone():
    lock = ReadWriteLock()
    inside = threading.Barrier(3)
    record: list[str] = []

    def read() -> None:
        with lock.reading():
            inside.wait(5)  # passes only if all are in at once
            record.append("read")

    def write() -> None:
        with lock.writing():
            record.append("begin")
            time.sleep(0.02)
            record.append("end")

    threads = [threading.Thread(target=target) for target in (read, read, read, write, write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)

    assert record == ["read"] * 3 + ["begin", "end"] * 2


def test_nobody_overtakes():
    lock = ReadWriteLock()
    record: list[str] = []

    def hold(name: str, writing: bool) -> None:
        with lock.writing() if writing else lock.reading():
            record.append(name)

    waiting = []
    with lock.reading():
        for name, writing in (("w1", True), ("r1", False), ("w2", True), ("r2", False)):
            waiting.append(threading.Thread(target=hold, args=(name, writing)))
            waiting[-1].start()
            time.sleep(0.05)
        assert record == []  # r1 could share, but w1 was first
    for thread in waiting:
        thread.join(5)

    assert record == ["w1", "r1", "w2", "r2"]


def test_an_error_inside_releases():
    lock = ReadWriteLock()
    for hold in (lock.reading, lock.writing):
        with pytest.raises(KeyError), hold():
            raise KeyError
    with lock.writing():
        pass


def test_requests_that_name_several_collections_do_not_wait_for_each_other():
    locks = Locks()
    pairs = [("default", "a"), ("default", "b")]

    def hammer(order: list[tuple[str, str]]) -> None:
        for _ in range(200):
            with locks.writing(order):
                pass
            with locks.restructuring(order):
                pass

    threads = [threading.Thread(target=hammer, args=(order,)) for order in (pairs, pairs[::-1])]
    for thread in threads:
        thread.daemon = True
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_one_collection_does_not_hold_up_another():
    locks = Locks()
    done = threading.Event()

    def other() -> None:
        with locks.writing([("default", "b")]):
            done.set()

    with locks.writing([("default", "a")]):
        thread = threading.Thread(target=other)
        thread.start()
        assert done.wait(5)
    thread.join()
