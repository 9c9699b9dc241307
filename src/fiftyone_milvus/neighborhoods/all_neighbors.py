"""The neighbors of every point: the nearest, and those within a distance."""

from __future__ import annotations

from typing import Any

import numpy as np

from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.metrics import Array, smallest
from fiftyone_milvus.neighborhoods.top_k import Best
from fiftyone_milvus.neighborhoods.vectors import Tiles, Vectors

SHOW_FROM = 20_000
"""Points from which on progress is shown."""

# Candidates beyond k, for exact distances to choose from: float32 confuses the very closest
_SPARE = 8
_LISTS_UP_TO = 256


def nearest(
    vectors: Vectors, k: int | None, tiles: Tiles | None = None
) -> tuple[list[Array], list[Array]]:
    """Returns the ``k`` nearest other points of every point.

    Args:
        vectors: the points
        k: how many; None for all others
        tiles (None): how to compare them

    Returns:
        a list of ``len(vectors)`` integer arrays of indexes, nearest first, and a list of their
        float64 distances. Of more near-identical points than ``k`` and a few, whose distances
        float32 can't tell apart, any may come.
    """
    count = len(vectors)
    k = max(0, min(count - 1 if k is None else k, count - 1))
    if k == 0:
        return [np.empty(0, np.int64)] * count, [np.empty(0)] * count
    tiles = tiles or Tiles(vectors)
    if k > _LISTS_UP_TO:
        return _all_rows(vectors, k)

    best = Best(count, min(k + _SPARE, count - 1))
    everything = np.arange(count)
    bar = PairsBar(count)
    with bar:
        for rows in tiles.blocks():
            start = int(rows[0])
            tile = tiles.tile(rows, rows)
            np.fill_diagonal(tile.closeness, -np.inf)
            best.offer(start, rows, tile.closeness)
            for cols in tiles.columns(everything[:start]):
                tile = tiles.tile(rows, cols)
                best.offer_back(int(cols[0]), rows, tile.closeness)
                best.offer(start, cols, tile.closeness)
            bar.reached(start + len(rows))
            vectors.relax()
    inds, dists = _ranked(vectors, everything, best, k)
    return list(inds), list(dists)


def nearest_among(
    vectors: Vectors, rows: Array, cols: Array, tiles: Tiles | None = None
) -> tuple[Array, Array]:
    """Returns the nearest of some points to each of others.

    Args:
        vectors: all points
        rows: an ascending integer array: whose nearest
        cols: an ascending integer array: among whom; not empty, none of ``rows``
        tiles (None): how to compare them

    Returns:
        an integer array of indexes and a float64 array of distances, of the length of ``rows``
    """
    tiles = tiles or Tiles(vectors)
    inds = np.empty(len(rows), np.int64)
    dists = np.empty(len(rows))
    with ProgressBar(len(rows), "Locating nearest", show=len(rows) >= SHOW_FROM) as bar:
        for start in range(0, len(rows), tiles.rows):
            part = rows[start : start + tiles.rows]
            best = Best(len(part), min(1 + _SPARE, len(cols)))
            for among in tiles.columns(cols):
                best.offer(0, among, tiles.tile(part, among).closeness)
            found, apart = _ranked(vectors, part, best, 1)
            inds[start : start + len(part)] = found[:, 0]
            dists[start : start + len(part)] = apart[:, 0]
            bar.update(len(part))
            vectors.relax()
    return inds, dists


def nearest_others(
    vectors: Vectors, rows: Array, k: int, tiles: Tiles | None = None, *, progress: Any = None
) -> tuple[Array, Array]:
    """Returns the ``k`` nearest other points of some points.

    Args:
        vectors: all points
        rows: an ascending integer array: whose neighbors
        k: how many, at most one fewer than there are points
        tiles (None): how to compare them
        progress (None): as FiftyOne's progress bars take it

    Returns:
        a ``len(rows) x k`` integer array of indexes, nearest first, and one of their float64
        distances
    """
    tiles = tiles or Tiles(vectors)
    everything = np.arange(len(vectors))
    inds = np.empty((len(rows), k), np.int64)
    dists = np.empty((len(rows), k))
    show = len(vectors) >= SHOW_FROM
    with ProgressBar(len(rows), "Locating nearest", show=show, progress=progress) as bar:
        for start in range(0, len(rows), tiles.rows):
            part = rows[start : start + tiles.rows]
            best = Best(len(part), min(k + _SPARE, len(vectors) - 1))
            for among in tiles.columns(everything):
                tile = tiles.tile(part, among)
                own = np.flatnonzero((part >= among[0]) & (part <= among[-1]))
                tile.closeness[own, part[own] - among[0]] = -np.inf
                best.offer(0, among, tile.closeness)
            block = slice(start, start + len(part))
            inds[block], dists[block] = _ranked(vectors, part, best, k)
            bar.update(len(part))
            vectors.relax()
    return inds, dists


