"""Who may talk to the service, and who may read what it leaves."""

from __future__ import annotations

import contextlib
import grp
import ipaddress
import json
import os
import pwd
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import psutil
import pymilvus
import pytest
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

from fiftyone_milvus import embedded
from fiftyone_milvus.connection import Connection, Settings, close_all, resolve
from fiftyone_milvus.connection import connect as connect_to
from fiftyone_milvus.embedded import handshake, service_file
from fiftyone_milvus.errors import EmbeddedServiceError
from tests.embedded.child import connect, count, create, rows
from tests.embedded.support import gone
from tests.support.waiting import wait_until


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

    assert after.address == before.address
    client = connect(data)
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
    key = service_file.load(data).key
    assert key not in repr(service_file.load(data)) + (data / "service.log").read_text()


def test_control_channel_needs_the_key_too(data):
    pid = embedded.ensure(data).pid
    known = service_file.load(data)
    hello = b'{"nonce": "1"}'
    replay = handshake.proof(known.key, "client", "1", "2", "stop")
    derived = handshake.proof(known.token, "client", "1", "2", "stop")
    for lines in (
        [b'{"operation": "stop", "token": "no"}'],
        [b"[]"],
        [b""],
        [b'{"nonce": 1e999}', b"{}"],
        [hello, b'{"operation": "stop"}'],
        [hello, b'{"operation": "stop", "proof": 5}'],
        [hello, json.dumps({"operation": "stop", "proof": replay}).encode()],
        [hello, json.dumps({"operation": "stop", "proof": derived}).encode()],
    ):
        reply = b""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(known.control)
            for line in lines:
                connection.sendall(line + b"\n")
                reply = connection.recv(4096)
        assert reply == b"" or json.loads(reply) == {"state": "refused"}
        assert known.key.encode() not in reply

    assert embedded.status(data).pid == pid


class Taker:
    """A program that holds the ports of a service, and keeps what it is sent."""

    def __init__(self, ports: list[int], answer: Callable[[bytes], bytes]) -> None:
        self.heard: list[bytes] = []
        self._answer = answer
        self._listening = [socket.create_server(("127.0.0.1", port)) for port in ports]
        for listening in self._listening:
            threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while line := connection.recv(65536):
                self.heard.append(line)
                connection.sendall(self._answer(line))

    def close(self) -> None:
        for listening in self._listening:
            listening.close()


@pytest.mark.parametrize("reflects", [False, True])
def test_who_took_over_the_ports_learns_nothing(data, monkeypatch, reflects):
    monkeypatch.setenv("FIFTYONE_MILVUS_TRANSPORT", "tcp")
    target = resolve(Settings(uri=str(data)), None)
    connection = Connection(target)
    assert connection.run(lambda client: client.list_collections()) == []
    before = embedded.ensure(data)
    known = service_file.load(data)
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: gone(before.pid))
    ports = [int(address.rpartition(":")[2]) for address in (known.milvus, known.control)]
    lie = {"state": "serving", "pid": before.pid, "nonce": "0", "proof": "0"}
    taker = Taker(ports, lambda line: line if reflects else json.dumps(lie).encode() + b"\n")
    try:
        assert connection.run(lambda client: client.list_collections()) == []
        after = embedded.ensure(data)
    finally:
        taker.close()
        connection.close()

    assert after.address != before.address
    assert not {after.token, service_file.load(data).key} & {before.token, known.key}
    assert taker.heard  # it was asked who it is
    said = b"".join(taker.heard)
    for secret in (known.key, before.token, encoded(before.token), "operation", "proof"):
        assert reflects or secret.encode() not in said
    assert known.key.encode() not in said
    assert encoded(before.token).encode() not in said
    # What it may have seen of an earlier start lets nobody in now
    sent = [("authorization", encoded(before.token))]
    assert ask(after, sent) is grpc.StatusCode.UNAUTHENTICATED


def test_connections_go_on_after_a_restart(data):
    target = resolve(Settings(uri=str(data)), None)
    connection = connect_to(target)
    create(connection.client)
    assert connection.register_orm()
    held = connection.client
    embedded.stop(data)

    assert connection.run(lambda client: client.list_collections()) == ["rows"]
    assert pymilvus.utility.list_collections() == ["rows"]
    with pytest.raises(grpc.RpcError, match="a new one after each start"):
        held.list_collections()
    close_all()


def test_service_knows_no_credentials(data, monkeypatch):
    monkeypatch.setenv("FIFTYONE_BRAIN_SIMILARITY_MILVUS_PASSWORD", "secret-1")
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", "mongodb://user:secret-2@h")
    monkeypatch.setenv("FIFTYONE_MILVUS_IDLE_SECONDS", "77")
    pid = embedded.ensure(data).pid

    found = psutil.Process(pid).environ()
    assert "secret-" not in repr(found)
    assert found["FIFTYONE_MILVUS_IDLE_SECONDS"] == "77"


