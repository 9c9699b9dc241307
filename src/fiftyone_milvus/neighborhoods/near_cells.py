"""The nearest neighbors of every one of many vectors, from the cells near its own.

Comparing all pairs of a million vectors would take hours. Most neighbors of a vector are
in the cells that are nearest to it. How many cells are needed depends on the data: it is measured
on a sample, which is compared with all others. Where too many are, all pairs are compared.

The vectors stay where they are, maybe in a file; Faiss' lists would copy all of them into memory.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np

from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods.cells import BLOCK_BYTES, Cells, some
from fiftyone_milvus.neighborhoods.nearest_others import SPARE, nearest_others, ranked
from fiftyone_milvus.neighborhoods.top_k import TopK
from fiftyone_milvus.neighborhoods.vectors import SHOW_FROM, Tiles, Vectors

logger = logging.getLogger(__name__)

FROM = 150_000
"""The number of vectors from which not all pairs are compared."""

RECALL = 0.9998
"""The share of a sample's true neighbors that the cells must hold. Higher than the .999 that is
promised, as the neighbors of a vector are missed together."""

_SAMPLE = 2048
_MOST = 1 / 4
"""The most of all cells: half of them cost what comparing each pair once does, or more."""


def nearest_of_all(
    vectors: Vectors, k: int, tiles: Tiles, *, progress: Any = None
) -> tuple[Array, Array] | None:
    """Returns the ``k`` nearest other vectors of every vector, but for some one in a thousand.

    Args:
        vectors: the vectors
        k: the number of neighbors of each, from 1 to one fewer than there are vectors
        tiles: makes the tiles that are compared
        progress (None): a progress setting of FiftyOne

    Returns:
        a ``len(vectors) x k`` int64 array of positions, nearest first, and a float64 array of their
        distances; None if there are few vectors, or many cells are needed
    """
    count = len(vectors)
    if count < FROM:
        return None
    cells = Cells(vectors)
    near = _needed(vectors, k, tiles, cells)
    if near > _MOST * len(cells):
        logger.info("All %d vectors are compared: their neighbors are in too many cells", count)
        return None
    logger.info(
        "Each of %d vectors is compared with those of %d of %d cells, which hold %.4g %% of the "
        "neighbors of a sample", count, near, len(cells), 100 * RECALL,
    )  # fmt: skip
    inds, dists = np.empty((count, k), np.int64), np.empty((count, k))
    size = max(1, BLOCK_BYTES // (4 * vectors.dim))
    with ProgressBar(count, "Comparing", show=count >= SHOW_FROM, progress=progress) as bar:
        for start in range(0, count, size):
            rows = cells.order[start : start + size]
            best = _best(vectors, rows, k, cells, near)
            inds[rows], dists[rows] = ranked(vectors, rows, best.closeness, best.ids, k)
            few = rows[np.isneginf(best.closeness).sum(axis=1) > best.k - k]
            if len(few):
                few.sort()
                inds[few], dists[few] = nearest_others(vectors, few, k, tiles, progress=False)
            bar.update(len(rows))
            vectors.release_pages()
    return inds, dists


def _needed(vectors: Vectors, k: int, tiles: Tiles, cells: Cells) -> int:
    """Returns how many cells hold enough of the true neighbors of a sample."""
    rows = some(len(vectors), _SAMPLE)
    true, _ = nearest_others(vectors, rows, k, tiles)
    order = np.argsort(cells.apart(vectors.rows(rows)), axis=1)
    place = np.argsort(order, axis=1)
    ranks = np.sort(np.take_along_axis(place, cells.own[true], axis=1), axis=None)
    return 1 + int(ranks[math.ceil(RECALL * ranks.size) - 1])


def _best(vectors: Vectors, rows: Array, k: int, cells: Cells, near: int) -> TopK:
    """Returns the closest other vectors of rows that are in the order of their cells."""
    best = TopK(len(rows), min(k + SPARE, len(vectors) - 1))
    data = vectors.rows(rows)
    left = vectors.operand(data, rows, -2, -1)
    own = cells.own[rows]
    # First its own cell, so that few vectors of others are close enough
    numbers, starts = np.unique(own, return_index=True)
    for number, lines in zip(numbers.tolist(), np.split(np.arange(len(rows)), starts[1:])):
        members = cells.members(number)
        closeness = left[lines] @ vectors.right(members).T
        closeness[np.arange(len(lines)), np.searchsorted(members, rows[lines])] = -np.inf
        best.offer(int(lines[0]), members, closeness)
    line, cell = _others(cells, data, own, near)
    order = np.argsort(cell, kind="stable")
    numbers, starts = np.unique(cell[order], return_index=True)
    for number, lines in zip(numbers.tolist(), np.split(line[order], starts[1:])):
        members = cells.members(number)
        if len(members):
            best.offer_to(lines, members, left[lines] @ vectors.right(members).T)
    return best


def _others(cells: Cells, data: Array, own: Array, near: int) -> tuple[Array, Array]:
    """Returns vectors and the cells that are near to each, but for its own: two integer arrays."""
    found = []
    near = min(near, len(cells))
    size = max(1, BLOCK_BYTES // (8 * len(cells)))
    for start in range(0, len(data), size):
        apart = cells.apart(data[start : start + size])
        found.append(np.argpartition(apart, near - 1, axis=1)[:, :near].astype(np.int32))
    cell = np.concatenate(found)
    line, at = np.nonzero(cell != own[:, None])
    return line, cell[line, at]
