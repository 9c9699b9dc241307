"""The client's end of the control channel: one line of JSON each way.

A client process holds one such connection open for as long as it lives: its lease. The system
closes it however the process ends, which is how the service knows that nobody needs it any more,
and how the process knows, without asking, that the service is gone.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from fiftyone_milvus.embedded.service_file import Identity, load
from fiftyone_milvus.embedded.status import Endpoint
from fiftyone_milvus.errors import EmbeddedServiceError

_POLL_SECONDS = 0.05


class Lease:
    """This process's hold on a running service.

    Attributes:
        endpoint: where the service answers
    """

    def __init__(self, connection: socket.socket, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._connection = connection
        self._owner = os.getpid()
        connection.setblocking(False)

    def alive(self) -> bool:
        """Whether the service still holds its end, and this is the process that attached."""
        if self._owner != os.getpid():
            return False
        try:
            return self._connection.recv(1) != b""
        except BlockingIOError:
            return True  # open, and nothing to read: the service never writes to a lease
        except OSError:
            return False

    def close(self) -> None:
        """Closes this process's end; that of a parent process stays as it is."""
        self._connection.close()


def attach(path: Path, deadline: float) -> Lease | None:
    """Attaches this process to the service of a data directory.

    Args:
        path: the resolved data directory
        deadline: the ``time.monotonic()`` until which to wait for an answer, or for a service
            that is about to end

    Returns:
        None if no service runs

    Raises:
        EmbeddedServiceError: if one runs that does not answer in time
    """
    while (identity := load(path)) is not None:
        connection, reply = _exchange(identity, "attach", deadline)
        if connection is None:
            return None
        if reply.get("state") == "serving":
            endpoint = Endpoint(identity.address, identity.token, int(reply["pid"]), path)
            return Lease(connection, endpoint)
        connection.close()
        if reply.get("state") == "refused":
            # Another directory's, which was here before this one.
            return None
        if time.monotonic() >= deadline:
            raise EmbeddedServiceError(
                f"the Milvus Lite service of '{path}' (process {reply.get('pid')}) is ending but "
                "has not in time; try again, or end that process"
            )
        time.sleep(_POLL_SECONDS)
    return None


def ask(path: Path, operation: str, timeout: float) -> dict[str, Any] | None:
    """Asks the service of a data directory one thing.

    Args:
        path: the resolved data directory
        operation: ``"status"`` or ``"stop"``
        timeout: seconds to wait for the answer

    Returns:
        its answer, or None if no service runs

    Raises:
        EmbeddedServiceError: if one runs that does not answer in time
    """
    identity = load(path)
    if identity is None:
        return None
    connection, reply = _exchange(identity, operation, time.monotonic() + timeout)
    if connection is None:
        return None
    connection.close()
    return None if reply.get("state") == "refused" else reply


def _exchange(
    identity: Identity, operation: str, deadline: float
) -> tuple[socket.socket | None, dict[str, Any]]:
    request = {"operation": operation, "token": identity.token, "pid": os.getpid()}
    try:
        connection = _connect(identity.control, deadline)
    except TimeoutError as error:
        raise _silent(identity) from error
    except OSError:
        return None, {}
    try:
        connection.sendall(json.dumps(request).encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            connection.settimeout(max(deadline - time.monotonic(), 0.01))
            if not (part := connection.recv(65536)):
                break
            line += part
        reply = json.loads(line)
    except TimeoutError as error:
        connection.close()
        raise _silent(identity) from error
    except (OSError, ValueError):
        # It ended while it was asked.
        connection.close()
        return None, {}
    return connection, reply


def _connect(control: str, deadline: float) -> socket.socket:
    if control.startswith("127.0.0.1:"):
        family, address = socket.AF_INET, ("127.0.0.1", int(control.rpartition(":")[2]))
        if not address[1]:
            raise ConnectionRefusedError
        connection = socket.socket(family, socket.SOCK_STREAM)
    else:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        address = control  # type: ignore[assignment]
    while True:
        connection.settimeout(max(deadline - time.monotonic(), 0.01))
        try:
            connection.connect(address)
        except BlockingIOError:
            # The service's queue of unanswered connections is full.
            if time.monotonic() >= deadline:
                connection.close()
                raise TimeoutError from None
            time.sleep(_POLL_SECONDS)
        except BaseException:
            connection.close()
            raise
        else:
            return connection


def _silent(identity: Identity) -> EmbeddedServiceError:
    return EmbeddedServiceError(
        f"the Milvus Lite service of '{identity.path}' runs but does not answer; try again, or end "
        "its process"
    )
