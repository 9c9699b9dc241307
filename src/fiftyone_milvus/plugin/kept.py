"""Keeps what forms showed last: the App resolves a form at each keystroke."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from fiftyone_milvus.plugin.places import digest

T = TypeVar("T")

_KEPT = 4
_SECONDS = 30


class Kept(Generic[T]):
    """Some results, each for half a minute, or until its index changes.

    An edit of samples, such as a tag, is not noticed earlier.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[float, T]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, index: Any, asked: Any, compute: Callable[[], T]) -> T:
        """Returns a kept result, or computes it; other threads that ask meanwhile wait.

        Args:
            index: the index that was asked
            asked: what it was asked, as JSON types
            compute: returns the result
        """
        dataset = str(index._samples._root_dataset._doc.id)
        key = digest([dataset, index.key, index.total_index_size, asked])
        with self._lock:
            now = time.monotonic()
            if key not in self._known or self._known[key][0] < now - _SECONDS:
                found = compute()
                self._known[key] = time.monotonic(), found
                while len(self._known) > _KEPT:
                    self._known.popitem(last=False)
            return self._known[key][1]
