"""The nearest other vectors of some vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods.top_k import TopK
from fiftyone_milvus.neighborhoods.vectors import SHOW_FROM, Tiles, Vectors

SPARE = 8
"""Candidates beyond k, as float32 does not tell the closest apart."""


def nearest_others(
    vectors: Vectors,
    rows: Array,
    k: int,
    tiles: Tiles | None = None,
    *,
    among: Array | None = None,
    progress: Any = None,
) -> tuple[Array, Array]:
    """Returns the ``k`` nearest other vectors of some vectors.

    Args:
        vectors: all vectors
        rows: an ascending integer array: the positions of the vectors whose neighbors are sought
        k: the number of neighbors of each, at most one fewer than ``among`` has
        tiles (None): makes the tiles that are compared
        among (None): an ascending integer array: the positions of possible neighbors; by default,
            all
        progress (None): a progress setting of FiftyOne

    Returns:
        a ``len(rows) x k`` int64 array of positions, nearest first, and a float64 array of their
        distances
    """
    tiles = tiles or Tiles(vectors)
    among = np.arange(len(vectors)) if among is None else among
    inds = np.empty((len(rows), k), np.int64)
    dists = np.empty((len(rows), k))
    show = len(vectors) >= SHOW_FROM
    with ProgressBar(len(rows), "Locating nearest", show=show, progress=progress) as bar:
        for start in range(0, len(rows), tiles.rows):
            part = rows[start : start + tiles.rows]
            best = TopK(len(part), min(k + SPARE, len(among)))
            for cols in tiles.columns(among):
                closeness = tiles.tile(part, cols)
                _, own, same = np.intersect1d(part, cols, True, return_indices=True)
                closeness[own, same] = -np.inf
                best.offer(0, cols, closeness)
            block = slice(start, start + len(part))
            inds[block], dists[block] = ranked(vectors, part, best.closeness, best.ids, k)
            bar.update(len(part))
            vectors.release_pages()
    return inds, dists


def ranked(
    vectors: Vectors, rows: Array, closeness: Array, ids: Array, k: int
) -> tuple[Array, Array]:
    """Re-ranks the candidates of each row by their exact distances.

    Args:
        vectors: all vectors
        rows: an integer array of positions
        closeness: a float32 array with a line for each row; -inf where there is no candidate
        ids: an integer array of the same shape: the candidates
        k: how many to return, at most as many as each row has

    Returns:
        a ``len(rows) x k`` int64 array of positions, nearest first, and a float64 array of their
        distances
    """
    taken = closeness > -np.inf
    distances = np.full(ids.shape, np.inf)
    lines, _ = np.nonzero(taken)
    distances[taken] = vectors.distances(rows[lines], ids[taken])
    order = np.lexsort((ids, distances), axis=1)[:, :k]
    return (
        np.take_along_axis(ids, order, axis=1).astype(np.int64),
        np.take_along_axis(distances, order, axis=1),
    )
