"""One connection for each target, in every process, for as long as it is used."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fiftyone_milvus import embedded
from fiftyone_milvus.connection import Connection, Settings, close_all, connect, resolve
from fiftyone_milvus.connection.client import channels_are_watched
from fiftyone_milvus.errors import EngineError
from tests.conftest import Engine
from tests.support.certificates import make_certificates
from tests.support.processes import alive, free_port
from tests.support.servers import MilvusServer
from tests.support.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]


def connection_to(**values: Any) -> Connection:
    return connect(resolve(Settings.parse(values), None))


def names(client: Any) -> Any:
    return client.list_collections(timeout=5)


def test_one_for_each_target(tmp_path: Path) -> None:
    first = make_certificates(tmp_path / "first").ca
    second = make_certificates(tmp_path / "second").ca
    address = f"https://127.0.0.1:{free_port()}"
    base: dict[str, Any] = {"uri": address, "user": "u", "password": "p", "ca_pem_path": first}
    same = [connection_to(**base) for _ in range(3)]
    same.append(connection_to(**{**base, "uri": address.replace("https://", "https://u:p@")}))
    same.append(connection_to(uri=address, token="u:p", ca_pem_path=first))
    same.append(connection_to(**base, db_name="default"))
    assert len({id(connection) for connection in same}) == 1
    changes: list[dict[str, Any]] = [
        {"uri": f"https://127.0.0.1:{free_port()}"},
        {"user": "v"},
        {"password": "q"},
        {"token": "t"},
        {"db_name": "films"},
        {"ca_pem_path": second},
        {"server_name": "milvus.example"},
    ]
    different = [connection_to(**{**base, **change}) for change in changes]
    assert len({id(connection) for connection in [same[0], *different]}) == len(changes) + 1


def test_another_certificate_in_the_same_file(tmp_path: Path) -> None:
    ca = make_certificates(tmp_path).ca
    values = {"uri": f"https://127.0.0.1:{free_port()}", "ca_pem_path": ca}
    before = connection_to(**values)
    shutil.copy(make_certificates(tmp_path / "new").ca, ca)
    os.utime(ca, (1, 1))
    assert connection_to(**values) is not before


def test_wrong_authority_beside_a_good_connection(tls_server: MilvusServer) -> None:
    from fiftyone_milvus.errors import TLSError

    assert connection_to(**tls_server.kwargs).run(names) is not None
    assert tls_server.certificates is not None
    wrong = {**tls_server.kwargs, "ca_pem_path": tls_server.certificates.stranger_ca}
    with pytest.raises(TLSError):
        connection_to(**wrong).run(names)


def test_nothing_is_sent_before_the_first_use() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.3)
        connection = connection_to(uri=f"http://127.0.0.1:{listener.getsockname()[1]}")
        assert repr(connection).startswith("Connection(server: http://127.0.0.1")
        with pytest.raises(TimeoutError):
            listener.accept()


def test_databases_are_apart(milvus_server: MilvusServer) -> None:
    default = connection_to(**milvus_server.kwargs)
    default.run(lambda client: client.create_database("pool_films", timeout=5))
    films = connection_to(**{**milvus_server.kwargs, "db_name": "pool_films"})
    films.run(lambda client: client.create_collection("only_films", dimension=2, timeout=20))
    assert films.run(names) == ["only_films"]
    assert "only_films" not in default.run(names)
    films.run(lambda client: client.drop_collection("only_films", timeout=5))


def test_engine(engine: Engine) -> None:
    connection = connect(resolve(engine.settings, None))
    assert connection.target.deployment == engine.name
    found = connection.engine
    assert found is connection.engine
    if engine.name == "server":
        assert (found.lite, found.version, found.max_window) == (False, "2.3.5-lite", 16384)
        assert found.max_message_bytes == 64 << 20
    else:
        assert (found.lite, found.max_window) == (True, None)
        assert found.version.startswith("3.")
        assert "IVF_FLAT" in (found.index_types or ())


def test_threads_share_one_client(engine: Engine) -> None:
    close_all()
    connection = connect(resolve(engine.settings, None))
    clients: list[Any] = []
    threads = [
        threading.Thread(target=lambda: clients.append(connection.client)) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(clients) == 16
    assert len({id(client) for client in clients}) == 1


def test_closed_by_somebody(engine: Engine) -> None:
    connection = connect(resolve(engine.settings, None))
    connection.client.close()
    assert connection.run(names) is not None
    connection.close()
    connection.close()
    assert connection.run(names) is not None


def _in_child(connection: Connection, results: Any) -> None:
    parent = connection._client
    for _ in range(3):
        connection.run(names)
    gc.collect()
    results.put((connection.client is not parent, os.getpid()))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_processes_have_clients_of_their_own(engine: Engine) -> None:
    connection = connect(resolve(engine.settings, None))
    connection.run(names)
    client = connection.client
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    children = [context.Process(target=_in_child, args=(connection, results)) for _ in range(4)]
    for child in children:
        child.start()
    found = [results.get(timeout=PATIENCE) for _ in children]
    for child in children:
        child.join(PATIENCE)
        assert child.exitcode == 0
    assert all(own for own, _ in found)
    assert connection.client is client
    assert connection.run(names) is not None


def test_exit_is_silent(engine: Engine) -> None:
    script = (
        "from fiftyone_milvus.connection import Settings, connect, resolve\n"
        f"connection = connect(resolve(Settings.parse({engine.kwargs!r}), None))\n"
        "connection.run(lambda client: client.list_collections())\n"
        "connection.register_orm()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class TestEmbeddedService:
    def test_killed_service_is_started_again(self, embedded_path: Path) -> None:
        connection = connection_to(uri=str(embedded_path))
        client = connection.client
        connection.run(lambda client: client.create_collection("kept", dimension=2, timeout=20))
        status = embedded.status(embedded_path)
        assert status is not None
        os.kill(status.pid, signal.SIGKILL)
        assert connection.run(names) == ["kept"]
        # Its token was that of the earlier start
        assert connection.client is not client

    @pytest.mark.parametrize("stopped", [True, False])
    def test_a_directory_that_was_deleted_starts_anew(
        self, embedded_path: Path, stopped: bool
    ) -> None:
        connection = connection_to(uri=str(embedded_path))
        connection.run(lambda c: c.create_collection("gone", dimension=4, timeout=5))
        status = embedded.status(embedded_path)
        assert status is not None
        if stopped:
            assert embedded.stop(embedded_path)
        shutil.rmtree(embedded_path)
        # The service sees by itself that its directory is gone, and ends
        wait_until(lambda: not alive(status.pid))
        assert connection.run(lambda c: c.list_collections(timeout=5)) == []

    def test_refusals_are_not_repeated(self, embedded_path: Path) -> None:
        connection = connection_to(uri=str(embedded_path))
        calls: list[int] = []

        def refused(client: Any) -> Any:
            calls.append(1)
            return client.search("nowhere", [[0.0]], limit=1, timeout=5)

        with pytest.raises(ValueError, match="nowhere"):
            connection.run(refused)
        assert len(calls) == 1

    def test_errors_of_our_own_pass(self, embedded_path: Path) -> None:
        def fails(client: Any) -> None:
            raise EngineError("mine")

        with pytest.raises(EngineError, match=r"^mine$") as caught:
            connection_to(uri=str(embedded_path)).run(fails)
        assert caught.value.__cause__ is None


def test_run_costs_next_to_nothing(make_idle: Callable[[], Connection]) -> None:
    connection = make_idle()
    count = 5000
    start = time.thread_time()
    for _ in range(count):
        connection.run(lambda client: None)
    assert (time.thread_time() - start) / count < 50e-6


@pytest.fixture
def make_idle(embedded_path: Path) -> Callable[[], Connection]:
    def make() -> Connection:
        connection = connection_to(uri=str(embedded_path))
        connection.run(names)
        return connection

    return make


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_right_after_a_connection_opens(engine: Engine) -> None:
    """The fork is not delayed, and neither the parent nor the child fails."""
    target = resolve(engine.settings, None)
    delays = []
    for _ in range(3):
        opened = Connection(target)
        opened.run(names)
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(30)  # ends a child that hangs
                opened.run(names)
                os._exit(0)
            finally:
                os._exit(1)
        delays.append(time.monotonic() - began)
        assert os.waitpid(child, 0)[1] == 0
        opened.run(names)
        opened.close()
    if not channels_are_watched():
        assert min(delays) < 0.25
