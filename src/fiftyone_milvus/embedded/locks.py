"""Who may work on a collection at once.

Milvus Lite supports one writer per collection, and its readers are safe against its background
work, but not against a writer: a flush swaps the rows in memory for an empty table before their
segment is visible, so a count or a search in that moment misses them. Hence many readers or one
writer, for each collection.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator


class ReadWriteLock:
    """Held by many readers or by one writer, granted in the order of asking.

    The order matters: with writers first, two uploads would shut out every search, and with
    readers first the other way round.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._queue: deque[object] = deque()
        self._readers = 0
        self._writing = False

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Holds the lock together with other readers."""
        self._wait(lambda: not self._writing)
        try:
            yield
        finally:
            with self._condition:
                self._readers -= 1
                self._condition.notify_all()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the lock alone."""
        self._wait(lambda: not self._writing and not self._readers, writing=True)
        try:
            yield
        finally:
            with self._condition:
                self._writing = False
                self._condition.notify_all()

    def _wait(self, free: Callable[[], bool], *, writing: bool = False) -> None:
        ticket = object()
        with self._condition:
            self._queue.append(ticket)
            try:
                self._condition.wait_for(lambda: self._queue[0] is ticket and free())
            finally:
                self._queue.remove(ticket)
                self._condition.notify_all()
            if writing:
                self._writing = True
            else:
                self._readers += 1


class Locks:
    """The locks of one service: one for each collection, and one for what collections there are."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._collections: dict[tuple[str, str], ReadWriteLock] = {}
        self._structure = threading.RLock()

    @contextlib.contextmanager
    def reading(self, collections: Iterable[tuple[str, str]]) -> Iterator[None]:
        """Holds (database, collection) pairs against writers."""
        with contextlib.ExitStack() as held:
            for lock in self._of(collections):
                held.enter_context(lock.reading())
            yield

    @contextlib.contextmanager
    def writing(self, collections: Iterable[tuple[str, str]]) -> Iterator[None]:
        """Holds (database, collection) pairs against everybody."""
        with contextlib.ExitStack() as held:
            for lock in self._of(collections):
                held.enter_context(lock.writing())
            yield

    @contextlib.contextmanager
    def restructuring(self, collections: Iterable[tuple[str, str]]) -> Iterator[None]:
        """Holds what collections there are, and (database, collection) pairs against everybody."""
        with self._structure, self.writing(collections):
            yield

    def _of(self, collections: Iterable[tuple[str, str]]) -> list[ReadWriteLock]:
        # Sorted, so that two requests which name the same collections can't wait for each other.
        names = sorted(set(collections))
        with self._guard:
            return [self._collections.setdefault(name, ReadWriteLock()) for name in names]
