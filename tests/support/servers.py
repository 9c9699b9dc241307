"""Real Milvus 2.3.5 servers for tests: plain, with authorization, with one-way or mutual TLS."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from filelock import FileLock

from tests.support.certificates import Certificates, make_certificates
from tests.support.environment import CACHE

Kind = Literal["plain", "auth", "tls", "mtls"]

ROOT_PASSWORD = "Milvus"
_SUPERVISOR = Path(__file__).with_name("supervisor.py")


@dataclass
class MilvusServer:
    """A Milvus server that answers at ``uri``.

    Attributes:
        kind: ``"auth"`` wants ``user``/``password`` or ``token``; ``"tls"`` shows a certificate
            signed by ``certificates.ca``; ``"mtls"`` wants a client certificate besides
        folder: its data, configuration and logs
        port: the port on the loopback interface; the same after a restart
        isolated: whether it runs in a network namespace of its own
        database: that of this test process, where several share the server; ``""`` is the default
    """

    kind: Kind
    folder: Path
    port: int = 0
    certificates: Certificates | None = None
    isolated: bool = False
    database: str = ""
    pid: int = 0
    _membership: int | None = field(default=None, repr=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _reservation: socket.socket | None = field(default=None, repr=False)

    @classmethod
    def start(
        cls, kind: Kind, folder: Path, *, namespace: bool = True, timeout: float = 120
    ) -> MilvusServer:
        """Starts a server and waits until it creates, fills and searches a collection.

        Args:
            kind: see the class
            folder: an empty or missing folder for its data
            namespace: False to run on the host's network
            timeout: seconds to wait

        Raises:
            RuntimeError: if it does not come up; the message holds the end of its log
        """
        _need_milvus()
        server = cls(kind, folder)
        if kind in ("tls", "mtls"):
            server.certificates = make_certificates(folder / "certificates")
        # Bound but not listening: nobody else gets the port while the server is down.
        server._reservation = _bound_socket()
        server.port = server._reservation.getsockname()[1]
        try:
            server._launch(namespace)
            server.wait_ready(timeout)
        except BaseException:
            server.stop()
            raise
        return server

    @classmethod
    def share(cls, folder: Path, database: str, *, timeout: float = 120) -> MilvusServer:
        """Joins a plain server of several test processes, which the first of them starts.

        It ends, with its data, when the last of them has left it, however that ends. An idle server
        takes 6 % of a core, and one takes as many tests as four.

        Args:
            folder: the same for all
            database: of this process; made if it is not there
            timeout: seconds to wait for the server

        Raises:
            RuntimeError: if it does not come up
        """
        _need_milvus()
        server = cls("plain", folder / "data", database=database)
        folder.mkdir(parents=True, exist_ok=True)
        # Held open by all, and read by the server's supervisor: that reads the end after the last
        users, address = folder / "users", folder / "address.json"
        with FileLock(folder / "lock"):
            if not users.exists():
                os.mkfifo(users)
            try:
                server._membership = os.open(users, os.O_WRONLY | os.O_NONBLOCK)
                server.port, server.pid = json.loads(address.read_text())
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                server._start_shared(users, timeout)
                address.write_text(json.dumps([server.port, server.pid]))
            client = server.client(database="")
            if database and database not in client.list_databases():
                client.create_database(database)
            client.close()
        return server

    def _start_shared(self, users: Path, timeout: float) -> None:
        reader = os.open(users, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(reader, True)
        self._membership = os.open(users, os.O_WRONLY)
        self._reservation = _bound_socket()
        self.port = self._reservation.getsockname()[1]
        try:
            self._launch(True, reader)
            self.wait_ready(timeout)
        except BaseException:
            self.stop()
            raise
        finally:
            os.close(reader)

    @property
    def host(self) -> str:
        return "127.0.0.1"

    @property
    def uri(self) -> str:
        scheme = "https" if self.certificates else "http"
        return f"{scheme}://{self.host}:{self.port}"

    @property
    def user(self) -> str | None:
        return "root" if self.kind == "auth" else None

    @property
    def password(self) -> str | None:
        return ROOT_PASSWORD if self.kind == "auth" else None

    @property
    def token(self) -> str | None:
        return f"{self.user}:{self.password}" if self.kind == "auth" else None

    @property
    def kwargs(self) -> dict[str, Any]:
        """What to pass to ``compute_similarity`` to use this server."""
        kwargs: dict[str, Any] = {"uri": self.uri}
        if self.database:
            kwargs["db_name"] = self.database
        if self.kind == "auth":
            kwargs.update(user=self.user, password=self.password)
        if self.certificates:
            kwargs["ca_pem_path"] = self.certificates.ca
        if self.kind == "mtls":
            assert self.certificates is not None
            kwargs["client_pem_path"] = self.certificates.client
            kwargs["client_key_path"] = self.certificates.client_key
        return kwargs

    def client(self, database: str | None = None) -> Any:
        """A bare ``pymilvus.MilvusClient`` of this server, none of our code involved.

        Args:
            database (None): the one to use; by default, that of this test process
        """
        from pymilvus import MilvusClient

        kwargs = {**self.kwargs, "db_name": self.database if database is None else database}
        if self.kind == "tls":
            kwargs["server_pem_path"] = kwargs.pop("ca_pem_path")
        return MilvusClient(**kwargs, timeout=10, dedicated=True)

    def kill(self) -> None:
        """Ends it as ``kill -9`` would; its port refuses connections from then on."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)
        self._reap()

    def restart(self, timeout: float = 120) -> None:
        """Starts it again on the same port and data, after ``kill`` or from running."""
        self.kill()
        self._launch(self.isolated)
        self.wait_ready(timeout)

    def stop(self) -> None:
        """Ends it, with its data; one that is shared, when the others have left it too."""
        if self._membership is not None:
            os.close(self._membership)
            self._membership = None
            if self._process is not None and self._process.stdout is not None:
                self._process.stdout.close()
        elif self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
            self._reap()
        if self._reservation is not None:
            self._reservation.close()
            self._reservation = None

    def log_tail(self, characters: int = 3000) -> str:
        """The end of the server's log."""
        path = self.folder / "server.log"
        return path.read_text(errors="replace")[-characters:] if path.exists() else ""

    def wait_ready(self, timeout: float) -> None:
        """Waits for a round trip through every coordinator: TCP answers long before they do."""
        deadline = time.monotonic() + timeout
        problem: Exception | None = None
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"the Milvus server ended: {self.log_tail()}")
            try:
                return self._round_trip()
            except Exception as error:
                problem = error
                time.sleep(0.25)
        raise RuntimeError(f"no Milvus after {timeout} s ({problem}): {self.log_tail()}")

    def _round_trip(self) -> None:
        from pymilvus import DataType

        with _quiet_pymilvus():
            client = self.client(database="")
            try:
                client.list_collections(timeout=3)
                name = f"ready_{time.time_ns()}"
                schema = client.create_schema()
                schema.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=64)
                schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
                index = client.prepare_index_params()
                index.add_index("vector", index_type="FLAT", metric_type="L2")
                client.create_collection(name, schema=schema, index_params=index, timeout=10)
                try:
                    client.insert(name, [{"pk": "a", "vector": [0.0, 1.0]}], timeout=10)
                    found = client.search(
                        name, [[0.0, 1.0]], limit=1, timeout=10, consistency_level="Strong"
                    )
                    if len(found[0]) != 1:
                        raise RuntimeError("the row is not there")
                finally:
                    client.drop_collection(name, timeout=10)
            finally:
                client.close()

    def _launch(self, namespace: bool, stdin: int = subprocess.PIPE) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(_SUPERVISOR), "--folder", str(self.folder)]
        command += ["--port", str(self.port), "--cache", str(CACHE)]
        command += ["--options", json.dumps(self._options())]
        if not namespace:
            command.append("--no-namespace")
        with open(self.folder / "supervisor.log", "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            reason = (self.folder / "supervisor.log").read_text()[-2000:]
            raise RuntimeError(f"the Milvus server can't be started: {reason}")
        started = json.loads(line)
        self.pid, self.isolated = started["pid"], started["isolated"]

    def _options(self) -> dict[str, Any]:
        # A killed server's sessions block its successor until they expire.
        options: dict[str, Any] = {"common.session.ttl": 10, "log.level": "warn"}
        # Each message channel in use takes a percent of a core, idle or not; by default there are
        # 16. All collections share these: as many as one test asks shards of one collection
        options["rootCoord.dmlChannelNum"] = 4
        if self.kind == "auth":
            options["authorization_enabled"] = True
        if self.certificates is not None:
            options["tls_mode"] = 1 if self.kind == "tls" else 2
            options["server_pem_path"] = self.certificates.server
            options["server_key_path"] = self.certificates.server_key
            options["ca_pem_path"] = self.certificates.ca
        return options

    def _reap(self) -> None:
        assert self._process is not None
        self._process.wait(60)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process = None


def _need_milvus() -> None:
    if importlib.util.find_spec("milvus") is None:
        pytest.skip("no Milvus server: its PyPI package is for Linux x86-64 only")


def _bound_socket() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


@contextlib.contextmanager
def _quiet_pymilvus() -> Any:
    import logging

    loggers = [logging.getLogger("pymilvus"), logging.getLogger("pymilvus.milvus_client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
