"""The interface of a source of vectors, and what its implementations share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.collection.recent import Rows
from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.dataset.object_ids import IdArray
from fiftyone_milvus.moving.parquet import to_matrix
from fiftyone_milvus.syncing.expected_rows import Expected

BATCH_BYTES = 8 << 20
"""The size of a batch of vectors."""

BATCH_ROWS = 1_000
"""The rows of a batch while the dimension is unknown."""


@dataclass(frozen=True)
class Held:
    """Which of the expected vectors a source has.

    Attributes:
        present: a bool array: for each expected key, whether the source has it, or may have it
        exact: whether it has these for sure
        others: the number of its vectors without a sample in the dataset; None if unknown
        total: the number of its vectors, where it does not list them
    """

    present: npt.NDArray[np.bool_]
    exact: bool
    others: int | None
    total: int | None = None


class Source(Protocol):
    """A source of vectors.

    Attributes:
        name: its name in messages
        embedded: the record of when the vectors were computed; empty if there is none
    """

    name: str
    embedded: Mapping[str, Any]

    def holds(self, expected: Expected) -> Held:
        """Returns which of the expected keys it has."""
        ...

    def rows(self, keys: Expected, batch_size: int | None = None) -> Iterator[Rows]:
        """Yields the rows of keys, each once, in any order, in bounded memory if possible.

        Args:
            keys: the keys
            batch_size (None): the number of rows at a time; by default, 8 MB of vectors
        """
        ...


def rows_of(dimension: int) -> int:
    """Returns the number of vectors of a dimension in a batch."""
    return max(1, BATCH_BYTES // (4 * dimension))


def parts(keys: Expected, size: int) -> Iterator[tuple[list[str], list[str]]]:
    """Yields keys and their samples as strings, ``size`` at a time."""
    for start in range(0, len(keys), size):
        part = keys.take(np.arange(start, min(start + size, len(keys))))
        ids = object_ids.to_strings(part.keys)
        samples = ids if part.documents is part.keys else object_ids.to_strings(part.documents)
        yield ids, samples


def held(expected: Expected, keys: IdArray) -> Held:
    """Returns which of the expected keys a source has that lists all its keys."""
    positions = Finder(expected.keys).find(keys)
    present = np.zeros(len(expected), dtype=bool)
    present[positions[positions >= 0]] = True
    return Held(present, True, int(np.count_nonzero(positions < 0)))


def matching_rows(
    finder: Finder, expected: Expected, ids: Any, vectors: Any, usable: Any = True
) -> Iterator[Rows]:
    """Yields the rows of a batch that have expected keys, if there are any.

    Args:
        finder: a finder of the expected keys
        expected: the expected keys
        ids: an Arrow array of the batch's keys
        vectors: an Arrow array of its vectors
        usable (True): a bool array: which rows of the batch to consider
    """
    found = finder.find(as_keys(ids.to_pylist()))
    take = np.flatnonzero((found >= 0) & usable)
    if take.size:
        part = expected.take(found[take])
        samples = object_ids.to_strings(part.documents)
        yield Rows(object_ids.to_strings(part.keys), samples, to_matrix(vectors)[take])


class Finder:
    """Finds the positions of keys.

    Args:
        keys: the keys to search in
    """

    def __init__(self, keys: IdArray) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def find(self, keys: IdArray) -> npt.NDArray[np.intp]:
        """Returns the position of each key, or -1."""
        if not len(self._sorted):
            return np.full(len(keys), -1, np.intp)
        at = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        return np.where(self._sorted[at] == keys, self._order[at], -1)


def as_keys(ids: Any) -> IdArray:
    """Returns strings as FiftyOne's IDs; zeros, which no sample has, for other strings."""
    found, foreign = object_ids.from_strings(ids)
    if not foreign.size:
        return found
    keys = np.zeros(len(ids), object_ids.DTYPE)
    keys[np.setdiff1d(np.arange(len(ids)), foreign)] = found
    return keys
