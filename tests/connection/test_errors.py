"""Each way in which a server can't be used: another error, one line, within five seconds."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pymilvus  # noqa: F401  (its import is not what the five seconds are about)
import pytest

from fiftyone_milvus.connection import (
    Settings,
    close_all,
    connect,
    diagnosis,
    resolution,
    resolve,
)
from fiftyone_milvus.errors import (
    AuthenticationError,
    CollectionNotFoundError,
    DatabaseNotFoundError,
    EngineError,
    FiftyOneMilvusError,
    PermissionDeniedError,
    TLSError,
    UnreachableError,
)
from fiftyone_milvus.inventory import milvus_status
from tests.conftest import Engine
from tests.faults.wire import Wire
from tests.support.processes import free_port
from tests.support.servers import MilvusServer

SECRETS = ("s3cret-word", "t0ken-word", "Milvus:", "bobs-word1")


@contextmanager
def refused(
    kind: type[FiftyOneMilvusError], *words: str, capfd: pytest.CaptureFixture[str]
) -> Iterator[None]:
    """The block raises exactly ``kind``, fast, in one line with ``words``, and prints nothing."""
    capfd.readouterr()
    start = time.monotonic()
    with pytest.raises(FiftyOneMilvusError) as caught:
        yield
    seconds = time.monotonic() - start
    message = str(caught.value)
    assert type(caught.value) is kind, message
    assert seconds < 20, message
    assert "\n" not in message
    for word in words:
        assert word in message, message
    assert not [secret for secret in SECRETS if secret in message]
    assert capfd.readouterr().err == ""


def list_collections(**values: Any) -> Any:
    connection = connect(resolve(Settings.parse(values), None))
    return connection.run(lambda client: client.list_collections(timeout=3), timeout=3)


def test_nothing_listens(capfd: pytest.CaptureFixture[str]) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    with refused(UnreachableError, uri, "nothing listens there", "start Milvus", capfd=capfd):
        list_collections(uri=uri, user="root", password="s3cret-word")


def test_no_such_host(capfd: pytest.CaptureFixture[str]) -> None:
    with refused(UnreachableError, "no host is called 'nowhere.invalid'", capfd=capfd):
        list_collections(uri="http://root:s3cret-word@nowhere.invalid:19530")


@contextmanager
def answering(reply: bytes) -> Iterator[int]:
    """A program that answers every connection with the same bytes, and closes it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    connection.recv(64)
                    connection.sendall(reply)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        # Ends the thread, which close() alone does not
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("reply", "what"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "an HTTP server listens there"),
        (b"", "closes the connection"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "a program that speaks no gRPC listens there"),
    ],
    ids=["http", "closing", "another"],
)
def test_another_program(reply: bytes, what: str, capfd: pytest.CaptureFixture[str]) -> None:
    with answering(reply) as port:
        uri = f"http://127.0.0.1:{port}"
        with refused(UnreachableError, what, uri, "19530", capfd=capfd):
            list_collections(uri=uri)


