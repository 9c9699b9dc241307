"""Keeps what can be made again: what was used last, up to a number of bytes."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Values of owners by name; those that were not used for longest are dropped first.

    Args:
        max_bytes: of all values together; a larger value is not kept

    Attributes:
        nbytes: of all values that are kept
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._values: OrderedDict[tuple[int, str], tuple[T, int]] = OrderedDict()
        self._names: dict[int, set[str]] = {}
        # An owner may end, in this thread, at any time
        self._lock = threading.RLock()
        self.nbytes = 0

    def get(self, owner: object, name: str) -> T | None:
        """Returns a value, or None if it is not kept."""
        key = (id(owner), name)
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, owner: object, name: str, value: T, nbytes: int) -> None:
        """Keeps a value as long as its owner lives and it is used.

        Args:
            owner: whose value; it can be referred to weakly
            name: which of its values
            value: the value, which is not None
            nbytes: how much memory it takes
        """
        if nbytes > self._max_bytes:
            return
        with self._lock:
            if id(owner) not in self._names:
                self._names[id(owner)] = set()
                weakref.finalize(owner, self._forget, id(owner)).atexit = False
            self._names[id(owner)].add(name)
            self._drop((id(owner), name))
            self._values[id(owner), name] = value, nbytes
            self.nbytes += nbytes
            while self.nbytes > self._max_bytes:
                self._drop(next(iter(self._values)))

    def _drop(self, key: tuple[int, str]) -> None:
        _, nbytes = self._values.pop(key, (None, 0))
        self.nbytes -= nbytes

    def _forget(self, owner: int) -> None:
        with self._lock:
            for name in self._names.pop(owner, ()):
                self._drop((owner, name))
