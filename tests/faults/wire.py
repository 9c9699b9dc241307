"""A wire to a server, which can be cut, held or made narrow."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

_PIECE = 16 << 10
"""How much a narrow wire carries at a time."""


class Wire:
    """Carries every connection to a port of its own on to another port.

    Args:
        port: where to, on the loopback interface
        host ("127.0.0.1"): the address of its own port, ``"::1"`` for IPv6
        limit (None): how many bytes a second it carries to the server, in all; None for any

    Raises:
        OSError: if this machine has no such address
    """

    def __init__(self, port: int, host: str = "127.0.0.1", limit: float | None = None) -> None:
        self._to, self._host, self._limit = port, host, limit
        self._free_at, self._lock = time.monotonic(), threading.Lock()
        self._ends: set[socket.socket] = set()
        self._flowing = threading.Event()
        self._flowing.set()
        self.port = 0
        self.mend()

    @property
    def uri(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    def cut(self) -> None:
        """Ends every connection; new ones are refused."""
        _shut(self._listener)
        for end in list(self._ends):
            _shut(end)

    def mend(self) -> None:
        """Takes connections again, at the same port."""
        self._listener = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((self._host, self.port))
        self.port = self._listener.getsockname()[1]
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def hold(self) -> None:
        """Carries nothing, and ends nothing: as when the network is gone."""
        self._flowing.clear()

    def release(self) -> None:
        """Carries what was held back."""
        self._flowing.set()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._ends |= {near, far}
                if self._limit is not None:
                    # What the system keeps on the way would not hold up who sends it
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * _PIECE)
                for ends in ((near, far, self._limit), (far, near, None)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, limit: float | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 18 if limit is None else _PIECE):
                if limit is not None:
                    with self._lock:
                        begin = max(self._free_at, time.monotonic())
                        self._free_at = begin + len(data) / limit
                    time.sleep(max(0.0, self._free_at - time.monotonic()))
                self._flowing.wait()
                sink.sendall(data)
        for end in (source, sink):
            _shut(end)
            self._ends.discard(end)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
