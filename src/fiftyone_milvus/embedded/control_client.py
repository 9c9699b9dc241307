"""The client's end of the control socket: a handshake, then one line of JSON each way.

A client process keeps one connection open for as long as it lives. The system closes it however
the process ends. So the service knows when it has no clients left, and the process knows, without
a request, that the service has ended.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from fiftyone_milvus.embedded import files, handshake, processes
from fiftyone_milvus.embedded.service_file import ServiceFile, load
from fiftyone_milvus.embedded.status import Endpoint
from fiftyone_milvus.errors import EmbeddedServiceError

_POLL_SECONDS = 0.05
_ANSWER_BYTES = 1 << 20

_ATTACH_SECONDS = 15.0
"""How long a running service may take to answer; one that starts or ends may take longer."""


class Attachment:
    """The connection that this process keeps open to a running service.

    Attributes:
        endpoint: where the service answers
    """

    def __init__(self, connection: socket.socket, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._connection = connection
        self._owner = os.getpid()
        connection.setblocking(False)

    def is_alive(self) -> bool:
        """Whether the service still runs, and this is the process that attached."""
        if self._owner != os.getpid():
            return False
        try:
            return self._connection.recv(1) != b""
        except BlockingIOError:
            return True  # open, and nothing to read: the service never writes to it
        except OSError:
            return False

    def close(self) -> None:
        """Closes this process's end; that of a parent process stays as it is."""
        self._connection.close()


def attach(path: Path, deadline: float) -> Attachment | None:
    """Attaches this process to the service of a data directory.

    Args:
        path: the resolved data directory
        deadline: the ``time.monotonic()`` until which to wait for an answer, or for a service
            that is ending

    Returns:
        None if no service runs

    Raises:
        EmbeddedServiceError: if one runs that does not answer in time
    """
    while (service := load(path)) is not None:
        answer_by = min(deadline, time.monotonic() + _ATTACH_SECONDS)
        connection, reply = _exchange(service, "attach", answer_by)
        if connection is None:
            return None
        if reply.get("state") == "serving":
            if service.milvus.startswith("unix:"):
                files.check_socket(service.milvus.removeprefix("unix:"))
            endpoint = Endpoint(service.address, service.token, int(reply["pid"]), path)
            return Attachment(connection, endpoint)
        connection.close()
        if reply.get("state") == "refused":
            return None  # it serves another directory, which had this path before
        if time.monotonic() >= deadline:
            raise EmbeddedServiceError(
                f"the Milvus Lite service of '{path}' (process {reply.get('pid')}) is ending but "
                f"has not ended in time; try again, or end it with 'kill -9 {reply.get('pid')}'"
            )
        time.sleep(_POLL_SECONDS)
    return None


def ask(path: Path, operation: str, timeout: float) -> dict[str, Any] | None:
    """Sends one request to the service of a data directory.

    Args:
        path: the resolved data directory
        operation: ``"status"``, ``"stop"``, ``"verify"`` or ``"ping"``
        timeout: seconds to wait for the answer

    Returns:
        its answer, or None if no service runs

    Raises:
        EmbeddedServiceError: if one runs that does not answer in time
    """
    service = load(path)
    if service is None:
        return None
    connection, reply = _exchange(service, operation, time.monotonic() + timeout)
    if connection is None:
        return None
    connection.close()
    return None if reply.get("state") == "refused" else reply


def _exchange(
    service: ServiceFile, operation: str, deadline: float
) -> tuple[socket.socket | None, dict[str, Any]]:
    mine = handshake.nonce()
    connection = socket.socket(_family(service), socket.SOCK_STREAM)
    try:
        _connect(connection, service.control, deadline)
        hello = _ask(connection, {"nonce": mine}, deadline)
        nonces = mine, str(hello.get("nonce"))
        if not handshake.proves(
            hello.get("proof"), handshake.proof(service.key, "service", *nonces)
        ):
            # Another program has its address by now, or a service that was started since
            raise ConnectionRefusedError
        request = {
            "operation": operation,
            "pid": os.getpid(),
            "proof": handshake.proof(service.key, "client", *nonces, operation),
        }
        return connection, _ask(connection, request, deadline)
    except TimeoutError as error:
        connection.close()
        raise EmbeddedServiceError(
            f"the Milvus Lite service of '{service.path}' does not answer; "
            f"{processes.describe(service)}"
        ) from error
    except EmbeddedServiceError:
        connection.close()
        raise
    except (OSError, ValueError):
        # It does not run, or it ended during the request.
        connection.close()
        return None, {}


def _ask(connection: socket.socket, request: dict[str, Any], deadline: float) -> dict[str, Any]:
    """Sends a line, and returns the one that is answered."""
    connection.sendall(json.dumps(request).encode() + b"\n")
    line = b""
    while not line.endswith(b"\n") and len(line) < _ANSWER_BYTES:
        connection.settimeout(max(deadline - time.monotonic(), 0.01))
        if not (part := connection.recv(65536)):
            break
        line += part
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise ValueError("an answer is not an object")
    return answer


def _family(service: ServiceFile) -> socket.AddressFamily:
    return socket.AF_INET if service.control.startswith("127.0.0.1:") else socket.AF_UNIX


def _connect(connection: socket.socket, control: str, deadline: float) -> None:
    address: Any = control
    if connection.family == socket.AF_INET:
        address = ("127.0.0.1", int(control.rpartition(":")[2]))
        if not address[1]:
            raise ConnectionRefusedError
    else:
        files.check_socket(control)
    while True:
        connection.settimeout(max(deadline - time.monotonic(), 0.01))
        try:
            return connection.connect(address)
        except BlockingIOError:
            # The service's queue of unanswered connections is full.
            if time.monotonic() >= deadline:
                raise TimeoutError from None
            time.sleep(_POLL_SECONDS)