def test_mongodb(capfd: pytest.CaptureFixture[str]) -> None:
    address = os.environ["FIFTYONE_DATABASE_URI"].removeprefix("mongodb://").partition("/")[0]
    with refused(UnreachableError, "closes the connection", address, "19530", capfd=capfd):
        list_collections(uri=f"http://{address}")


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_a_proxy_is_for_remote_servers_only(
    name: str, engine: Engine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    proxy = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv(name, f"http://me:s3cret-word@{proxy}")
    close_all()
    assert isinstance(list_collections(**engine.kwargs), list)
    with refused(UnreachableError, proxy, name, "no_proxy", "192.0.2.1", capfd=capfd):
        list_collections(uri="http://192.0.2.1:19530")
    monkeypatch.setenv("no_proxy", "localhost,192.0.2.1")
    assert diagnosis.proxy_of(resolve(Settings(uri="http://192.0.2.1:19530"), None)) is None
    close_all()


def test_ipv6(
    milvus_server: MilvusServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """pymilvus' ORM has no such addresses, which is no reason to fail."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # not for this machine
    try:
        wire = Wire(milvus_server.port, "::1")
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    connection = connect(resolve(Settings(uri=wire.uri), None))
    assert (connection.target.host, connection.target.port) == ("::1", wire.port)
    assert isinstance(connection.run(lambda client: client.list_collections(timeout=3)), list)
    assert not connection.register_orm()
    with pytest.raises(EngineError, match=r"IPv6.*index.client"):
        connection.collection("any")
    close_all()
    wire.cut()
    with refused(UnreachableError, f"at {wire.uri}: nothing listens there", capfd=capfd):
        list_collections(uri=wire.uri)


def test_a_server_answers_as_soon_as_it_is_back(milvus_server: MilvusServer) -> None:
    """Until gRPC connects again, calls fail with the error of before."""
    wire = Wire(milvus_server.port)
    connection = connect(resolve(Settings(uri=wire.uri), None))
    assert milvus_status(connection).error is None
    try:
        for _ in range(3):
            wire.cut()
            # Long enough for gRPC's longest pauses
            end = time.monotonic() + 2.5
            while time.monotonic() < end:
                assert milvus_status(connection).error is not None
            wire.mend()
            assert milvus_status(connection).error is None
    finally:
        connection.close()
        wire.cut()


def test_a_silent_listener(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with refused(UnreachableError, uri, "did not answer", capfd=capfd):
            list_collections(uri=uri)


def test_a_silent_listener_with_tls(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        uri = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with refused(UnreachableError, uri, "did not answer", capfd=capfd):
            list_collections(uri=uri)


class TestCredentials:
    def test_right(self, auth_server: MilvusServer) -> None:
        assert list_collections(**auth_server.kwargs) is not None
        assert list_collections(uri=auth_server.uri, token=auth_server.token) is not None
        host = auth_server.uri.removeprefix("http://")
        assert list_collections(uri=f"http://root:Milvus@{host}") is not None

    def test_none(self, auth_server: MilvusServer, capfd: pytest.CaptureFixture[str]) -> None:
        with refused(AuthenticationError, auth_server.uri, "requires credentials", capfd=capfd):
            list_collections(uri=auth_server.uri)

    def test_none_with_the_server_on_this_machine(
        self, auth_server: MilvusServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(resolution, "LOCAL_SERVER", auth_server.uri)
        found = resolve(Settings(), None)
        assert found.deployment == "server"
        with pytest.raises(AuthenticationError, match="requires credentials"):
            connect(found).run(lambda client: client.list_collections())

    def test_wrong_password(
        self, auth_server: MilvusServer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with refused(AuthenticationError, auth_server.uri, "'root'", "'password'", capfd=capfd):
            list_collections(uri=auth_server.uri, user="root", password="s3cret-word")

    def test_wrong_user(self, auth_server: MilvusServer, capfd: pytest.CaptureFixture[str]) -> None:
        with refused(AuthenticationError, auth_server.uri, "'nobody'", capfd=capfd):
            list_collections(uri=auth_server.uri, user="nobody", password="Milvus")

    def test_wrong_token(
        self, auth_server: MilvusServer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with refused(AuthenticationError, auth_server.uri, "check 'token'", capfd=capfd):
            list_collections(uri=auth_server.uri, token="root:t0ken-word")

    def test_unknown_database(
        self, auth_server: MilvusServer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with refused(
            DatabaseNotFoundError, auth_server.uri, "no database 'films'", "'db_name'", capfd=capfd
        ):
            list_collections(**auth_server.kwargs, db_name="films")

    def test_no_permission(
        self, auth_server: MilvusServer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        root = auth_server.client()
        root.create_user("bob", "bobs-word1")
        root.close()
        settings = Settings.parse({"uri": auth_server.uri, "user": "bob", "password": "bobs-word1"})
        bob = connect(resolve(settings, None))
        with refused(
            PermissionDeniedError, auth_server.uri, "'bob'", "'CreateCollection'", capfd=capfd
        ):
            bob.run(lambda client: client.create_collection("films", dimension=2, timeout=3))


class TestTLS:
    def test_only_the_authority(self, tls_server: MilvusServer) -> None:
        assert tls_server.certificates is not None
        ca = tls_server.certificates.ca
        assert list_collections(uri=tls_server.uri, ca_pem_path=ca) is not None
        plain = tls_server.uri.replace("https", "http")
        assert list_collections(uri=plain, ca_pem_path=ca, secure=True) is not None
        assert list_collections(uri=tls_server.uri, server_pem_path=ca) is not None

    def test_without_an_address(
        self, tls_server: MilvusServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert tls_server.certificates is not None
        ca, stranger = tls_server.certificates.ca, tls_server.certificates.stranger_ca
        local = f"http://localhost:{tls_server.port}"
        monkeypatch.setattr(resolution, "LOCAL_SERVER", local)
        with pytest.raises(TLSError, match=f"{local} requires TLS"):
            resolve(Settings(), None)
        with pytest.raises(TLSError, match="not trusted"):
            resolve(Settings(ca_pem_path=stranger), None)
        found = resolve(Settings(ca_pem_path=ca), None)
        assert (found.deployment, found.tls) == ("server", True)

    def test_the_servers_own_certificate(self, tls_server: MilvusServer) -> None:
        assert tls_server.certificates is not None
        certificate = tls_server.certificates.server
        assert list_collections(uri=tls_server.uri, server_pem_path=certificate) is not None

    def test_not_public(self, tls_server: MilvusServer, capfd: pytest.CaptureFixture[str]) -> None:
        with refused(TLSError, tls_server.uri, "no public authority", "ca_pem_path", capfd=capfd):
            list_collections(uri=tls_server.uri)

    def test_not_trusted(self, tls_server: MilvusServer, capfd: pytest.CaptureFixture[str]) -> None:
        assert tls_server.certificates is not None
        stranger = tls_server.certificates.stranger_ca
        with refused(TLSError, tls_server.uri, "not trusted", stranger, capfd=capfd):
            list_collections(uri=tls_server.uri, ca_pem_path=stranger)

    def test_another_host(
        self, tls_server: MilvusServer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with refused(TLSError, tls_server.uri, "'other.example'", "'server_name'", capfd=capfd):
            list_collections(**tls_server.kwargs, server_name="other.example")
        assert list_collections(**tls_server.kwargs, server_name="milvus.example") is not None

    def test_without_tls(self, tls_server: MilvusServer, capfd: pytest.CaptureFixture[str]) -> None:
        plain = tls_server.uri.replace("https", "http")
        with refused(TLSError, plain, "requires TLS", tls_server.uri, capfd=capfd):
            list_collections(uri=plain, user="root", password="s3cret-word")

    def test_with_tls_where_there_is_none(
        self, milvus_server: MilvusServer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        uri = milvus_server.uri.replace("http", "https")
        with refused(TLSError, uri, "does not speak TLS", capfd=capfd):
            list_collections(uri=uri)


class TestMutualTLS:
    def test_right(self, mtls_server: MilvusServer) -> None:
        assert list_collections(**mtls_server.kwargs) is not None

    def test_no_certificate(
        self, mtls_server: MilvusServer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert mtls_server.certificates is not None
        with refused(TLSError, mtls_server.uri, "requires a client certificate", capfd=capfd):
            list_collections(uri=mtls_server.uri, ca_pem_path=mtls_server.certificates.ca)

    def test_a_strangers_certificate(
        self, mtls_server: MilvusServer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        files = mtls_server.certificates
        assert files is not None
        with refused(TLSError, "refuses the client certificate", files.stranger, capfd=capfd):
            list_collections(
                uri=mtls_server.uri,
                ca_pem_path=files.ca,
                client_pem_path=files.stranger,
                client_key_path=files.stranger_key,
            )

    def test_a_key_that_does_not_fit(
        self, mtls_server: MilvusServer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        files = mtls_server.certificates
        assert files is not None
        kwargs = {**mtls_server.kwargs, "client_key_path": files.stranger_key}
        with refused(TLSError, "'client_key_path'", files.stranger_key, capfd=capfd):
            list_collections(**kwargs)


def test_files_that_are_missing_or_no_certificates(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "missing.pem")
    with refused(TLSError, "'ca_pem_path'", missing, "no such file", capfd=capfd):
        list_collections(uri="https://127.0.0.1:1", ca_pem_path=missing)
    text = tmp_path / "text.pem"
    text.write_text("hello")
    with refused(TLSError, "'server_pem_path'", str(text), "PEM", capfd=capfd):
        list_collections(uri="https://127.0.0.1:1", server_pem_path=str(text))


def test_what_milvus_refuses(
    milvus_server: MilvusServer, capfd: pytest.CaptureFixture[str]
) -> None:
    connection = connect(resolve(Settings.parse(milvus_server.kwargs), None))
    with refused(CollectionNotFoundError, "nowhere", milvus_server.uri, capfd=capfd):
        connection.run(lambda client: client.describe_collection("nowhere", timeout=3))
    with refused(EngineError, "Invalid collection name", capfd=capfd):
        connection.run(lambda client: client.create_collection("a b", dimension=2, timeout=3))


def test_pymilvus_is_quiet_for_us_only(
    milvus_server: MilvusServer, capfd: pytest.CaptureFixture[str]
) -> None:
    connection = connect(resolve(Settings.parse(milvus_server.kwargs), None))
    client = connection.client
    logger = logging.getLogger("pymilvus")
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        with pytest.raises(CollectionNotFoundError):
            connection.run(lambda client: client.describe_collection("nowhere", timeout=3))
        assert records == []
        with pytest.raises(Exception, match="nowhere"):
            client.describe_collection("nowhere", timeout=3)
        assert re.search("RPC error", records[0])
    finally:
        logger.removeHandler(handler)


def test_a_server_that_goes_and_comes_back(
    make_server: Callable[..., MilvusServer], capfd: pytest.CaptureFixture[str]
) -> None:
    server = make_server("plain")
    connection = connect(resolve(Settings.parse(server.kwargs), None))
    client = connection.client

    def names(client: Any) -> Any:
        return client.list_collections(timeout=3)

    assert connection.run(names) == []
    server.kill()
    with refused(UnreachableError, server.uri, "nothing listens there", capfd=capfd):
        connection.run(names)
    calls: list[int] = []
    start = time.monotonic()
    with pytest.raises(UnreachableError):
        connection.run(lambda client: calls.append(1) or names(client), retry=1.0)
    assert 1 <= time.monotonic() - start < 20
    assert len(calls) > 2
    server.restart()
    assert connection.run(names) == []
    assert connection.client is client
