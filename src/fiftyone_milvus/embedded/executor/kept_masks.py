"""The masks of long lists of keys, for the next search among the same ones.

A search in a view names all its keys, and people search a view many times. To read 100,000 keys
and find their rows takes longer than to search among these.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable

from fiftyone_milvus.embedded.executor import in_lists
from fiftyone_milvus.embedded.executor.live_rows import View
from fiftyone_milvus.embedded.executor.parts import Mask

Masks = list[Mask | None]

_LONG = 32_000
"""Characters; shorter filters are evaluated in a millisecond."""

_MOST = 4
"""Of one state of a collection, with a byte for each row in each."""


class KeptMasks:
    """The masks of the last four long filters of each view of a collection's rows."""

    def __init__(self) -> None:
        self._of: weakref.WeakKeyDictionary[View, OrderedDict[bytes, Masks]] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = threading.Lock()

    def get(self, view: View, expr: str, evaluate: Callable[[], Masks]) -> Masks:
        """Returns the masks of a filter, evaluated once for each view.

        Args:
            view: the rows, which never change
            expr: the filter
            evaluate: evaluates it

        Returns:
            what ``evaluate`` returned; not to be changed
        """
        if len(expr) < _LONG or not in_lists.is_one_list(expr):
            return evaluate()
        key = hashlib.blake2b(expr.encode(), digest_size=16).digest()
        with self._lock:
            kept = self._of.setdefault(view, OrderedDict())
            if key in kept:
                kept.move_to_end(key)
                return kept[key]
        found = evaluate()
        with self._lock:
            kept[key] = found
            while len(kept) > _MOST:
                kept.popitem(last=False)
        return found
