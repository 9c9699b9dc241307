"""Wants what differs from everything that is chosen already."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fiftyone_milvus.metrics import Array
from fiftyone_milvus.selections.candidates import Candidates
from fiftyone_milvus.selections.strategy import Scores, Strategy

_ROWS, _COLS = 4096, 1024


@dataclass(frozen=True)
class Diverse(Strategy):
    """Wants what is far from everything that is chosen already.

    Alone, it is the greedy k-center of T. F. Gonzalez (1985), which covers all candidates within at
    most twice the smallest radius that is possible.

    Attributes:
        strength (1.0): its weight among several strategies
    """

    strength: float = 1.0

    def prepare(self, candidates: Candidates) -> Scores:
        """See the base class."""
        return _Far(candidates)


class _Far(Scores):
    """Distances to the nearest chosen one, which are brought up to date where they matter."""

    begins_at_zero = True

    def __init__(self, candidates: Candidates) -> None:
        self._ids, self._vectors = candidates.ids, candidates.vectors
        self._low, self._high = candidates.scale
        count = len(candidates)
        self._chosen = np.empty(candidates.count, dtype=np.int64)
        self._size = 0
        self._closest = np.full(count, -np.inf, dtype=np.float32)
        self._nearest = np.zeros(count, dtype=np.int32)
        # Of how many chosen ones each candidate knows
        self._seen = np.zeros(count, dtype=np.int32)

    def of(self, rows: Array) -> Array:
        """See the base class."""
        if not self._size:
            return np.zeros(len(rows))
        for start in range(0, len(rows), _ROWS):
            self._update(rows[start : start + _ROWS])
        distances = self._vectors.distance(self._closest[rows])
        return np.asarray((distances - self._low) / (self._high - self._low))

    def _update(self, rows: Array) -> None:
        first = int(self._seen[rows].min())
        if first == self._size:
            return
        left = self._vectors.left(rows)
        closest, nearest = self._closest[rows], self._nearest[rows]
        for start in range(first, self._size, _COLS):
            stop = min(start + _COLS, self._size)
            closeness = left @ self._vectors.right(self._chosen[start:stop]).T
            best = closeness.argmax(axis=1)
            value = closeness[np.arange(len(best)), best]
            better = value > closest
            closest = np.where(better, value, closest)
            nearest = np.where(better, start + best, nearest)
        self._closest[rows], self._nearest[rows] = closest, nearest
        self._seen[rows] = self._size

    def choose(self, row: int) -> None:
        """See the base class."""
        self._chosen[self._size] = row
        self._size += 1

    def reason(self, row: int) -> str:
        """See the base class."""
        if not self._size:
            return "the first"
        other = int(self._chosen[self._nearest[row]])
        pair = np.array([row]), np.array([other])
        distance = float(self._vectors.distances(*pair)[0])
        return f"{distance:.4g} from the nearest chosen one, {self._ids[other]}"
