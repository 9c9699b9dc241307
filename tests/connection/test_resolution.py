"""Which engine is used, and where."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from fiftyone_milvus import embedded
from fiftyone_milvus.connection import (
    Settings,
    Target,
    connect,
    new_indexes,
    probe,
    resolution,
    resolve,
)
from fiftyone_milvus.errors import InvalidInputError, UnreachableError
from tests.support.processes import free_port
from tests.support.servers import MilvusServer


def target(uri: str | None = None, deployment: str | None = None, **values: object) -> Target:
    return resolve(Settings.parse({"uri": uri, **values}), deployment)


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("http://h:1", "http://h:1"),
        ("http://h", "http://h:19530"),
        ("tcp://h:1", "http://h:1"),
        ("grpc://h:1", "http://h:1"),
        ("https://h", "https://h:443"),
        ("HTTPS://H:2", "https://h:2"),
        ("localhost:19530", "http://localhost:19530"),
        ("unix:/run/milvus.sock", "unix:/run/milvus.sock"),
    ],
)
def test_addresses_of_servers(uri: str, address: str) -> None:
    assert (target(uri).deployment, target(uri).address) == ("server", address)


def test_paths_are_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    found = target("link/my images.db")
    assert found.deployment == "embedded"
    assert found.path == tmp_path / "real" / "my images.db"
    assert found.address == str(found.path)


@pytest.mark.parametrize("uri", ["data", "/data/milvus", "ftp://h:1", "h:99999", "file:///a.db"])
def test_neither(uri: str) -> None:
    with pytest.raises(InvalidInputError, match=r"is not an address of Milvus.*\.db"):
        target(uri)


def test_tls_follows_what_is_given(tmp_path: Path) -> None:
    certificate = str(tmp_path / "ca.pem")
    assert not target("http://h:1").tls
    assert target("http://h:1", secure=True).tls
    assert target("http://h:1", ca_pem_path=certificate).tls
    assert not target("http://h:1", ca_pem_path=certificate, secure=False).tls
    assert target("https://h:1", secure=False).tls


def test_a_recorded_deployment_without_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolution, "LOCAL_SERVER", f"http://localhost:{free_port()}")
    assert target(deployment="embedded").path == embedded.default_path()
    server = target(deployment="server")
    assert (server.deployment, server.address) == ("server", resolution.LOCAL_SERVER)
    with pytest.raises(InvalidInputError, match="'embedded' or 'server', got 'cloud'"):
        target(deployment="cloud")


def test_a_new_index_without_a_server_is_embedded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resolution, "LOCAL_SERVER", f"http://localhost:{free_port()}")
    found: list[Target] = []
    lines = logged(caplog, lambda: found.extend([target(), target()]))
    assert {entry.path for entry in found} == {embedded.default_path()}
    assert lines == [
        f"New indexes go to Milvus' embedded engine in {embedded.default_path()}: no address is "
        f"given, and no Milvus listens at {resolution.LOCAL_SERVER}"
    ]


def test_a_new_index_uses_the_server_on_this_machine(
    milvus_server: MilvusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolution, "LOCAL_SERVER", milvus_server.uri)
    found = target()
    assert (found.deployment, found.address) == ("server", milvus_server.uri)
    assert connect(found).run(lambda client: client.list_collections()) is not None


def logged(caplog: pytest.LogCaptureFixture, call: Callable[[], object]) -> list[str]:
    resolution._announce.cache_clear()
    logger = logging.getLogger("fiftyone_milvus")
    logger.addHandler(caplog.handler)
    caplog.clear()
    try:
        with caplog.at_level(logging.INFO, logger="fiftyone_milvus"):
            call()
    finally:
        logger.removeHandler(caplog.handler)
    return list(dict.fromkeys(record.getMessage() for record in caplog.records))


class Listener:
    """Something on the port of the local server; ``answer`` says what it answers, if anything."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: bytes | None) -> None:
        self.heard = b""
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://localhost:{self._socket.getsockname()[1]}"
        monkeypatch.setattr(resolution, "LOCAL_SERVER", self.address)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._talk, args=self._socket.accept()[:1]).start()

    def _talk(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.settimeout(10)
            while said := connection.recv(65536):
                self.heard += said
                if self._answer is not None:
                    connection.sendall(self._answer)
                    return

    def close(self) -> None:
        self._socket.close()


def test_something_else_that_listens_is_not_a_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = Listener(monkeypatch, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    lines = logged(caplog, target)
    other.close()
    assert target().deployment == "embedded"
    assert f"What listens at {other.address} is not Milvus" in lines
    assert [line for line in lines if line.startswith("New indexes go to Milvus' embedded")]


@pytest.mark.parametrize("answer", [None, b""], ids=["silent", "closes"])
def test_what_does_not_say_what_it_is_gets_nothing(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | None
) -> None:
    monkeypatch.setattr(probe, "PROBE_SECONDS", 1.0)
    other = Listener(monkeypatch, answer)
    try:
        for _ in range(2):
            start = time.monotonic()
            with pytest.raises(UnreachableError, match=r"has not answered.* 1 s; pass uri=") as e:
                target()
            assert 0.9 < time.monotonic() - start < 5
            assert other.address in str(e.value)
            assert "\n" not in str(e.value)
        # A stored run knows its engine, and an address needs no question
        assert target(deployment="embedded").deployment == "embedded"
        assert target("x.db").deployment == "embedded"
    finally:
        other.close()
    assert b"authorization" not in other.heard


@pytest.mark.parametrize(
    "given",
    [{"token": "root:secret-1"}, {"user": "root", "password": "secret-1"}],
    ids=["token", "password"],
)
@pytest.mark.parametrize("deployment", [None, "server"])
def test_credentials_need_an_address(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], deployment: str | None
) -> None:
    other = Listener(monkeypatch, None)
    with pytest.raises(InvalidInputError, match="sent only to an address that you name") as error:
        target(deployment=deployment, **given)
    other.close()
    assert "secret" not in str(error.value)
    assert other.heard == b""
    assert "sent only" in new_indexes(Settings.parse(given))
    assert new_indexes(Settings.parse({"uri": "http://root:secret-1@h:1"})) == (
        "the Milvus server at http://h:1: that is the configured address"
    )
    assert target(deployment="embedded", **given).deployment == "embedded"


def test_a_busy_server_is_waited_for_and_the_answer_kept(
    milvus_server: MilvusServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Delay(milvus_server, 2.0) as proxy:
        monkeypatch.setattr(resolution, "LOCAL_SERVER", proxy.address)
        lines = logged(caplog, target)
        assert lines == [
            f"New indexes go to the Milvus server at {proxy.address}: no address is given, and a "
            "Milvus answers there"
        ]
        assert new_indexes(Settings()).startswith(f"the Milvus server at {proxy.address}: no addr")
    # Gone, but decided
    assert target().deployment == "server"


class Delay:
    """A way to a server that takes connections at once, and passes them on after some seconds."""

    def __init__(self, server: MilvusServer, seconds: float) -> None:
        self._to = (server.host, server.port)
        self._seconds = seconds
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://localhost:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Delay:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._pass, args=self._socket.accept()[:1]).start()

    def _pass(self, one: socket.socket) -> None:
        time.sleep(self._seconds)
        with suppress(OSError), one, socket.create_connection(self._to) as other:
            back = threading.Thread(target=self._copy, args=(other, one))
            back.start()
            self._copy(one, other)
            back.join()

    @staticmethod
    def _copy(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while said := one.recv(65536):
                other.sendall(said)
            other.shutdown(socket.SHUT_WR)
