"""Vectors in cells of near ones, so that most pairs need not be compared."""

from __future__ import annotations

import numpy as np

from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods.vectors import Vectors

BLOCK_BYTES = 64 << 20
"""The most memory of a product."""

_CELL_ROWS = 256
_MOST_CELLS = 4096
_TRAINING = 32
_ROUNDS = 6


class Cells:
    """Vectors by the nearest of some centers.

    Args:
        vectors: the vectors

    Attributes:
        own: the number of each vector's cell, an int32 array
        order: the positions of all vectors by cell, then ascending
    """

    def __init__(self, vectors: Vectors) -> None:
        count = len(vectors)
        number = max(1, min(_MOST_CELLS, count // _CELL_ROWS))
        self._metric = vectors.metric
        self._centers = _trained(vectors, number)
        self._squares = _squares(self._centers)
        self.own = np.empty(count, dtype=np.int32)
        size = max(1, BLOCK_BYTES // (4 * max(vectors.dim, number)))
        for start in range(0, count, size):
            data = vectors.rows(slice(start, start + size))
            self.own[start : start + size] = self._halves(data).argmin(axis=1)
            vectors.release_pages()
        self.order = np.argsort(self.own, kind="stable")
        self._starts = np.searchsorted(self.own[self.order], np.arange(number + 1))
        squares = self._squares[:, None] + self._squares - 2.0 * self._centers @ self._centers.T
        self._between = np.sqrt(np.maximum(squares, 0.0), dtype=np.float32)
        self._longest = float(np.sqrt(max(self._squares.max(), vectors.lengths.max() ** 2)))
        self._unit = 16.0 * vectors.dim**0.5 * 2.0**-24

    def __len__(self) -> int:
        return len(self._centers)

    def members(self, number: int) -> Array:
        """The ascending positions of the vectors of a cell."""
        return self.order[self._starts[number] : self._starts[number + 1]]

    def apart(self, data: Array) -> Array:
        """How far vectors are from all centers: ``num_rows x num_cells``, in no unit."""
        products = data @ self._centers.T
        return -products if self._metric == "dotproduct" else 0.5 * self._squares - products

    def visited(self, data: Array, rows: Array, radius: float) -> Array:
        """Which cells the vectors visit, their own and earlier ones: ``num_cells x num_rows``."""
        own = self.own[rows]
        last = int(own.max()) + 1
        found = np.zeros((last, len(rows)), dtype=bool)
        size = max(1, BLOCK_BYTES // (4 * last))
        # Two products of float32, each with this error
        error = 2.0 * self._unit * self._longest**2
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            halves = self._halves(data[part], last)
            mine = halves[np.arange(len(halves)), own[part]]
            # (d(x, c')² - d(x, c)²) / 2 <= r d(c, c')
            reach = (radius * (1 + 1e-5)) * self._between[own[part], :last] + error
            found[:, part] = (halves - mine[:, None] <= reach).T
            found[:, part] &= np.arange(last)[:, None] <= own[part]
        found[own, np.arange(len(rows))] = True
        return found

    def _halves(self, data: Array, last: int | None = None) -> Array:
        """Half the squared distances to the centers, less what is the same for all of them."""
        halves: Array = data @ self._centers[:last].T
        return np.subtract(0.5 * self._squares[:last], halves, out=halves)


def _trained(vectors: Vectors, number: int) -> Array:
    """Centers of cells, by some rounds of k-means on a sample."""
    sample = vectors.rows(some(len(vectors), _TRAINING * number))
    centers: Array = sample[some(len(sample), number)].copy()
    for _ in range(_ROUNDS):
        nearest = np.empty(len(sample), dtype=np.int64)
        squares = 0.5 * _squares(centers)
        size = max(1, BLOCK_BYTES // (4 * number))
        for start in range(0, len(sample), size):
            part = slice(start, start + size)
            nearest[part] = (sample[part] @ centers.T - squares).argmax(axis=1)
        order = np.argsort(nearest, kind="stable")
        filled, starts = np.unique(nearest[order], return_index=True)
        sums = np.add.reduceat(sample[order], starts, axis=0)
        centers[filled] = sums / np.diff(np.r_[starts, len(sample)])[:, None]
    return centers


def some(count: int, number: int) -> Array:
    """Returns random positions.

    Args:
        count: how many positions there are
        number: how many to return; all if there are fewer

    Returns:
        an ascending int64 array, always the same one
    """
    if number >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(51).choice(count, number, replace=False))


def _squares(data: Array) -> Array:
    return np.einsum("ij,ij->i", data, data, dtype=np.float64).astype(np.float32)
