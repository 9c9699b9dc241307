"""The Milvus server, in the middle of a sync."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from fiftyone_milvus.errors import FiftyOneMilvusError, UnreachableError
from tests.faults.chaos import ON_ANY_ENGINE, ROWS, SECONDS, SEED, Chaos
from tests.faults.model import Slow
from tests.faults.support import STEPS, interrupt, later, once_before, within
from tests.faults.wire import Wire
from tests.support.indexes import one_line
from tests.support.processes import freeze
from tests.support.servers import MilvusServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A server of this module's own, to freeze and to kill."""
    server = MilvusServer.start("plain", tmp_path_factory.mktemp("milvus"))
    yield server
    server.stop()


@pytest.fixture
def wire(server: MilvusServer) -> Iterator[Wire]:
    wire = Wire(server.port)
    yield wire
    wire.release()
    wire.cut()


def test_server_is_gone_for_a_while(wire, make, caplog):
    """The sync waits, says so once, and goes on."""
    world = make({"uri": wire.uri})
    timer = threading.Timer(20, wire.mend)

    def leave() -> None:
        wire.cut()
        timer.start()

    with caplog.at_level(logging.INFO, logger="fiftyone_milvus"):
        report = world.sync(Slow(0, {500: leave}))
    timer.join()
    assert report.added == 1000
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warnings == [f"Milvus at {wire.uri} does not answer; trying again for 60 s"]
    world.complete()


@pytest.mark.parametrize("step", STEPS)
def test_server_is_gone_before_there_is_a_collection(wire, make, caplog, monkeypatch, step):
    """What was embedded is not lost: the sync waits for longer than another call would."""
    world = make({"uri": wire.uri})
    timer = threading.Timer(9, wire.mend)

    def leave() -> None:
        wire.cut()
        timer.start()

    events = {10: lambda: once_before(monkeypatch, step, leave)}
    with caplog.at_level(logging.INFO, logger="fiftyone_milvus"):
        report = world.sync(Slow(0, events))
    timer.join()
    assert (report.added, report.failed) == (1000, {})
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warnings == [f"Milvus at {wire.uri} does not answer; trying again for 60 s"]
    assert not [n for n in world.index.client.list_collections() if "discarded" in n]
    world.complete()


def test_interrupt_while_the_server_is_gone_and_there_is_no_collection(wire, make, monkeypatch):
    world = make({"uri": wire.uri})
    timer = threading.Timer(6, interrupt)

    def leave() -> None:
        wire.cut()
        timer.start()

    with pytest.raises(KeyboardInterrupt), within(30):
        world.sync(Slow(0, {10: lambda: once_before(monkeypatch, "_is_mine", leave)}))
    wire.mend()
    world.goes_on()


def test_interrupt_while_the_server_is_silent(wire, make):
    world = make({"uri": wire.uri})
    with later(4, interrupt), pytest.raises(KeyboardInterrupt), within(15):
        world.sync(Slow(0, {400: wire.hold}))
    wire.release()
    world.goes_on()


def test_server_is_frozen(server, make, caplog):
    """The seconds until a warning, and until the one line; then it goes on."""
    world = make(server.kwargs)
    index = world.index
    index.add_to_index(np.eye(3, 8, dtype=np.float32), world.dataset.limit(3).values("id"))
    query = np.eye(8, dtype=np.float32)[0]
    assert len(index.search(query, k=2)) == 2
    freeze(server.pid)
    began = time.monotonic()
    try:
        with (
            caplog.at_level(logging.WARNING, logger="fiftyone_milvus"),
            pytest.raises(UnreachableError) as error,
        ):
            index.search(query, k=2)
        ended = time.time()
        seconds = time.monotonic() - began
    finally:
        os.kill(server.pid, signal.SIGCONT)
        # The sessions of its nodes may have run out: then it is never ready again
        server.restart()
    assert server.uri in one_line(error.value)
    (first, *_) = [r for r in caplog.records if "has not answered for" in r.getMessage()]
    print(f"warning after {seconds - (ended - first.created):.1f} s, error after {seconds:.1f} s")
    assert 4 < seconds - (ended - first.created) < 10
    assert seconds < 45
    assert len(index.search(query, k=2)) == 2
    index.remove_from_index(world.dataset.limit(3).values("id"))


def test_server_is_killed(make, server, caplog):
    """The sync waits for it, or says in one line why it can't; nothing is lost either way."""
    world = make(server.kwargs)
    acknowledged = [0]
    restarts = []

    def kill() -> None:
        server.kill()
        restarts.append(threading.Thread(target=server.restart))
        restarts[-1].start()

    def progress(bar) -> None:
        acknowledged[0] = bar.iteration

    with caplog.at_level(logging.INFO, logger="fiftyone_milvus"):
        try:
            world.sync(Slow(0, {700: kill}), progress=progress)
        except FiftyOneMilvusError as problem:
            error: BaseException | None = problem
        else:
            error = None
    restarts[0].join()
    assert error is None or server.uri in one_line(error)
    assert any("trying again for 60 s" in r.getMessage() for r in caplog.records)
    world.goes_on(acknowledged[0])


@pytest.mark.timeout(SECONDS + 240)
def test_chaos(make, server):
    with Chaos(make(server.kwargs, ROWS + 1), SEED, lambda: [server.pid]) as chaos:
        chaos.run(SECONDS, ON_ANY_ENGINE)
        chaos.check()
    assert chaos.counts["acknowledged"] > 20
