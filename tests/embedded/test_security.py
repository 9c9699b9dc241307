"""Who may talk to the service, and who may read what it leaves."""

from __future__ import annotations

import ipaddress
import json
import socket
import stat
from pathlib import Path

import grpc
import psutil
import pytest
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

from fiftyone_milvus import embedded
from fiftyone_milvus.embedded import service_file
from fiftyone_milvus.errors import EmbeddedServiceError
from tests.embedded.child import connect, count, create, rows
from tests.embedded.support import gone, wait_until


@pytest.fixture(params=["unix", "tcp"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FIFTYONE_MILVUS_TRANSPORT", request.param)
    return request.param


def ask(endpoint: embedded.Endpoint, metadata: list[tuple[str, str]]) -> grpc.StatusCode:
    with grpc.insecure_channel(endpoint.address.removeprefix("http://")) as channel:
        stub = milvus_pb2_grpc.MilvusServiceStub(channel)
        try:
            stub.ShowCollections(milvus_pb2.ShowCollectionsRequest(), metadata=metadata, timeout=5)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def encoded(text: str) -> str:
    import base64

    return base64.b64encode(text.encode()).decode()


def test_only_the_token_lets_in(data, transport):
    endpoint = embedded.ensure(data)

    assert ask(endpoint, [("authorization", encoded(endpoint.token))]) is grpc.StatusCode.OK
    for metadata in (
        [],
        [("authorization", "")],
        [("authorization", endpoint.token)],
        [("authorization", encoded("root:Milvus"))],
        [("authorization", encoded(endpoint.token[:-1]))],
        [("authorization", encoded(endpoint.token + "x"))],
    ):
        assert ask(endpoint, metadata) is grpc.StatusCode.UNAUTHENTICATED


def test_service_listens_on_loopback_or_unix_sockets_only(data, transport):
    endpoint = embedded.ensure(data)
    listening = [
        connection
        for connection in psutil.Process(endpoint.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]

    if transport == "unix":
        assert endpoint.address.startswith("unix:")
        assert listening == []
    else:
        assert endpoint.address.startswith("http://127.0.0.1:")
        assert len(listening) == 2  # Milvus, and the control channel
    for connection in listening:
        ip = ipaddress.ip_address(connection.laddr.ip.removeprefix("::ffff:"))
        assert ip.is_loopback


def test_loopback_address_and_rows_survive_restarts(data, monkeypatch):
    monkeypatch.setenv("FIFTYONE_MILVUS_TRANSPORT", "tcp")
    before = embedded.ensure(data)
    client = connect(data)
    create(client)
    client.upsert("rows", rows(range(10)))
    embedded.stop(data)
    wait_until(lambda: gone(before.pid))

    after = embedded.ensure(data)

    assert (after.address, after.token) == (before.address, before.token)
    client.load_collection("rows")
    assert count(client) == 10


def test_lost_port_is_replaced(data, monkeypatch):
    monkeypatch.setenv("FIFTYONE_MILVUS_TRANSPORT", "tcp")
    before = embedded.ensure(data)
    embedded.stop(data)
    port = int(before.address.rpartition(":")[2])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        after = embedded.ensure(data)

    assert after.address != before.address
    assert connect(data).list_collections() == []


def test_files_are_this_users_only(data, runtime):
    endpoint = embedded.ensure(data)
    create(connect(data))

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.lstat().st_mode)

    assert mode(data) == 0o700
    assert mode(runtime) == 0o700
    for name in ("service.json", "service.lock", "service.log"):
        assert mode(data / name) == 0o600
    assert mode(Path(endpoint.address.removeprefix("unix:"))) == 0o600
    below = [*data.rglob("*"), *runtime.rglob("*")]
    assert below
    assert [path for path in below if mode(path) & 0o077] == []


def test_token_is_shown_nowhere(data):
    endpoint = embedded.ensure(data)
    create(connect(data))
    ask(endpoint, [("authorization", encoded("wrong"))])

    assert endpoint.token not in repr(endpoint)
    assert endpoint.token not in repr(service_file.load(data))
    assert endpoint.token not in " ".join(psutil.Process(endpoint.pid).cmdline())
    assert endpoint.token not in (data / "service.log").read_text()
    assert endpoint.token not in repr(embedded.status(data))


def test_control_channel_needs_the_token_too(data):
    pid = embedded.ensure(data).pid
    requests = [b'{"operation": "stop", "token": "no"}', b'{"operation": "stop"}', b"[]", b""]
    for request in requests:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(service_file.load(data).control)
            connection.sendall(request + b"\n")
            reply = connection.recv(4096)
        assert reply == b"" or json.loads(reply) == {"state": "refused"}

    assert embedded.status(data).pid == pid


def test_runtime_directory_that_another_user_may_have_made_is_refused(data, tmp_path, monkeypatch):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    link = tmp_path / "link"
    link.symlink_to(theirs)
    monkeypatch.setenv("FIFTYONE_MILVUS_RUNTIME_DIR", str(link))

    with pytest.raises(EmbeddedServiceError, match="is not a directory of this user"):
        embedded.ensure(data)
    assert list(theirs.iterdir()) == []


def test_long_runtime_directory_falls_back_to_loopback(data, tmp_path, monkeypatch):
    monkeypatch.setenv("FIFTYONE_MILVUS_RUNTIME_DIR", str(tmp_path / ("long" * 30)))

    assert embedded.ensure(data).address.startswith("http://127.0.0.1:")
    assert connect(data).list_collections() == []
