"""Locks of collections: many readers or one writer, in the order of asking, until a deadline.

Milvus Lite supports one writer for each collection, and its own reads are not safe during
a write: a flush swaps the rows in memory for an empty table before their segment is visible.
Reads of an immutable view (see :mod:`.executor.live_rows`) need no lock.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

_DEFAULT_SECONDS = 600.0
_MARGIN_SECONDS = 1.0
_PART_SECONDS = 1.0
# For a client without a deadline, gRPC says centuries.
_NO_DEADLINE = 1e8

Collection = tuple[str, str]
"""The names of a database and of a collection in it."""


class WaitError(Exception):
    """A wait that reached its deadline; the message is one line that says what it waited for."""


@dataclasses.dataclass(frozen=True)
class Call:
    """A request that may have to wait.

    Attributes:
        method: the name of the request, such as ``Upsert``
        deadline: the ``time.monotonic()`` until which it may wait
        is_active: whether its client still waits for the answer
    """

    method: str
    deadline: float
    is_active: Callable[[], bool] = lambda: True

    @staticmethod
    def of(method: str, context: Any) -> Call:
        """A request whose waits end shortly before its client gives up, so that it learns why.

        Args:
            method: the name of the request
            context: gRPC's, or None; without a deadline, waits end after 600 s
        """
        seconds = None if context is None else context.time_remaining()
        if seconds is None or seconds > _NO_DEADLINE:
            seconds = _DEFAULT_SECONDS
        deadline = time.monotonic() + seconds - min(_MARGIN_SECONDS, seconds / 4)
        return Call(method, deadline, getattr(context, "is_active", Call.is_active))

    def at_once(self) -> Call:
        """The same request, if it must not wait."""
        return dataclasses.replace(self, deadline=time.monotonic())

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(self.deadline - time.monotonic(), 0.0)

    def waits(self) -> Iterator[float]:
        """Yields the seconds of each part of a wait, until the deadline or while the client waits.

        A client that has gone must not keep a thread until its deadline.
        """
        yield min(self.remaining, _PART_SECONDS)
        while self.remaining and self.is_active():
            yield min(self.remaining, _PART_SECONDS)

    def acquire(self, lock: Any, what: str) -> None:
        """Acquires one of Milvus Lite's locks.

        Args:
            lock: a ``threading.Lock`` or ``RLock``
            what: what holds it, for the error

        Raises:
            WaitError: if it is not free by the deadline
        """
        if not any(lock.acquire(timeout=seconds) for seconds in self.waits()):
            raise WaitError(f"{self.method} waited too long for {what}; try again")


class ReadWriteLock:
    """Held by many readers or by one writer, granted in the order of asking.

    The order matters: with writers first, two uploads would shut out every reader, and with
    readers first the other way round.

    Args:
        what: what it protects, for errors
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._condition = threading.Condition()
        self._queue: deque[object] = deque()
        self._readers = 0
        self._writer: tuple[str, float] | None = None

    def reading(self, call: Call) -> AbstractContextManager[None]:
        """Holds the lock together with other readers; raises WaitError at the deadline."""
        return self._held(call, writing=False)

    def writing(self, call: Call) -> AbstractContextManager[None]:
        """Holds the lock alone; raises WaitError at the deadline."""
        return self._held(call, writing=True)

    @contextlib.contextmanager
    def _held(self, call: Call, *, writing: bool) -> Iterator[None]:
        self._wait(call, writing=writing)
        try:
            yield
        finally:
            with self._condition:
                self._readers -= not writing
                self._writer = None
                self._condition.notify_all()

    def _wait(self, call: Call, *, writing: bool) -> None:
        ticket = object()
        with self._condition:
            self._queue.append(ticket)
            try:
                free = lambda: (  # noqa: E731
                    self._queue[0] is ticket
                    and self._writer is None
                    and not (writing and self._readers)
                )
                if not any(self._condition.wait_for(free, part) for part in call.waits()):
                    raise WaitError(f"{call.method} waited too long for {self._holder()}")
                if writing:
                    self._writer = call.method, time.monotonic()
                else:
                    self._readers += 1
            finally:
                self._queue.remove(ticket)
                self._condition.notify_all()

    def _holder(self) -> str:
        if self._writer is None:
            return f"other requests on {self._what}; try again"
        method, since = self._writer
        seconds = time.monotonic() - since
        return f"{method} on {self._what}, which has run for {seconds:.1f} s; try again later"


class Locks:
    """The locks of one service: one for each collection, and one for the list of collections.

    To enter one raises :class:`WaitError` at the deadline of the call.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._collections: dict[Collection, ReadWriteLock] = {}
        self._list = ReadWriteLock("the list of collections")

    def reading(
        self, collections: Iterable[Collection], call: Call
    ) -> AbstractContextManager[None]:
        """Holds collections against writers."""
        return _all_held([lock.reading(call) for lock in self._of(collections)])

    def writing(
        self, collections: Iterable[Collection], call: Call
    ) -> AbstractContextManager[None]:
        """Holds collections against readers and writers."""
        return _all_held([lock.writing(call) for lock in self._of(collections)])

    def listing(self, call: Call) -> AbstractContextManager[None]:
        """Holds the list of collections against changes."""
        return self._list.reading(call)

    def changing_list(
        self, collections: Iterable[Collection], call: Call
    ) -> AbstractContextManager[None]:
        """Holds collections, and the list of collections, against readers and writers."""
        # The list comes last: a wait for one collection must not hold up requests for others.
        return _all_held([self.writing(collections, call), self._list.writing(call)])

    def _of(self, collections: Iterable[Collection]) -> list[ReadWriteLock]:
        # Sorted, so that two requests which name the same collections can't wait for each other.
        with self._guard:
            return [
                self._collections.setdefault(key, ReadWriteLock(f"collection '{key[1]}'"))
                for key in sorted(set(collections))
            ]


@contextlib.contextmanager
def _all_held(locks: list[AbstractContextManager[None]]) -> Iterator[None]:
    with contextlib.ExitStack() as held:
        for lock in locks:
            held.enter_context(lock)
        yield
