"""The service's end of the control socket; see :mod:`.control_client` for the client's."""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import os
import socket
import socketserver
import threading
from collections.abc import Callable
from typing import Any

from fiftyone_milvus.embedded.lifetime import Activity

logger = logging.getLogger(__name__)

_REQUEST_BYTES = 4096
_REQUEST_SECONDS = 5.0


class Control:
    """Answers clients that attach, ask for the status, or ask the service to end.

    Args:
        address: the path of a unix socket, or ``127.0.0.1:<port>`` with port 0 for any
        token: the secret that clients must send
        activity: where attached clients are counted
        status: returns the answer to ``"status"``
        stop: called for ``"stop"``
    """

    def __init__(
        self,
        address: str,
        token: str,
        activity: Activity,
        status: Callable[[], dict[str, Any]],
        stop: Callable[[], None],
    ) -> None:
        self._token = token.encode()
        self._activity = activity
        self._status = status
        self._stop = stop
        self._ending = False
        self._attached: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server = _listen(address, self._serve)
        bound = self._server.server_address
        self.address = bound if isinstance(bound, str) else f"{bound[0]}:{bound[1]}"
        threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.2},
            name="control",
            daemon=True,
        ).start()

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
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, connection: socket.socket, lines: Any) -> None:
        connection.settimeout(_REQUEST_SECONDS)
        try:
            request = json.loads(lines.readline(_REQUEST_BYTES))
            operation, token = request["operation"], request["token"]
            known = hmac.compare_digest(str(token).encode(), self._token)
        except (OSError, ValueError, KeyError, TypeError):
            return

        if not known:
            logger.warning("refused a control connection with a wrong token")
            _answer(connection, {"state": "refused"})
        elif operation == "attach":
            self._attach(connection)
        else:
            extra = self._status() if operation == "status" else {}
            _answer(connection, {**self._state(), **extra})
            if operation == "stop":
                self._stop()

    def _attach(self, connection: socket.socket) -> None:
        with self._lock:
            if serving := not self._ending:
                self._attached.add(connection)
                self._activity.client_came()
        try:
            _answer(connection, self._state())
            if not serving:
                return
            connection.settimeout(None)
            while connection.recv(64):
                pass
        except OSError:
            pass
        finally:
            with self._lock:
                if connection in self._attached:
                    self._attached.discard(connection)
                    self._activity.client_left()

    def _state(self) -> dict[str, Any]:
        return {"state": "ending" if self._ending else "serving", "pid": os.getpid()}


def _answer(connection: socket.socket, reply: dict[str, Any]) -> None:
    connection.sendall(json.dumps(reply).encode() + b"\n")


def _listen(address: str, serve: Callable[[socket.socket, Any], None]) -> Any:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            serve(self.connection, self.rfile)

    class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
        address_family = socket.AF_INET
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128
        # On Windows the option would let two processes share the port.
        allow_reuse_address = os.name == "posix"

        def handle_error(self, request: Any, client_address: Any) -> None:
            logger.debug("a control connection failed", exc_info=True)

    host, _, port = address.rpartition(":")
    if host == "127.0.0.1":
        try:
            return Server((host, int(port)), Handler)
        except OSError:
            return Server((host, 0), Handler)

    Server.address_family = socket.AF_UNIX
    Server.allow_reuse_address = False
    if os.path.lexists(address):
        os.unlink(address)
    return Server(address, Handler)  # type: ignore[arg-type]