THEIRS = 54321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to another user")


@as_root
def test_what_belongs_to_another_user_is_refused(data):
    create(connect(data))
    embedded.stop(data)
    for what in (".", "service.json", "service.lock", "service.log", "collections", "LOCK"):
        os.lchown(data / what, THEIRS, THEIRS)
        with pytest.raises(EmbeddedServiceError, match=f"another user .*{THEIRS}") as refused:
            embedded.ensure(data)
        assert "\n" not in str(refused.value)
        os.lchown(data / what, 0, 0)
    assert connect(data).list_collections() == ["rows"]


@as_root
def test_a_planted_service_is_not_asked(data, tmp_path):
    data.mkdir()
    control = tmp_path / "c"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(control))
        listening.listen()
        listening.settimeout(0.01)
        planted = service_file.ServiceFile(
            "x", str(data), "0" * 64, f"unix:{control}", str(control)
        )
        service_file.save(planted)
        os.chown(data / "service.json", THEIRS, THEIRS)
        with pytest.raises(EmbeddedServiceError, match="another user"):
            embedded.status(data)
        os.chown(data / "service.json", 0, 0)
        os.chown(control, THEIRS, THEIRS)
        with pytest.raises(EmbeddedServiceError, match="another user"):
            embedded.status(data)
        with pytest.raises(TimeoutError):
            listening.accept()


@as_root
@pytest.mark.parametrize(("trusted", "mode"), [(str(THEIRS), 0o700), ("any", 0o777)])
def test_another_user_can_be_trusted(data, monkeypatch, trusted, mode):
    data.mkdir()
    data.chmod(mode)
    os.chown(data, THEIRS, THEIRS)
    monkeypatch.setenv("FIFTYONE_MILVUS_TRUST_UID", trusted)

    assert connect(data).list_collections() == []


@pytest.mark.parametrize("name", ["service.json", "service.lock", "service.log"])
@pytest.mark.parametrize("kind", ["link", "dangling", "FIFO", "socket"])
def test_what_is_no_file_is_neither_followed_nor_waited_for(data, tmp_path, kind, name):
    data.mkdir()
    mine = tmp_path / "mine"
    if kind == "link":
        mine.write_text("mine")
    if kind in ("link", "dangling"):
        (data / name).symlink_to(mine)
    elif kind == "FIFO":
        os.mkfifo(data / name)
    else:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(data / name))
    start = time.monotonic()

    expected = "a link" if kind == "dangling" else f"a {kind}"
    with pytest.raises(EmbeddedServiceError, match=f"{name}' is {expected}, not a regular file"):
        embedded.ensure(data)

    assert time.monotonic() - start < 15
    assert mine.exists() == (kind == "link")
    assert kind != "link" or mine.read_text() == "mine"


def test_what_others_can_write_is_refused_and_stays(data):
    create(connect(data))
    embedded.stop(data)
    for what, mode, said in (
        (".", 0o707, "every user .*chmod o-w"),
        ("service.json", 0o644, "holds a secret.*chmod 600"),
        ("service.log", 0o602, "every user"),
        ("collections", 0o777, "every user"),
    ):
        before = stat.S_IMODE((data / what).stat().st_mode)
        (data / what).chmod(mode)
        with pytest.raises(EmbeddedServiceError, match=said):
            embedded.ensure(data)
        assert stat.S_IMODE((data / what).stat().st_mode) == mode
        (data / what).chmod(before)
    assert connect(data).list_collections() == ["rows"]


@pytest.mark.parametrize("own", [True, False])
def test_a_directory_of_a_group(data, own):
    data.mkdir()
    data.chmod(0o770)
    if own:
        mine = grp.getgrgid(os.getgid())
        if mine.gr_name != pwd.getpwuid(os.getuid()).pw_name:
            pytest.skip("this user has no group of its own")
        assert connect(data).list_collections() == []
    else:
        if os.geteuid() != 0:
            pytest.skip("needs root, to give a directory to another group")
        os.chown(data, -1, THEIRS)
        with pytest.raises(EmbeddedServiceError, match=f"group with ID {THEIRS} .*chmod g-w"):
            embedded.ensure(data)
    assert stat.S_IMODE(data.stat().st_mode) == 0o770


def test_a_named_runtime_directory_keeps_its_mode(data, runtime):
    runtime.chmod(0o755)
    assert connect(data).list_collections() == []
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o755
    embedded.stop(data)

    runtime.chmod(0o757)
    with pytest.raises(EmbeddedServiceError, match="every user"):
        embedded.ensure(data)
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o757


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
