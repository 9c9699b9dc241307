"""A Milvus that does not answer: who it is, after seconds, and one line at the end."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fiftyone_milvus import embedded
from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.connection import Connection, Request, Settings, client, resolve, slow_calls
from fiftyone_milvus.connection.requests import READ_SECONDS, SHORT_SECONDS
from fiftyone_milvus.embedded import control_client, service_file, services
from fiftyone_milvus.errors import EmbeddedServiceError, UnreachableError
from tests.cli.support import enter, read
from tests.faults.wire import Wire
from tests.support.processes import alive, freeze
from tests.support.servers import MilvusServer
from tests.support.waiting import PATIENCE, wait_until

LIST = Request("list_collections", timeout=1.2)


def connection_to(uri: object) -> Connection:
    """A connection of the test's own, not one of the pool."""
    return Connection(resolve(Settings.parse({"uri": str(uri)}), None))


@pytest.fixture(scope="module")
def served() -> Iterator[Path]:
    """A running service, for the tests of this module."""
    folder = Path(tempfile.mkdtemp(prefix="fom-"))
    path = folder / "slow.db"
    embedded.ensure(path)
    yield path
    embedded.stop(path)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    freeze(pid)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> Iterator[Any]:
    """Everything that takes seconds takes less; collects the warnings."""
    monkeypatch.setattr(slow_calls, "WARN_SECONDS", 0.3)
    monkeypatch.setattr(slow_calls, "_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(control_client, "_ATTACH_SECONDS", 0.3)
    pings = {"grpc.keepalive_time_ms": 400, "grpc.http2.ping_timeout_ms": 400}
    monkeypatch.setattr(client, "_LOCAL", {**client._LOCAL, **pings})
    monkeypatch.setattr(client, "_RECONNECT", {**client._RECONNECT, **pings})
    with caplog.at_level(logging.WARNING, logger="fiftyone_milvus"):
        yield lambda: [record.getMessage() for record in caplog.records]


def test_a_frozen_service(served: Path, soon: Any, monkeypatch: Any) -> None:
    connection = connection_to(served)
    connection.run(LIST)
    pid = embedded.ensure(served).pid
    stopped = f"process {pid} is stopped: 'kill -CONT {pid}' lets it go on, 'kill -9 {pid}' ends it"
    with frozen(pid):
        began = time.monotonic()
        with pytest.raises(EmbeddedServiceError) as caught:
            # Pings notice it, long before the deadline
            connection.run(Request("list_collections", timeout=60))
        assert time.monotonic() - began < 10
        assert str(caught.value).endswith(stopped)
        assert [m for m in soon() if "has not answered for" in m and "(list_collections)" in m]
        assert soon()[-1].endswith(stopped)
        # What is new to this process learns it too, and what lists services
        services._process.drop(served)
        with pytest.raises(EmbeddedServiceError, match=f"process {pid} is stopped"):
            embedded.ensure(served)
        with pytest.raises(EmbeddedServiceError, match=f"process {pid} is stopped"):
            embedded.status(served, timeout=0.3)
        monkeypatch.setattr(services, "_LIST_SECONDS", 0.3)
        (found,) = [s for s in embedded.list_services() if s.path == served]
        assert (found.pid, found.error) == (pid, f"does not answer; {stopped}")
    assert connection.run(LIST) == []
    assert embedded.status(served).error == ""  # type: ignore[union-attr]


def test_the_command_line_lists_a_frozen_service(served: Path) -> None:
    pid = embedded.ensure(served).pid
    command = [sys.executable, "-m", "fiftyone_milvus", "status"]
    with frozen(pid):
        shown = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=True
        )
    said = " ".join(shown.stdout.split())
    assert f"does not answer; process {pid} is stopped" in said
    assert f"'kill -9 {pid}' ends it" in said


def test_all_others_are_stopped_past_a_frozen_one(
    soon: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="fom-"))
    # No service of another test
    monkeypatch.setenv("FIFTYONE_MILVUS_RUNTIME_DIR", str(folder / "run"))
    monkeypatch.setattr(services, "_LIST_SECONDS", 0.5)
    monkeypatch.setattr(services, "_ANSWER_SECONDS", 0.5)
    one, two = paths = folder / "one.db", folder / "two.db"
    pids = [embedded.ensure(path).pid for path in paths]
    with frozen(pids[0]):
        # It is asked first
        assert [service.path for service in embedded.list_services()] == [*paths]
        out, err = enter("stop", "--all", exit_code=1)
        assert out == f"Stopped {two}\n"
        assert f"service of '{one}' does not answer; process {pids[0]} is stopped: 'kill" in err
        wait_until(lambda: not alive(pids[1]))
        assert alive(pids[0])
    assert read("stop", "--all") == {"stopped": [str(one)]}
    assert not embedded.list_services()
    shutil.rmtree(folder, ignore_errors=True)


def test_a_silent_process_on_a_stale_socket(served: Path, soon: Any) -> None:
    embedded.ensure(served)
    embedded.stop(served)
    service = service_file.load(served)
    assert service is not None
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(service.control)
        silent.listen(8)
        with pytest.raises(EmbeddedServiceError, match=f"process {os.getpid()} is busy or hangs"):
            connection_to(served).run(LIST)
    os.unlink(service.control)


def test_a_service_that_takes_long_is_no_frozen_one(served: Path, soon: Any) -> None:
    connection = connection_to(served)
    connection.run(LIST)
    pid = embedded.ensure(served).pid

    def long(client: Any) -> Any:
        time.sleep(1.0)
        return client.list_collections(timeout=5)

    assert connection.run(long) == []
    assert f"(long); process {pid} is busy or hangs: wait, or end it" in soon()[-1]
    # One thread for all calls
    for _ in range(20):
        connection.run(LIST)
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("fiftyone-milvus-slow-calls") <= 1
    assert not slow_calls._watcher.running


def test_a_server_that_nothing_comes_from(milvus_server: MilvusServer, soon: Any) -> None:
    wire = Wire(milvus_server.port)
    connection = connection_to(wire.uri)
    connection.run(LIST)
    wire.hold()
    try:
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="did not answer"):
            connection.run(Request("list_collections", timeout=60), retry=0)
        assert time.monotonic() - began < 20
        assert f"Milvus at {wire.uri} has not answered for" in soon()[0]
    finally:
        wire.release()
        connection.close()
        wire.cut()


def test_each_kind_of_call_has_a_deadline(tmp_path: Path) -> None:
    connection = connection_to(tmp_path / "none.db")
    collection = MilvusCollection(connection, "rows")
    assert collection._request("search").timeout == READ_SECONDS
    assert collection._request("describe_collection").timeout == SHORT_SECONDS
    collection.timeout = 7.0
    assert collection._request("search").timeout == 7.0
