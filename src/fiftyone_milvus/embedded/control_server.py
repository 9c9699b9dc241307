"""The service's end of the control socket; see :mod:`.control_client` for the client's."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from fiftyone_milvus.embedded import handshake
from fiftyone_milvus.embedded.lifetime import Activity

logger = logging.getLogger(__name__)

_REQUEST_BYTES = 4096
_REQUEST_SECONDS = 5.0
_RETRY_SECONDS = 0.2
_QUEUE = 128


class Control:
    """Answers clients that attach, ask for the status, or ask the service to end.

    Args:
        address: the path of a unix socket, or ``127.0.0.1:<port>`` with port 0 for any
        key: the secret that this service and its clients prove to know
        activity: where attached clients are counted
        status: returns the answer to ``"status"``
        stop: called for ``"stop"``
        verify: returns the answer to ``"verify"``
    """

    def __init__(
        self,
        address: str,
        key: str,
        activity: Activity,
        status: Callable[[], dict[str, Any]],
        stop: Callable[[], None],
        verify: Callable[[], dict[str, Any]],
    ) -> None:
        self._key = key
        self._activity = activity
        self._stop = stop
        self._answers = {"status": status, "verify": verify}
        self._ending = False
        self._attached: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listening = _listen(address)
        bound = self._listening.getsockname()
        self.address = bound if isinstance(bound, str) else f"{bound[0]}:{bound[1]}"
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def detach_all(self) -> None:
        """Disconnects every client; from now on, the answer to a client is that it should wait."""
        with self._lock:
            self._ending = True
            attached = list(self._attached)
        for connection in attached:
            with contextlib.suppress(OSError):  # the client was faster
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stops listening; the caller removes the socket's file."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while self._listening.fileno() >= 0:
            with contextlib.suppress(OSError):
                connection, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
                continue
            time.sleep(_RETRY_SECONDS)  # too many open files, most likely

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(_REQUEST_SECONDS)
            try:
                self._answer(connection)
            except Exception:
                logger.debug("a control connection failed", exc_info=True)

    def _answer(self, connection: socket.socket) -> None:
        nonces = str(_line(connection)["nonce"]), handshake.nonce()
        proof = handshake.proof(self._key, "service", *nonces)
        _send(connection, {"nonce": nonces[1], "proof": proof})
        request = _line(connection)
        operation = str(request["operation"])
        expected = handshake.proof(self._key, "client", *nonces, operation)
        if not handshake.proves(request.get("proof"), expected):
            logger.warning("refused a control connection that does not know the key")
            _send(connection, {"state": "refused"})
        elif operation == "attach":
            self._attach(connection)
        else:
            extra = self._answers[operation]() if operation in self._answers else {}
            _send(connection, {**self._state(), **extra})
            if operation == "stop":
                self._stop()

    def _attach(self, connection: socket.socket) -> None:
        with self._lock:
            if serving := not self._ending:
                self._attached.add(connection)
                self._activity.client_came()
        try:
            _send(connection, self._state())
            connection.settimeout(None)
            while serving and connection.recv(64):
                pass
        finally:
            with self._lock:
                if connection in self._attached:
                    self._attached.discard(connection)
                    self._activity.client_left()

    def _state(self) -> dict[str, Any]:
        return {"state": "ending" if self._ending else "serving", "pid": os.getpid()}


def _line(connection: socket.socket) -> dict[str, Any]:
    # A client sends its next line only after the answer to this one, so none is read too much
    with connection.makefile("rb") as stream:
        request = json.loads(stream.readline(_REQUEST_BYTES))
    if not isinstance(request, dict):
        raise ValueError("a request is not an object")
    return request


def _send(connection: socket.socket, reply: dict[str, Any]) -> None:
    connection.sendall(json.dumps(reply).encode() + b"\n")


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    if host == "127.0.0.1":
        try:
            return socket.create_server((host, int(port)), backlog=_QUEUE)
        except OSError:  # another program uses the port by now
            return socket.create_server((host, 0), backlog=_QUEUE)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(address)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(_QUEUE)
    return listening
