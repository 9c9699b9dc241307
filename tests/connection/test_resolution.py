"""Which engine is used, and where."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from fiftyone_milvus import embedded
from fiftyone_milvus.connection import Settings, Target, connect, resolution, resolve
from fiftyone_milvus.errors import InvalidInputError
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
    resolution._announce.cache_clear()
    logger = logging.getLogger("fiftyone_milvus")
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO, logger="fiftyone_milvus"):
            found = [target(), target()]
    finally:
        logger.removeHandler(caplog.handler)
    assert {entry.path for entry in found} == {embedded.default_path()}
    lines = {record.getMessage() for record in caplog.records}
    assert lines == {f"Using Milvus' embedded engine in {embedded.default_path()}"}


def test_a_new_index_uses_the_server_on_this_machine(
    milvus_server: MilvusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolution, "LOCAL_SERVER", milvus_server.uri)
    found = target()
    assert (found.deployment, found.address) == ("server", milvus_server.uri)
    assert connect(found).run(lambda client: client.list_collections()) is not None


def test_something_else_that_listens_is_not_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"http://localhost:{listener.getsockname()[1]}"
        monkeypatch.setattr(resolution, "LOCAL_SERVER", address)
        assert target().deployment == "embedded"
