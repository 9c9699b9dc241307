"""The IDs of views that were read a moment ago, for as long as they are proven to be the same.

People filter once and search many times, and MongoDB needs longer to name the IDs of a narrow view
than Milvus to search among them.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.dataset import evidence, object_ids
from fiftyone_milvus.dataset.evidence import Evidence
from fiftyone_milvus.dataset.object_ids import IdArray

MAX_BYTES = 64 << 20
"""The most memory of all IDs that are kept in a process: those of some four million samples."""

_CHEAP = 0.01
"""Seconds. A proof takes one or two milliseconds, and 10 where MongoDB has 1,500 collections."""

_VIEWS = 256


class ViewIds:
    """The keys of the rows of a view, and the sample of each.

    Args:
        keys: an :data:`IdArray` of primary keys, in the view's order
        sample_ids: one of the same length; the same object where the keys are sample IDs
    """

    def __init__(self, keys: IdArray, sample_ids: IdArray) -> None:
        self.keys = keys
        self.sample_ids = sample_ids
        self._order = _sorting(keys)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """The memory of the arrays, in bytes."""
        arrays = {id(a): a for a in (self.keys, self.sample_ids, self._order) if a is not None}
        return sum(array.nbytes for array in arrays.values())

    def contain(self, ids: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Returns which of some keys are among them.

        Args:
            ids: strings of any kind

        Returns:
            a boolean array of the length of ``ids``
        """
        asked, others = object_ids.from_strings(ids)
        found = np.zeros(len(ids), dtype=bool)
        if len(asked) and len(self.keys):
            at = np.searchsorted(self.keys, asked, sorter=self._order)
            at = np.minimum(at, len(self.keys) - 1)
            at = at if self._order is None else self._order[at]
            found[np.delete(np.arange(len(ids)), others)] = self.keys[at] == asked
        return found

    def as_dict(self) -> dict[str, str]:
        """Returns the sample ID of each key, in the view's order."""
        keys = object_ids.to_strings(self.keys)
        same = self.sample_ids is self.keys
        return dict(zip(keys, keys if same else object_ids.to_strings(self.sample_ids)))

    @classmethod
    def of_samples(cls, ids: IdArray) -> ViewIds:
        """Returns sample IDs as keys, each once."""
        found = cls(ids, ids)
        ordered = ids if found._order is None else ids[found._order]
        if not (ordered[:-1] == ordered[1:]).any():
            return found
        first = np.sort(np.unique(ids, return_index=True)[1])
        return cls.of_samples(ids[first])

    @classmethod
    def of(cls, rows: dict[str, str]) -> ViewIds | None:
        """Returns a dict of keys and sample IDs as arrays, or None if not all are FiftyOne's."""
        keys, strange = object_ids.from_strings(list(rows))
        samples, no_samples = object_ids.from_strings(list(rows.values()))
        return None if len(strange) or len(no_samples) else cls(keys, samples)


@dataclass(frozen=True)
class _Kept:
    ids: ViewIds
    evidence: Evidence


class KeptIds:
    """IDs of views by a key that says which view, least recently used first.

    Args:
        max_bytes (67108864): the most memory that they take
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._took: OrderedDict[bytes, float] = OrderedDict()  # seconds to read the IDs of views
        self._proof = 0.0  # seconds that a proof took
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """The memory of all IDs, in bytes."""
        with self._lock:
            return sum(kept.ids.nbytes for kept in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes, database: Any) -> ViewIds | None:
        """Returns the IDs of a view, if they are those that MongoDB would name now.

        Args:
            key: says which view
            database: the :class:`pymongo.database.Database` that they were read from
        """
        with self._lock:
            kept = self._kept.get(key)
        if kept is None:
            return None
        start = perf_counter()
        same = kept.evidence.holds(database)
        self._proof = perf_counter() - start
        with self._lock:
            if same and key in self._kept:
                self._kept.move_to_end(key)
            elif not same and self._kept.get(key) is kept:
                del self._kept[key]
        return kept.ids if same else None

    def read(
        self, key: bytes, database: Any, names: set[str], read: Callable[[], ViewIds | None]
    ) -> bool:
        """Reads the IDs of a view, and keeps them if a change could be noticed.

        Args:
            key: says which view
            database: the :class:`pymongo.database.Database` that they are read from
            names: the collections that they depend on
            read: reads them; returns None if they can't be kept

        Returns:
            whether a change could be noticed
        """
        before = None
        start = perf_counter()
        if self._is_worth(self._took.get(key, 0.0)):
            before = evidence.of(database, names)  # before they are read, or a change is missed
            self._proof = perf_counter() - start
            start += self._proof
        else:
            self._proof *= 0.9  # it may be faster by now
        ids = read()
        took = perf_counter() - start
        with self._lock:
            self._took[key] = took
            while len(self._took) > _VIEWS:
                self._took.popitem(last=False)
            if before is None or not self._is_worth(took) or ids is None:
                return before is not None
            if ids.nbytes <= self.max_bytes:
                self._kept[key] = _Kept(ids, before)
                self._kept.move_to_end(key)
                size = sum(kept.ids.nbytes for kept in self._kept.values())
                while size > self.max_bytes:
                    size -= self._kept.popitem(last=False)[1].ids.nbytes
        return True

    def _is_worth(self, took: float) -> bool:
        """Whether a proof takes less time than reading the IDs, or next to none."""
        return self._proof < max(_CHEAP, took)

    def clear(self) -> None:
        """Forgets all IDs."""
        with self._lock:
            self._kept.clear()

    def clear_after_fork(self) -> None:
        """Forgets all IDs, without the lock."""
        self._lock = threading.Lock()
        self._kept = OrderedDict()


KEPT = KeptIds()
"""Those of this process, for all its indexes."""

if hasattr(os, "register_at_fork"):
    # Another thread may hold the lock
    os.register_at_fork(after_in_child=KEPT.clear_after_fork)


def _sorting(keys: IdArray) -> npt.NDArray[np.intp] | None:
    """Returns the order that sorts keys, or None if they are sorted, as most views are."""
    if (keys[:-1] <= keys[1:]).all():
        return None
    # As numbers: NumPy takes ten times as long to sort bytes
    numbers = np.ascontiguousarray(keys).view([("high", ">u8"), ("low", ">u4")])
    return np.lexsort((numbers["low"], numbers["high"]))
