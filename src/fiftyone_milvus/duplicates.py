"""Neighbours of every point of an index: nearest, within a threshold, and what to keep.

Exact, from the vectors themselves, a block of rows at a time: memory is that of the vectors plus
one block of distances, whatever the threshold.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fiftyone_milvus.progress import ProgressBar
from fiftyone_milvus.scores import Array, Points, smallest

_BLOCK_BYTES = 64 << 20
_SHOW_FROM = 20_000


def nearest(points: Points, k: int | None) -> tuple[list[Array], list[Array]]:
    """Returns the ``k`` nearest other points of every point.

    Args:
        points: the points
        k: how many; None for all others

    Returns:
        a list of ``len(points)`` integer arrays of indexes, nearest first, and a list of their
        distances
    """
    k = min(len(points) - 1 if k is None else k, len(points) - 1)
    inds: list[Array] = []
    dists: list[Array] = []
    for start, distances in _blocks(points):
        rows = np.arange(len(distances))
        distances[rows, start + rows] = np.inf
        order = smallest(distances, k) if k > 0 else np.empty((len(rows), 0), dtype=np.int64)
        inds += list(order)
        dists += list(np.take_along_axis(distances, order, axis=1))
    return inds, dists


def within(points: Points, thresh: float) -> tuple[list[Array], list[Array]]:
    """Returns the other points within a distance of every point.

    Returns:
        a list of ``len(points)`` integer arrays of indexes, and a list of their distances
    """
    inds: list[Array] = []
    dists: list[Array] = []
    for start, distances in _blocks(points):
        rows = np.arange(len(distances))
        distances[rows, start + rows] = np.inf
        for row in distances:
            near = np.flatnonzero(row <= thresh)
            inds.append(near)
            dists.append(row[near])
    return inds, dists


def unique(points: Points, thresh: float) -> list[int]:
    """Returns which points to keep so that no two kept ones are within ``thresh``.

    Greedy in index order, as FiftyOne's own: the first of a group of duplicates stays.
    """
    keep = np.ones(len(points), dtype=bool)
    for start, distances in _blocks(points):
        for row, near in enumerate(distances <= thresh):
            i = start + row
            if keep[i]:
                keep[i + 1 :] &= ~near[i + 1 :]
    return [int(i) for i in np.flatnonzero(keep)]


def _blocks(points: Points) -> Iterator[tuple[int, Array]]:
    size = max(1, _BLOCK_BYTES // (8 * max(1, len(points))))
    with ProgressBar(len(points), "Comparing", show=len(points) >= _SHOW_FROM) as bar:
        for start in range(0, len(points), size):
            block = points.take(slice(start, start + size))
            yield start, block.distances(points)
            bar.update(len(block))
