"""Looks at calls that run, while any do, to say whom a slow one waits for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.5


class Watcher(Generic[T]):
    """The calls that run, and one thread that looks at them twice a second while there are any.

    Args:
        name: of the thread
        look: takes the calls that run
    """

    def __init__(self, name: str, look: Callable[[Collection[T]], None]) -> None:
        self._name, self._look = name, look
        self._reset()
        if hasattr(os, "register_at_fork"):
            # A child has neither the thread nor the calls
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self.running: set[T] = set()
        self._awake = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self, call: T) -> None:
        """Watches a call until :meth:`end`."""
        self.running.add(call)
        if not self._awake.is_set():
            self._wake()

    def end(self, call: T) -> None:
        """Ends the watch of a call."""
        self.running.discard(call)

    def _wake(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name=self._name, daemon=True)
                self._thread.start()
            self._awake.set()

    def _watch(self) -> None:
        while self._awake.wait():
            time.sleep(_POLL_SECONDS)
            self._look(list(self.running))
            if not self.running:
                self._awake.clear()
                if self.running:  # one began just now, and found the thread awake
                    self._awake.set()
