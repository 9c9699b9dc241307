"""What an index, or a file, has to offer to be moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.collection.recent import Rows
from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.dataset.object_ids import IdArray
from fiftyone_milvus.syncing.expected_rows import Expected

BATCH_BYTES = 8 << 20
"""Vectors that are read at a time."""

BATCH_ROWS = 1_000
"""As many where the dimension is not known yet."""


@dataclass(frozen=True)
class Held:
    """Which of the vectors that a dataset asks for a source has.

    Attributes:
        present: for each key that was asked for, whether the source has it, or may have it
        exact: whether those are had for sure
        others: how many further vectors it has: of samples that the dataset does not have; None
            if that is not known
        total: how many it says that it has, where it does not list them
    """

    present: npt.NDArray[np.bool_]
    exact: bool
    others: int | None
    total: int | None = None


class Source(Protocol):
    """Where vectors come from.

    Attributes:
        name: what it is, for messages
        embedded: as of when the vectors were computed, as recorded; empty if it is not
    """

    name: str
    embedded: Mapping[str, Any]

    def holds(self, expected: Expected) -> Held:
        """Returns which of the given keys it has."""
        ...

    def rows(self, keys: Expected, batch_size: int | None = None) -> Iterator[Rows]:
        """Yields the rows of keys, each once, in any order and in bounded memory if it can.

        Args:
            keys: the keys
            batch_size: how many rows at a time; by default, 8 MB of vectors
        """
        ...


def rows_of(dimension: int) -> int:
    """Returns how many vectors of a dimension are read at a time."""
    return max(1, BATCH_BYTES // (4 * dimension))


def parts(keys: Expected, size: int) -> Iterator[tuple[list[str], list[str]]]:
    """Yields keys and their samples as strings, some at a time."""
    for start in range(0, len(keys), size):
        part = keys.take(np.arange(start, min(start + size, len(keys))))
        ids = object_ids.to_strings(part.keys)
        samples = ids if part.documents is part.keys else object_ids.to_strings(part.documents)
        yield ids, samples


class Finder:
    """Finds keys among some.

    Args:
        keys: the keys to find
    """

    def __init__(self, keys: IdArray) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def find(self, keys: IdArray) -> npt.NDArray[np.intp]:
        """Returns for each key its position among the keys to find, or -1."""
        if not len(self._sorted):
            return np.full(len(keys), -1, np.intp)
        at = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        return np.where(self._sorted[at] == keys, self._order[at], -1)


def as_keys(ids: Any) -> IdArray:
    """Returns IDs as FiftyOne's; one that is none of these is an ID that nothing has."""
    found, foreign = object_ids.from_strings(ids)
    if not foreign.size:
        return found
    keys = np.zeros(len(ids), object_ids.DTYPE)
    keys[np.setdiff1d(np.arange(len(ids)), foreign)] = found
    return keys
