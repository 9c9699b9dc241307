"""The masks of long lists of keys, for the next search among the same ones.

A search in a view names all its keys, and people search a view many times. To read 100,000 keys
and find their rows takes longer than to search among these.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable

from fiftyone_milvus.embedded.executor import in_lists
from fiftyone_milvus.embedded.executor.live_rows import UnsupportedError, View
from fiftyone_milvus.embedded.executor.parts import Mask
from fiftyone_milvus.embedded.markers import SAME, name_of

Masks = list[Mask | None]

_LONG = 32_000
"""Characters; shorter filters are evaluated in a millisecond."""

_MOST = 4
"""Of one state of a collection, with a byte for each row in each."""


class KeptMasks:
    """The masks of the last four long filters of each view of a collection's rows."""

    def __init__(self) -> None:
        self._of: weakref.WeakKeyDictionary[View, OrderedDict[str, Masks]] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = threading.Lock()

    def get(self, view: View, expr: str, evaluate: Callable[[], Masks]) -> Masks:
        """Returns the masks of a filter; those of a long list are evaluated once for each view.

        Args:
            view: the rows, which never change
            expr: the filter, or the name of one behind :data:`SAME`
            evaluate: evaluates it

        Returns:
            what ``evaluate`` returned; not to be changed

        Raises:
            UnsupportedError: there is no filter of this name
        """
        named = expr.startswith(SAME)
        if not named and (len(expr) < _LONG or not in_lists.is_one_list(expr)):
            return evaluate()
        name = expr.removeprefix(SAME) if named else name_of(expr)
        with self._lock:
            kept = self._of.setdefault(view, OrderedDict())
            if name in kept:
                kept.move_to_end(name)
                return kept[name]
        if named:
            raise UnsupportedError("an unknown list of keys")
        found = evaluate()
        with self._lock:
            kept[name] = found
            while len(kept) > _MOST:
                kept.popitem(last=False)
        return found
