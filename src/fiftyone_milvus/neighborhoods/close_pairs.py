"""All pairs of vectors within a distance, without comparing most of the others.

Vectors are assigned to the nearest of some cells. By the triangle inequality, a vector can only be
within a distance ``r`` of a member of another cell if it is within ``r`` of the plane between the
two centers; only those cells are visited. There, the products of a few principal components and of
the lengths of the rest (Cauchy-Schwarz) bound how close a pair can be. Both bounds allow for
float32's error, so no pair is missed; how much they save depends on the data.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods.cells import BLOCK_BYTES, Cells, some
from fiftyone_milvus.neighborhoods.vectors import Vectors

PAYS_FROM = 30_000
"""The number of vectors from which this is faster than comparing all of them."""

MAX_PAIRS = 16_000_000
"""The most pairs that are collected: 16 bytes each. With more, few vectors are kept, and comparing
all vectors with the kept ones is fast."""

_COMPONENTS = 64
_DENSE = 1 / 32
"""The share of pairs that may be close from which a product costs less than gathering them."""

Pairs = tuple[Array, Array, Array]


def pairs_within(vectors: Vectors, thresh: float) -> Pairs | None:
    """Returns all pairs of vectors within a distance of each other, if that is fast.

    Args:
        vectors: the vectors
        thresh: the largest distance, inclusive

    Returns:
        what :func:`close_pairs` yields, in one piece and ordered by the later position, then the
        earlier; or None if there are few vectors or many pairs
    """
    if not pays(vectors, thresh):
        return None
    found, number = [(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0))], 0
    for pairs in close_pairs(vectors, thresh):
        found.append(pairs)
        number += len(pairs[0])
        if number > 2 * MAX_PAIRS:
            return None
    later, earlier, apart = (np.concatenate(part) for part in zip(*found))
    order = np.lexsort((earlier, later))
    return later[order], earlier[order], apart[order]


def pays(vectors: Vectors, thresh: float) -> bool:
    """Whether :func:`close_pairs` is faster than comparing all vectors.

    Args:
        vectors: the vectors
        thresh: the largest distance, inclusive

    Returns:
        whether there are many vectors and few pairs
    """
    return len(vectors) >= PAYS_FROM and expected_pairs(vectors, thresh) <= MAX_PAIRS


def close_pairs(vectors: Vectors, thresh: float) -> Iterator[Pairs]:
    """Yields all pairs of vectors within a distance of each other.

    Args:
        vectors: the vectors
        thresh: the largest distance, inclusive

    Yields:
        the later position, the earlier position and the distance of each pair: int32, int32 and
        float64 arrays of equal length. Each pair comes once, in no order
    """
    radius = _radius(vectors, thresh)
    if radius is None:
        return
    cells = Cells(vectors)
    bounds = _Bounds(vectors, thresh)
    count = len(vectors)
    size = max(1, BLOCK_BYTES // (4 * vectors.dim))
    with ProgressBar(count, "Comparing", show=count >= PAYS_FROM) as bar:
        for start in range(0, count, size):
            rows = cells.order[start : start + size]
            data = vectors.rows(rows)
            cell, line = np.nonzero(cells.visited(data, rows, radius))
            projected = bounds.left(data, rows)
            for number, lines in zip(*_grouped(cell, line), strict=True):
                members = cells.members(number)
                if not len(members):
                    continue
                near = bounds.pairs(rows, data, projected, lines, members)
                # A vector visits its own cell and those before it, so it meets itself, and the
                # members of its own cell twice
                own = cells.own[rows[lines[near[0]]]] == number
                one, other = rows[lines[near[0]]], members[near[1]]
                once = ~own | (one > other)
                one, other = one[once], other[once]
                apart = vectors.distances(one, other)
                within = apart <= thresh
                if within.any():
                    one, other, apart = one[within], other[within], apart[within]
                    later, earlier = np.maximum(one, other), np.minimum(one, other)
                    yield later.astype(np.int32), earlier.astype(np.int32), apart
            bar.update(len(rows))
            vectors.release_pages()


def expected_pairs(vectors: Vectors, thresh: float, sample: int = 256) -> float:
    """Estimates how many pairs are within a distance, from the neighbors of a random sample.

    Args:
        vectors: the vectors
        thresh: the largest distance, inclusive
        sample (256): the number of vectors that are compared with all

    Returns:
        the number of pairs, about
    """
    count = len(vectors)
    rows = np.sort(np.random.default_rng(0).choice(count, min(sample, count), replace=False))
    left, limit = vectors.left(rows), vectors.closeness(thresh)
    found = 0
    for start in range(0, count, 8192):
        found += int((left @ vectors.right(slice(start, start + 8192)).T >= limit).sum())
    return max(0, found - len(rows)) / len(rows) * count / 2


def _radius(vectors: Vectors, thresh: float) -> float | None:
    """The Euclidean distance of vectors within a distance of the metric; None if there are none."""
    if vectors.metric == "dotproduct":
        longest = float(vectors.lengths.max(initial=0.0))
        square = 2.0 * (longest**2 - (1.0 - thresh))
    elif thresh < 0:
        return None
    else:
        square = thresh**2 if vectors.metric == "euclidean" else 2.0 * thresh
    # A zero vector has cosine distance 1 to all, and Euclidean distance 1 to unit vectors
    return float(np.sqrt(square)) if square >= 0 else None


class _Bounds:
    """How close vectors can be at most, by their principal components."""

    def __init__(self, vectors: Vectors, thresh: float) -> None:
        self._vectors = vectors
        self._limit = float(vectors.closeness(thresh))
        sample = vectors.rows(some(len(vectors), 20_000)).astype(np.float64)
        self._axes: Array | None = None
        if vectors.dim > 1.5 * _COMPONENTS:
            _, axes = np.linalg.eigh(sample.T @ sample)
            self._axes = np.ascontiguousarray(axes[:, -_COMPONENTS:], dtype=np.float32)

    def left(self, data: Array, rows: Array) -> Array:
        """The left operands of the bounds of rows."""
        return self._operand(data, rows, -2, -1)

    def pairs(
        self, rows: Array, data: Array, projected: Array, lines: Array, members: Array
    ) -> tuple[Array, Array]:
        """The places in ``lines`` and ``members`` of the pairs that may be close enough."""
        vectors, theirs = self._vectors, self._vectors.rows(members)
        places: list[Array] = []
        others: list[Array] = []
        size = max(1, BLOCK_BYTES // (16 * len(members)))
        right = self._operand(theirs, members, -1, -2)
        for start in range(0, len(lines), size):
            part = lines[start : start + size]
            # The bound sums twice as many errors as a closeness
            low = self._limit - 4.0 * vectors.error(rows[part], members)
            likely = projected[part] @ right.T >= low.astype(np.float32)[:, None]
            if self._axes is not None and np.count_nonzero(likely) > _DENSE * likely.size:
                left = vectors.operand(data[part], rows[part], -2, -1)
                likely = left @ vectors.operand(theirs, members, -1, -2).T >= low[:, None]
            one, other = np.nonzero(likely)
            places.append(one + start)
            others.append(other)
        return np.concatenate(places), np.concatenate(others)

    def _operand(self, data: Array, rows: Array, squares: int, ones: int) -> Array:
        vectors = self._vectors
        if self._axes is None:
            return vectors.operand(data, rows, squares, ones)
        width = _COMPONENTS + 1
        found = np.empty((len(data), width + 2 * (vectors.metric == "euclidean")), np.float32)
        part = np.matmul(data, self._axes)
        found[:, :_COMPONENTS] = part
        squared = vectors.lengths[rows] ** 2
        # More than the length of the rest, by the error of the products
        rest = squared * (1 + 1e-4) - np.einsum("ij,ij->i", part, part, dtype=np.float64)
        found[:, _COMPONENTS] = np.sqrt(np.maximum(rest, 0.0))
        if vectors.metric == "euclidean":
            found[:, squares] = -0.5 * squared
            found[:, ones] = 1.0
        return found


def _grouped(cell: Array, line: Array) -> tuple[list[int], list[Array]]:
    """The lines of each cell; cells are ascending."""
    numbers, starts = np.unique(cell, return_index=True)
    return numbers.tolist(), np.split(line, starts[1:])
