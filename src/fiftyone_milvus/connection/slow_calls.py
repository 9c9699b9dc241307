"""Says who does not answer, while a call waits. One thread watches all calls of the process."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

from fiftyone_milvus import embedded
from fiftyone_milvus.connection.target import Target

logger = logging.getLogger(__name__)

WARN_SECONDS = 5.0
"""After so long, a warning says who has not answered yet."""

_AGAIN_SECONDS = 30.0
_POLL_SECONDS = 0.5


class Call:
    """A call that runs.

    Args:
        target: the Milvus that is called
        operation: what is called; its ``method``, if it has one, is the name in the warning
    """

    __slots__ = ("began", "operation", "target", "warned")

    def __init__(self, target: Target, operation: Any) -> None:
        self.target, self.operation = target, operation
        self.began, self.warned = time.monotonic(), False


class _Watcher:
    """The calls that run, and the thread that looks at them twice a second while there are any."""

    def __init__(self) -> None:
        self._running: set[Call] = set()
        self._awake = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._warned: dict[str, float] = {}

    def begin(self, target: Target, operation: Any) -> Call:
        call = Call(target, operation)
        self._running.add(call)
        if not self._awake.is_set():
            self._wake()
        return call

    def end(self, call: Call) -> None:
        self._running.discard(call)

    def _wake(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, name="fiftyone-milvus-slow-calls", daemon=True
                )
                self._thread.start()
            self._awake.set()

    def _watch(self) -> None:
        while self._awake.wait():
            time.sleep(_POLL_SECONDS)
            for call in list(self._running):
                if not call.warned and time.monotonic() - call.began >= WARN_SECONDS:
                    call.warned = True
                    self._warn(call)
            if not self._running:
                self._awake.clear()
                if self._running:  # one began just now, and found the thread awake
                    self._awake.set()

    def _warn(self, call: Call) -> None:
        address, now = call.target.address, time.monotonic()
        if now - self._warned.get(address, -_AGAIN_SECONDS) < _AGAIN_SECONDS:
            return  # one line for many threads that wait for the same Milvus
        self._warned[address] = now
        try:
            logger.warning("%s", message(call))
        except Exception:  # such as a service file that can't be read: the call itself will tell
            logger.debug("can't say who does not answer", exc_info=True)


def message(call: Call) -> str:
    """Returns what to say about a call that waits, in one line."""
    seconds = time.monotonic() - call.began
    operation = call.operation
    what = str(getattr(operation, "method", "") or getattr(operation, "__name__", "<>"))
    waits = f"has not answered for {seconds:.0f} s" + ("" if what.startswith("<") else f" ({what})")
    target = call.target
    if target.path is None:
        return f"Milvus at {target.address} {waits}; still waiting"
    return f"The service of {target.address} {waits}; {embedded.holder(target.path)}"


_watcher = _Watcher()


def begin(target: Target, operation: Any) -> Call:
    """Watches a call until :func:`end`."""
    return _watcher.begin(target, operation)


def end(call: Call) -> None:
    """Ends the watch of a call."""
    _watcher.end(call)


def _after_fork() -> None:
    # The child has neither the thread nor the calls
    global _watcher
    _watcher = _Watcher()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