def within(
    vectors: Vectors, thresh: float, tiles: Tiles | None = None
) -> tuple[list[Array], list[Array]]:
    """Returns the other points within a distance of every point.

    Args:
        vectors: the points
        thresh: the distance
        tiles (None): how to compare them

    Returns:
        a list of ``len(vectors)`` ascending integer arrays of indexes, and a list of their float64
        distances
    """
    count = len(vectors)
    tiles = tiles or Tiles(vectors)
    limit = vectors.closeness(thresh)
    everything = np.arange(count)
    blocks = tiles.blocks()
    # Whose neighbors, which, and how far: by the block of whose
    found: list[list[tuple[Array, ...]]] = [[] for _ in blocks]
    bar = PairsBar(count)
    with bar:
        for rows in blocks:
            start = int(rows[0])
            for cols in [*tiles.columns(everything[:start]), rows]:
                tile = tiles.tile(rows, cols)
                low = limit - vectors.error(rows, cols)
                hits = np.flatnonzero(tile.closeness >= low.astype(np.float32)[:, None])
                r, c = rows[hits // len(cols)], cols[hits % len(cols)]
                closeness = tile.closeness.ravel()[hits]
                near = vectors.near(r, c, closeness, thresh) & (c < r)
                r, c = r[near].astype(np.int32), c[near].astype(np.int32)
                d = _refined(vectors, r, c, closeness[near])
                _file(found, tiles.rows, r, c, d)
                _file(found, tiles.rows, c, r, d)
            bar.reached(start + len(rows))
            vectors.relax()

    inds: list[Array] = []
    dists: list[Array] = []
    for number, rows in enumerate(blocks):
        nothing = (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0))
        r, c, d = (np.concatenate(parts) for parts in zip(nothing, *found[number]))
        found[number] = []
        order = np.lexsort((c, r))
        cuts = np.searchsorted(r[order], rows[1:])
        inds += np.split(c[order].astype(np.int64), cuts)
        dists += np.split(d[order], cuts)
    return inds, dists


def _ranked(vectors: Vectors, rows: Array, best: Best, k: int) -> tuple[Array, Array]:
    """Returns the ``k`` nearest of each row by their exact distances, and those."""
    taken = best.closeness > -np.inf
    distances = np.full(best.ids.shape, np.inf)
    who, _ = np.nonzero(taken)
    distances[taken] = vectors.distances(rows[who], best.ids[taken])
    order = np.lexsort((best.ids, distances), axis=1)[:, :k]
    return (
        np.take_along_axis(best.ids, order, axis=1).astype(np.int64),
        np.take_along_axis(distances, order, axis=1),
    )


def _all_rows(vectors: Vectors, k: int) -> tuple[list[Array], list[Array]]:
    """Returns many neighbors of every point, from whole rows of distances."""
    count = len(vectors)
    tiles = Tiles(vectors, max(1, (16 << 20) // count), count)
    everything = np.arange(count)
    inds: list[Array] = []
    dists: list[Array] = []
    with ProgressBar(count, "Comparing", show=count >= SHOW_FROM) as bar:
        for rows in tiles.blocks():
            closeness = tiles.tile(rows, everything).closeness
            distances = vectors.distance(closeness)
            r, c = np.nonzero(vectors.blurred(rows[:, None], everything, closeness))
            distances[r, c] = vectors.distances(rows[r], c)
            distances[np.arange(len(rows)), rows] = np.inf
            order = smallest(distances, k)
            inds += list(order)
            dists += list(np.take_along_axis(distances, order, axis=1))
            bar.update(len(rows))
            vectors.relax()
    return inds, dists


def _refined(vectors: Vectors, rows: Array, cols: Array, closeness: Array) -> Array:
    distances = vectors.distance(closeness)
    close = np.flatnonzero(vectors.blurred(rows, cols, closeness))
    distances[close] = vectors.distances(rows[close], cols[close])
    return distances


def _file(
    found: list[list[tuple[Array, ...]]], size: int, rows: Array, cols: Array, distances: Array
) -> None:
    """Files pairs by the block that their row is in."""
    block = rows // size
    for number in np.unique(block):
        part = block == number
        found[number].append((rows[part], cols[part], distances[part]))


class PairsBar(ProgressBar):
    """The progress of comparing every point with those before it."""

    def __init__(self, count: int) -> None:
        super().__init__(count, "Comparing", show=count >= SHOW_FROM)
        self._count = count
        self._done = 0

    def reached(self, rows: int) -> None:
        """Says that so many points are done."""
        done = rows * rows // self._count
        self.update(done - self._done)
        self._done = done
