"""The vectors of an index and their distances: by float32 products, exactly where needed."""

from __future__ import annotations

import mmap
import tempfile
from typing import Any

import numpy as np

from fiftyone_milvus.metrics import Array

MAX_BYTES = 1 << 30
"""Vectors beyond this many bytes go to a temporary file."""

SHOW_FROM = 20_000
"""The number of vectors from which progress is shown."""

TILE_ROWS = 2048
TILE_COLS = 4096
_EXACT_BYTES = 16 << 20
_TOO_CLOSE = 1e-4


class Vectors:
    """A fixed number of vectors, filled in parts, and their distances.

    Vectors are compared by their *closeness*, where larger is closer: the cosine for ``cosine``,
    the inner product for ``dotproduct``, and ``-distance**2 / 2`` for ``euclidean``. Each is a
    product of :meth:`left` and :meth:`right` operands.

    A context manager that removes the temporary file, if there is one.

    Args:
        count: the number of vectors
        dim: their dimension
        metric: a key of :data:`fiftyone_milvus.metrics.METRICS`
        max_bytes (None): the most memory to use before a temporary file is used; by default
            :data:`MAX_BYTES`
    """

    def __init__(self, count: int, dim: int, metric: str, *, max_bytes: int | None = None) -> None:
        self.metric = metric
        self.dim = dim
        shape = (count, dim)
        self._map: Any = None
        self._data: Array
        if 4 * count * dim > (MAX_BYTES if max_bytes is None else max_bytes):
            # Unlinked at once where the system can, so that a killed process leaves no file
            with tempfile.TemporaryFile(prefix="fiftyone-milvus-") as file:
                file.truncate(4 * count * dim)
                self._map = mmap.mmap(file.fileno(), 4 * count * dim)
            self._data = np.frombuffer(self._map, dtype=np.float32).reshape(shape)
        else:
            self._data = np.empty(shape, dtype=np.float32)
        self._lengths = np.zeros(count)
        width = dim + 2 * (metric == "euclidean")
        # The error of a float32 sum: the worst case, or eight standard deviations if that is less
        self._unit = (min(width, 8 * width**0.5) + 8) * 2.0**-24

    @classmethod
    def of(cls, vectors: Array, metric: str, *, max_bytes: int | None = None) -> Vectors:
        """Returns the rows of an array.

        Args:
            vectors: a ``num_vectors x num_dims`` array of any dtype, such as float16 or int8
            metric: a key of :data:`fiftyone_milvus.metrics.METRICS`
            max_bytes (None): see :class:`Vectors`

        Returns:
            :class:`Vectors` of length ``num_vectors``
        """
        vectors = np.asarray(vectors)
        found = cls(len(vectors), vectors.shape[1], metric, max_bytes=max_bytes)
        found.fill(0, vectors)
        return found

    def fill(self, start: int, vectors: Array) -> None:
        """Sets the vectors from ``start`` on.

        They are stored as float32; if the metric is cosine, scaled to length one.

        Args:
            start: the position of the first of them
            vectors: a ``num_vectors x num_dims`` array of any dtype, such as float16 or int8
        """
        rows = slice(start, start + len(vectors))
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        if self.metric == "cosine":
            part, divisors = self._data[rows], np.where(lengths == 0, 1, lengths)[:, None]
            np.divide(vectors, divisors, out=part, casting="same_kind")
            lengths = np.sqrt(np.einsum("ij,ij->i", part, part, dtype=np.float64))
        else:
            self._data[rows] = vectors
        self._lengths[rows] = lengths
        self.release_pages()

    def __len__(self) -> int:
        return len(self._data)

    def __enter__(self) -> Vectors:
        return self

    def __exit__(self, *_: object) -> None:
        # The map closes with its last view, which a traceback may still refer to
        self._data = np.empty((0, self.dim), dtype=np.float32)
        self._map = None

    def release_pages(self) -> None:
        """Frees the memory of what was read from the temporary file."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    @property
    def lengths(self) -> Array:
        """The lengths of the vectors, float64; about 1, or 0, if the metric is cosine."""
        return self._lengths

    def rows(self, rows: Any) -> Array:
        """Returns vectors.

        Args:
            rows: a slice, or an integer array of positions

        Returns:
            a ``len(rows) x num_dims`` float32 array, maybe a view
        """
        return self._data[rows]

    @property
    def nearest_possible(self) -> float:
        """A lower bound of all distances: 0, or less where inner products are above 1."""
        if self.metric != "dotproduct" or not len(self):
            return 0.0
        return min(0.0, 1.0 - float(self._lengths.max()) ** 2)

    def magnitudes(self, rows: Array, distances: Array) -> Array:
        """Returns the numbers to which the float32 error of distances is relative.

        Args:
            rows: an integer array of positions
            distances: a float64 array of the same length: a distance from each

        Returns:
            a float64 array of the same length; small where vectors are small
        """
        if self.metric == "cosine":
            return np.ones(len(rows))
        if self.metric == "dotproduct":
            return np.asarray(self._lengths[rows] * self._lengths.max(initial=0.0))
        return distances

    # -- in float32 ----------------------------------------------------------------------------

    def left(self, rows: Any) -> Array:
        """Returns the left operands of rows.

        Args:
            rows: a slice, or an integer array of positions

        Returns:
            a ``len(rows) x num_dims`` float32 array, maybe a view of the vectors; two columns more
            if the metric is euclidean
        """
        return self.operand(self._data[rows], rows, -2, -1)

    def right(self, rows: Any) -> Array:
        """Returns the right operands of rows.

        Args:
            rows: a slice, or an integer array of positions

        Returns:
            a float32 array of the shape that :meth:`left` returns
        """
        return self.operand(self._data[rows], rows, -1, -2)

    def closeness(self, distance: Any) -> Any:
        """Returns the closeness at a distance.

        Args:
            distance: a number, or a float64 array of any shape

        Returns:
            a float64 number, or an array of the same shape; infinite where no distance is that
            small
        """
        if self.metric == "euclidean":
            return np.where(np.less(distance, 0), np.inf, -0.5 * np.square(distance))[()]
        if self.metric == "cosine":
            return np.where(np.less(distance, 0), np.inf, np.subtract(1.0, distance))[()]
        return np.subtract(1.0, distance)

    def distance(self, closeness: Array) -> Array:
        """Returns the distance at a closeness.

        Args:
            closeness: a float array of any shape

        Returns:
            a float64 array of the same shape
        """
        closeness = closeness.astype(np.float64)
        if self.metric == "euclidean":
            return np.asarray(np.sqrt(np.maximum(-2.0 * closeness, 0.0)))
        if self.metric == "cosine":
            return np.maximum(1.0 - closeness, 0.0)
        return 1.0 - closeness

    def error(self, rows: Any, cols: Any) -> Array:
        """Returns the largest float32 error of the closeness of each row to any column.

        Args:
            rows: a slice, or an integer array of positions
            cols: a slice, or an integer array of positions

        Returns:
            a float64 array of length ``len(rows)``
        """
        if self.metric == "cosine":
            return np.full(len(self._lengths[rows]), self._unit)
        most = self._lengths[cols].max(initial=0.0)
        return self._errors(self._lengths[rows], most)

    # -- exactly -------------------------------------------------------------------------------

    def distances(self, rows: Array, cols: Array) -> Array:
        """Returns the float64 distances of pairs, from differences: exact for duplicates.

        Args:
            rows: an integer array of positions
            cols: an integer array of the same length

        Returns:
            a float64 array of the same length
        """
        found = np.empty(len(rows))
        size = max(1, _EXACT_BYTES // (8 * max(1, self.dim)))
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            r, c = rows[part], cols[part]
            x = self._data[r].astype(np.float64)
            y: Array = self._data[c]
            if self.metric == "dotproduct":
                found[part] = 1.0 - np.einsum("ij,ij->i", x, y)
                continue
            if self.metric == "cosine":
                lengths, others = self._lengths[r], self._lengths[c]
                zero = (lengths == 0) | (others == 0)
                x /= np.where(zero, 1, lengths)[:, None]
                y = y / np.where(zero, 1, others)[:, None]
            x -= y
            squares = np.einsum("ij,ij->i", x, x)
            if self.metric == "cosine":
                # Milvus scores a zero vector 0
                found[part] = np.where(zero, 1.0, 0.5 * squares)
            else:
                found[part] = np.sqrt(squares)
        return found

    def too_close(self, rows: Array, cols: Array, closeness: Array) -> Array:
        """Returns which pairs are so close that float32 rounds their distance away.

        Args:
            rows: an integer array of positions
            cols: an integer array of positions
            closeness: a float32 array of the shape to which ``rows`` and ``cols`` broadcast

        Returns:
            a boolean array of the same shape
        """
        if self.metric == "dotproduct":
            return np.zeros(closeness.shape, dtype=bool)
        if self.metric == "cosine":
            return np.asarray(closeness > 1.0 - _TOO_CLOSE)
        squares = self._lengths[rows] ** 2 + self._lengths[cols] ** 2
        return np.asarray(closeness > -0.5 * _TOO_CLOSE * squares)

    def within(self, rows: Array, cols: Array, closeness: Array, thresh: float) -> Array:
        """Returns which pairs are within a distance of each other.

        Args:
            rows: an integer array of positions
            cols: an integer array of the same length
            closeness: a float32 array of the same length
            thresh: the distance, inclusive

        Returns:
            a boolean array of the same length
        """
        limit = self.closeness(thresh)
        margin = self._errors(self._lengths[rows], self._lengths[cols])
        found = np.asarray(closeness >= limit + margin)
        unsure = np.flatnonzero(~found & (closeness >= limit - margin))
        if len(unsure):
            found[unsure] = self.distances(rows[unsure], cols[unsure]) <= thresh
        return found

    def _errors(self, lengths: Array, others: Any) -> Array:
        if self.metric == "cosine":
            return np.full(np.shape(lengths), self._unit)
        if self.metric == "dotproduct":
            return np.asarray(self._unit * lengths * others)
        return np.asarray(self._unit * 0.5 * (lengths + others) ** 2)

    def operand(self, part: Array, rows: Any, squares: int, ones: int) -> Array:
        """Returns operands of vectors that were read already.

        Args:
            part: what :meth:`rows` returned for ``rows``
            rows: a slice, or an integer array of positions
            squares: the column of half the negative squared lengths, if the metric is euclidean
            ones: the column of ones

        Returns:
            a float32 array of the shape that :meth:`left` returns
        """
        if self.metric != "euclidean":
            return part
        # xy - x²/2 - y²/2 = -(x - y)²/2 in one product
        operand = np.empty((len(part), self.dim + 2), dtype=np.float32)
        operand[:, : self.dim] = part
        operand[:, squares] = -0.5 * self._lengths[rows] ** 2
        operand[:, ones] = 1.0
        return operand


class Tiles:
    """Makes tiles of the matrix of pairs, all in the same memory.

    Args:
        vectors: the vectors
        rows (None): the most rows of a tile; by default :data:`TILE_ROWS`
        cols (None): the most columns of a tile; by default :data:`TILE_COLS`
    """

    def __init__(self, vectors: Vectors, rows: int | None = None, cols: int | None = None) -> None:
        self.vectors = vectors
        self.rows = rows or TILE_ROWS
        self.cols = cols or TILE_COLS
        self._memory = np.empty(
            min(self.rows, len(vectors)) * min(max(self.rows, self.cols), len(vectors)),
            dtype=np.float32,
        )

    def blocks(self) -> list[Array]:
        """Returns the positions of all vectors, in parts.

        Returns:
            a list of ascending int64 arrays of length ``self.rows``; the last may be shorter
        """
        everything = np.arange(len(self.vectors))
        return [everything[i : i + self.rows] for i in range(0, len(everything), self.rows)]

    def columns(self, cols: Array) -> list[Array]:
        """Returns positions in parts.

        Args:
            cols: an integer array of positions

        Returns:
            a list of slices of ``cols`` of length ``self.cols``; the last may be shorter
        """
        return [cols[i : i + self.cols] for i in range(0, len(cols), self.cols)]

    def tile(self, rows: Array, cols: Array) -> Array:
        """Returns the closeness of each row to each column.

        Args:
            rows: an ascending integer array of at most ``self.rows`` positions
            cols: an ascending integer array of at most ``max(self.rows, self.cols)`` positions

        Returns:
            a ``len(rows) x len(cols)`` float32 array that is valid until the next tile
        """
        out = self._memory[: len(rows) * len(cols)].reshape(len(rows), len(cols))
        left, right = self.vectors.left(_indexer(rows)), self.vectors.right(_indexer(cols))
        return np.matmul(left, right.T, out=out)


def _indexer(rows: Array) -> Any:
    """Returns a slice for consecutive positions, which numpy reads without a copy."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows
