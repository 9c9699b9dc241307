"""Selects vectors so that no two kept ones are within a distance: greedily, in index order.

A vector is dropped if a kept one before it is within the distance, so it is compared with kept ones
only. To try many distances, :meth:`Greedy.prepare` finds the closest earlier vectors of each one
once; they decide nearly every vector at any distance, and only the others are compared again.
"""

from __future__ import annotations

import numpy as np

from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods.all_neighbors import PairsBar
from fiftyone_milvus.neighborhoods.close_pairs import Pairs
from fiftyone_milvus.neighborhoods.top_k import TopK
from fiftyone_milvus.neighborhoods.vectors import SHOW_FROM, Tiles, Vectors

_EARLIER = 16
"""The number of closest earlier vectors that are kept of each vector."""


def first_of_pairs(count: int, pairs: Pairs) -> Array:
    """Returns the vectors that are in no pair with an earlier one that is kept.

    Args:
        count: the number of vectors
        pairs: what :func:`~fiftyone_milvus.neighborhoods.close_pairs.pairs_within` returned

    Returns:
        an ascending int64 array of positions
    """
    later, earlier, _ = pairs
    keep = np.ones(count, dtype=bool)
    if len(later):
        rows, starts = np.unique(later, return_index=True)
        for row, others in zip(rows.tolist(), np.split(earlier, starts[1:]), strict=True):
            keep[row] = not keep[others].any()
    return np.flatnonzero(keep)


class Greedy:
    """Selects vectors that are not within a distance of each other.

    Args:
        vectors: the vectors
        tiles (None): makes the tiles that are compared
    """

    def __init__(self, vectors: Vectors, tiles: Tiles | None = None) -> None:
        self._vectors = vectors
        self._tiles = tiles or Tiles(vectors)
        self._best: TopK | None = None
        # For each vector the kept one that last decided it, which is likely to decide it again
        self._witness = np.zeros(len(vectors), dtype=np.int32)
        self._witnessed = np.full(len(vectors), -np.inf, dtype=np.float32)

    def prepare(self) -> None:
        """Finds the closest earlier vectors of every vector: one pass over all pairs."""
        vectors, tiles = self._vectors, self._tiles
        best = TopK(len(vectors), _EARLIER)
        everything = np.arange(len(vectors))
        with PairsBar(len(vectors)) as bar:
            for rows in tiles.blocks():
                start = int(rows[0])
                for cols in tiles.columns(everything[:start]):
                    best.offer(start, cols, tiles.tile(rows, cols))
                closeness = tiles.tile(rows, rows)
                closeness[np.triu_indices(len(rows))] = -np.inf
                best.offer(start, rows, closeness)
                bar.reached(start + len(rows))
                vectors.release_pages()
        self._best = best

    def keep(
        self, thresh: float, *, fewest: int = 0, most: int | None = None, show: bool = False
    ) -> tuple[Array, int]:
        """Returns the kept vectors: the first of each group of duplicates.

        Args:
            thresh: the distance within which a vector is dropped, inclusive
            fewest (0): stops when fewer than this can be kept
            most (None): stops when more than this are kept
            show (False): whether to show progress

        Returns:
            an ascending int64 array of positions, and the number of vectors that were decided: all
            of them, unless it stopped
        """
        count = len(self._vectors)
        keep = np.zeros(count, dtype=bool)
        kept = 0
        with ProgressBar(count, "Comparing", show=show and count >= SHOW_FROM) as bar:
            for rows in self._tiles.blocks():
                self._decide(rows, keep, thresh)
                stop = int(rows[-1]) + 1
                kept += int(keep[rows].sum())
                bar.update(len(rows))
                self._vectors.release_pages()
                if (most is not None and kept > most) or kept + count - stop < fewest:
                    return np.flatnonzero(keep), stop
        return np.flatnonzero(keep), count

    def _decide(self, rows: Array, keep: Array, thresh: float) -> None:
        """Decides a block of vectors after all before it."""
        undecided, lists = self._decide_by_lists(rows, keep, thresh)
        start = int(rows[0])
        compare = self._uncovered(undecided, np.flatnonzero(keep[:start]), thresh)
        among = np.union1d(start + np.flatnonzero(keep[rows]), [*compare, *lists]).astype(np.int64)
        if len(compare):
            closeness = self._tiles.tile(compare, among)
            limit = self._vectors.closeness(thresh)
            error = self._vectors.error(compare, among)[:, None]
            before = among < compare[:, None]
            likely = (closeness >= (limit - error).astype(np.float32)) & before
            surely = likely & (closeness >= (limit + error).astype(np.float32))
            some = likely.any(axis=1)
            keep[compare[~some]] = True
            for i in np.flatnonzero(some).tolist():
                lists[int(compare[i])] = among[surely[i]], among[likely[i] & ~surely[i]]
        for row in sorted(lists):
            near, unsure = lists[row]
            if keep[near].any():
                continue
            unsure = unsure[keep[unsure]]
            keep[row] = not self._any_within(row, unsure, thresh)

    def _decide_by_lists(
        self, rows: Array, keep: Array, thresh: float
    ) -> tuple[Array, dict[int, tuple[Array, Array]]]:
        """Decides the vectors of a block that the closest earlier ones decide.

        Returns:
            the vectors that must be compared; and for the other undecided ones, the earlier vectors
            that are surely, and those that may be, within the distance
        """
        if self._best is None:
            return rows, {}
        start = int(rows[0])
        ids = np.column_stack([self._best.ids[rows], self._witness[rows]])
        closeness = np.column_stack([self._best.closeness[rows], self._witnessed[rows]])
        near = np.zeros(ids.shape, dtype=bool)
        limit = self._vectors.closeness(thresh)
        widest = self._vectors.error(rows, slice(0, int(rows[-1]) + 1))
        floor = self._best.closeness[rows].min(axis=1)
        complete = floor < limit - widest
        at = np.nonzero((closeness >= (limit - widest)[:, None]) & (closeness > -np.inf))
        near[at] = self._vectors.within(rows[at[0]], ids[at], closeness[at], thresh)
        dropped = (near & keep[ids]).any(axis=1)
        keep[rows[complete & ~near.any(axis=1)]] = True
        undecided = ~dropped & ~keep[rows]
        none = np.empty(0, dtype=np.int64)
        lists = {
            start + i: (ids[i][near[i]], none)
            for i in np.flatnonzero(undecided & complete).tolist()
        }
        return rows[undecided & ~complete], lists

    def _uncovered(self, rows: Array, kept: Array, thresh: float) -> Array:
        """Returns the vectors that are within the distance of none of the kept ones."""
        vectors = self._vectors
        limit = vectors.closeness(thresh)
        # Duplicates tend to follow each other, for example as frames of a video
        for cols in reversed(self._tiles.columns(kept)):
            if not len(rows):
                break
            closeness = self._tiles.tile(rows, cols)
            best = closeness.argmax(axis=1)
            value = closeness[np.arange(len(rows)), best]
            error = vectors.error(rows, cols)
            covered = vectors.within(rows, cols[best], value, thresh)
            for i in np.flatnonzero(~covered & (value >= limit - error)):
                unsure = cols[closeness[i] >= limit - error[i]]
                covered[i] = self._any_within(rows[i], unsure, thresh)
            self._witness[rows[covered]] = cols[best[covered]]
            self._witnessed[rows[covered]] = value[covered]
            rows = rows[~covered]
        return rows

    def _any_within(self, row: int, others: Array, thresh: float) -> bool:
        rows = np.full(len(others), row)
        return bool((self._vectors.distances(rows, others) <= thresh).any())
