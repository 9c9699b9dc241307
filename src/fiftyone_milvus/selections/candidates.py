"""What a selection chooses from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods import Vectors

_PAIRS = 20_000
_BLOCK_ROWS, _BLOCK_COLS = 4096, 2048


@dataclass(frozen=True)
class Reference:
    """Vectors that candidates are compared with.

    Attributes:
        vectors: at least one
        ids: their keys, if they are of the index that is chosen from
    """

    vectors: Vectors
    ids: Sequence[str] | None = None


@dataclass(frozen=True)
class Candidates:
    """What a selection chooses from.

    Attributes:
        ids: the primary keys
        vectors: the vector of each
        count: how many are to be chosen
        seed: of whatever is drawn
        read: returns the :class:`Reference` that a caller gave to a strategy
        values: returns the value of a field for each candidate
        progress: a progress setting of FiftyOne
    """

    ids: Sequence[str]
    vectors: Vectors
    count: int
    seed: int
    read: Callable[[Any], Reference]
    values: Callable[[str], Sequence[Any]]
    progress: Any = None

    def __len__(self) -> int:
        return len(self.ids)

    def draw(self, size: int) -> Array:
        """Returns the ascending positions of at most ``size`` candidates, drawn by the seed."""
        generator = np.random.default_rng(self.seed)
        return np.sort(generator.choice(len(self), min(size, len(self)), replace=False))

    @cached_property
    def scale(self) -> tuple[float, float]:
        """A small and a large distance between two candidates, which scores are relative to."""
        generator = np.random.default_rng(self.seed)
        one, other = generator.integers(len(self), size=(2, _PAIRS))
        distances = self.vectors.distances(one[one != other], other[one != other])
        if not len(distances):
            return 0.0, 1.0
        low, high = (
            min(0.0, float(np.percentile(distances, 1))),
            float(np.percentile(distances, 99)),
        )
        return low, high if high > low else low + 1.0

    def nearest(self, reference: Vectors, rows: Array | None = None) -> tuple[Array, Array]:
        """Returns the nearest reference of candidates.

        Args:
            reference: at least one vector
            rows (None): an ascending integer array of positions; by default, all

        Returns:
            a float64 array of distances, and an int64 array of positions in ``reference``
        """
        rows = np.arange(len(self)) if rows is None else rows
        closest = np.full(len(rows), -np.inf, dtype=np.float32)
        at = np.zeros(len(rows), dtype=np.int64)
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            left = self.vectors.left(rows[block])
            for first in range(0, len(reference), _BLOCK_COLS):
                right = reference.right(slice(first, first + _BLOCK_COLS))
                closeness = left @ right.T
                best = closeness.argmax(axis=1)
                value = closeness[np.arange(len(best)), best]
                better = value > closest[block]
                closest[block] = np.where(better, value, closest[block])
                at[block] = np.where(better, first + best, at[block])
            self.vectors.release_pages()
            reference.release_pages()
        return self.vectors.distance(closest), at

    def positions(self, ids: Sequence[str] | None) -> Array | None:
        """Returns where candidates with the given keys are; None for none."""
        if ids is None:
            return None
        given = set(ids)
        return np.array([at for at, _id in enumerate(self.ids) if _id in given], dtype=np.int64)
