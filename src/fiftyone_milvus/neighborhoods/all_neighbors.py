"""The neighbors of every vector: the nearest, or those within a distance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.metrics import Array, smallest
from fiftyone_milvus.neighborhoods import near_cells
from fiftyone_milvus.neighborhoods.close_pairs import Pairs, close_pairs, pays
from fiftyone_milvus.neighborhoods.nearest_others import SPARE, ranked
from fiftyone_milvus.neighborhoods.top_k import TopK
from fiftyone_milvus.neighborhoods.vectors import SHOW_FROM, Tiles, Vectors

_MAX_CANDIDATES = 256
"""Beyond this, whole rows of distances cost less than lists of candidates."""


def nearest(
    vectors: Vectors, k: int | None, tiles: Tiles | None = None
) -> tuple[list[Array], list[Array]]:
    """Returns the ``k`` nearest other vectors of every vector.

    Args:
        vectors: the vectors
        k: the number of neighbors of each; None for all others
        tiles (None): makes the tiles that are compared

    Returns:
        a list of ``len(vectors)`` int64 arrays of positions, nearest first, and a list of their
        float64 distances. Where more than ``k + 8`` vectors are so close that float32 does not tell
        them apart, any of them may be returned.
    """
    count = len(vectors)
    k = max(0, min(count - 1 if k is None else k, count - 1))
    if k == 0:
        return [np.empty(0, np.int64)] * count, [np.empty(0)] * count
    tiles = tiles or Tiles(vectors)
    if k > _MAX_CANDIDATES:
        return _nearest_of_many(vectors, k)
    inds, dists = nearest_of_all(vectors, k, tiles)
    return list(inds), list(dists)


def nearest_of_all(
    vectors: Vectors, k: int, tiles: Tiles | None = None, *, progress: Any = None
) -> tuple[Array, Array]:
    """Returns the ``k`` nearest other vectors of every vector, for a small ``k``.

    Of many vectors, each is compared with those of the cells near its own, where that finds nearly
    all; see :mod:`~fiftyone_milvus.neighborhoods.near_cells`. Of others, each pair is compared
    once.

    Args:
        vectors: the vectors
        k: the number of neighbors of each, from 1 to one fewer than there are vectors
        tiles (None): makes the tiles that are compared
        progress (None): a progress setting of FiftyOne

    Returns:
        a ``len(vectors) x k`` int64 array of positions, nearest first, and a float64 array of their
        distances
    """
    tiles, count = tiles or Tiles(vectors), len(vectors)
    if (found := near_cells.nearest_of_all(vectors, k, tiles, progress=progress)) is not None:
        return found
    best = TopK(count, min(k + SPARE, count - 1))
    everything = np.arange(count)
    with PairsBar(count, progress) as bar:
        for rows in tiles.blocks():
            start = int(rows[0])
            closeness = tiles.tile(rows, rows)
            np.fill_diagonal(closeness, -np.inf)
            best.offer(start, rows, closeness)
            for cols in tiles.columns(everything[:start]):
                closeness = tiles.tile(rows, cols)
                best.offer_back(int(cols[0]), rows, closeness)
                best.offer(start, cols, closeness)
            bar.reached(start + len(rows))
            vectors.release_pages()
    inds, dists = np.empty((count, k), np.int64), np.empty((count, k))
    for rows in tiles.blocks():
        block = slice(int(rows[0]), int(rows[0]) + len(rows))
        inds[block], dists[block] = ranked(vectors, rows, best.closeness[block], best.ids[block], k)
        vectors.release_pages()
    return inds, dists


def within(
    vectors: Vectors, thresh: float, tiles: Tiles | None = None
) -> tuple[list[Array], list[Array]]:
    """Returns the other vectors within a distance of every vector.

    Args:
        vectors: the vectors
        thresh: the largest distance, inclusive
        tiles (None): makes the tiles that are compared

    Returns:
        a list of ``len(vectors)`` ascending int64 arrays of positions, and a list of their float64
        distances
    """
    tiles = tiles or Tiles(vectors)
    blocks = tiles.blocks()
    # For each block of rows: positions of rows, positions of their neighbors, distances
    found: list[list[tuple[Array, ...]]] = [[] for _ in blocks]
    for r, c, d in all_pairs(vectors, thresh, tiles):
        _add_pairs(found, tiles.rows, r, c, d)
        _add_pairs(found, tiles.rows, c, r, d)

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


def all_pairs(vectors: Vectors, thresh: float, tiles: Tiles | None = None) -> Iterator[Pairs]:
    """Yields all pairs of vectors within a distance of each other, by the faster way.

    Args:
        vectors: the vectors
        thresh: the largest distance, inclusive
        tiles (None): makes the tiles that are compared

    Yields:
        what :func:`~fiftyone_milvus.neighborhoods.close_pairs.close_pairs` does
    """
    if pays(vectors, thresh):
        yield from close_pairs(vectors, thresh)
    else:
        yield from _compared(vectors, thresh, tiles or Tiles(vectors))


def _compared(vectors: Vectors, thresh: float, tiles: Tiles) -> Iterator[Pairs]:
    """Yields the pairs within a distance, from the products of all vectors."""
    limit = vectors.closeness(thresh)
    everything = np.arange(len(vectors))
    with PairsBar(len(vectors)) as bar:
        for rows in tiles.blocks():
            start = int(rows[0])
            for cols in [*tiles.columns(everything[:start]), rows]:
                tile = tiles.tile(rows, cols)
                low = limit - vectors.error(rows, cols)
                hits = np.flatnonzero(tile >= low.astype(np.float32)[:, None])
                r, c = rows[hits // len(cols)], cols[hits % len(cols)]
                closeness = tile.ravel()[hits]
                near = vectors.within(r, c, closeness, thresh) & (c < r)
                r, c = r[near].astype(np.int32), c[near].astype(np.int32)
                d = vectors.distance(closeness[near])
                close = np.flatnonzero(vectors.too_close(r, c, closeness[near]))
                d[close] = vectors.distances(r[close], c[close])
                yield r, c, d
            bar.reached(start + len(rows))
            vectors.release_pages()


def _nearest_of_many(vectors: Vectors, k: int) -> tuple[list[Array], list[Array]]:
    """Returns many neighbors of every vector, from whole rows of distances."""
    count = len(vectors)
    tiles = Tiles(vectors, max(1, (16 << 20) // count), count)
    everything = np.arange(count)
    inds: list[Array] = []
    dists: list[Array] = []
    with ProgressBar(count, "Comparing", show=count >= SHOW_FROM) as bar:
        for rows in tiles.blocks():
            closeness = tiles.tile(rows, everything)
            distances = vectors.distance(closeness)
            r, c = np.nonzero(vectors.too_close(rows[:, None], everything, closeness))
            distances[r, c] = vectors.distances(rows[r], c)
            distances[np.arange(len(rows)), rows] = np.inf
            order = smallest(distances, k)
            inds += list(order)
            dists += list(np.take_along_axis(distances, order, axis=1))
            bar.update(len(rows))
            vectors.release_pages()
    return inds, dists


def _add_pairs(
    found: list[list[tuple[Array, ...]]], size: int, rows: Array, cols: Array, distances: Array
) -> None:
    """Adds pairs to the block that their row is in."""
    block = rows // size
    for number in np.unique(block):
        part = block == number
        found[number].append((rows[part], cols[part], distances[part]))


class PairsBar(ProgressBar):
    """The progress of comparing every vector with those before it."""

    def __init__(self, count: int, progress: Any = None) -> None:
        super().__init__(count, "Comparing", show=count >= SHOW_FROM, progress=progress)
        self._count = count
        self._done = 0

    def __enter__(self) -> PairsBar:
        super().__enter__()
        return self

    def reached(self, rows: int) -> None:
        """Sets the number of vectors that are done.

        Args:
            rows: how many of the first vectors are compared with all before them
        """
        done = rows * rows // self._count
        self.update(done - self._done)
        self._done = done
