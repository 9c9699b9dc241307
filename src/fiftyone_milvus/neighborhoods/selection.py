"""What to keep so that no two kept points are within a distance: greedy, in index order.

A point goes if a kept one before it is within the distance, so it is compared with kept ones only.
To try many distances, :meth:`Greedy.prepare` finds the closest earlier points of every point once,
in one pass; they decide nearly every point at any distance, and the rest is compared as before.
"""

from __future__ import annotations

import numpy as np

from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods.all_neighbors import SHOW_FROM, PairsBar
from fiftyone_milvus.neighborhoods.top_k import Best
from fiftyone_milvus.neighborhoods.vectors import Tiles, Vectors

_EARLIER = 16


class Greedy:
    """Keeps points of some vectors.

    Args:
        vectors: the points
        tiles (None): how to compare them
    """

    def __init__(self, vectors: Vectors, tiles: Tiles | None = None) -> None:
        self._vectors = vectors
        self._tiles = tiles or Tiles(vectors)
        self._best: Best | None = None
        # A kept point that once decided, for each point: likely to decide again
        self._witness = np.zeros(len(vectors), dtype=np.int32)
        self._witnessed = np.full(len(vectors), -np.inf, dtype=np.float32)

    def prepare(self) -> None:
        """Finds the closest earlier points of every point: one pass over all pairs."""
        vectors, tiles = self._vectors, self._tiles
        best = Best(len(vectors), _EARLIER)
        everything = np.arange(len(vectors))
        bar = PairsBar(len(vectors))
        with bar:
            for rows in tiles.blocks():
                start = int(rows[0])
                for cols in tiles.columns(everything[:start]):
                    best.offer(start, cols, tiles.tile(rows, cols).closeness)
                closeness = tiles.tile(rows, rows).closeness
                closeness[np.triu_indices(len(rows))] = -np.inf
                best.offer(start, rows, closeness)
                bar.reached(start + len(rows))
                vectors.relax()
        self._best = best

    def keep(
        self, thresh: float, *, fewest: int = 0, most: int | None = None, show: bool = False
    ) -> tuple[Array, int]:
        """Returns the kept points, the first of a group of near-duplicates.

        Args:
            thresh: the distance
            fewest (0): stop where fewer will be kept than this
            most (None): stop where more are kept than this
            show (False): whether to show progress

        Returns:
            an ascending integer array of indexes, and the number of points that were decided: all
            of them, unless stopped
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
                self._vectors.relax()
                if (most is not None and kept > most) or kept + count - stop < fewest:
                    return np.flatnonzero(keep), stop
        return np.flatnonzero(keep), count

    def _decide(self, rows: Array, keep: Array, thresh: float) -> None:
        """Decides a block of points, where all before it are decided."""
        undecided, lists = self._decide_by_lists(rows, keep, thresh)
        start = int(rows[0])
        compare = self._uncovered(undecided, np.flatnonzero(keep[:start]), thresh)
        among = np.union1d(start + np.flatnonzero(keep[rows]), [*compare, *lists]).astype(np.int64)
        if len(compare):
            tile = self._tiles.tile(compare, among)
            limit = self._vectors.closeness(thresh)
            error = self._vectors.error(compare, among)[:, None]
            before = among < compare[:, None]
            likely = (tile.closeness >= (limit - error).astype(np.float32)) & before
            surely = likely & (tile.closeness >= (limit + error).astype(np.float32))
            some = likely.any(axis=1)
            keep[compare[~some]] = True
            for i in np.flatnonzero(some).tolist():
                lists[int(compare[i])] = among[surely[i]], among[likely[i] & ~surely[i]]
        for row in sorted(lists):
            near, unsure = lists[row]
            if keep[near].any():
                continue
            unsure = unsure[keep[unsure]]
            if len(unsure):
                who = np.full(len(unsure), row)
                if (self._vectors.distances(who, unsure) <= thresh).any():
                    continue
            keep[row] = True

    def _decide_by_lists(
        self, rows: Array, keep: Array, thresh: float
    ) -> tuple[Array, dict[int, tuple[Array, Array]]]:
        """Decides what the closest earlier points can.

        Returns:
            the points that must be compared; and, for each undecided one of which they are known,
            the earlier points within the distance, surely and maybe
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
        near[at] = self._vectors.near(rows[at[0]], ids[at], closeness[at], thresh)
        gone = (near & keep[ids]).any(axis=1)
        keep[rows[complete & ~near.any(axis=1)]] = True
        undecided = ~gone & ~keep[rows]
        nobody = np.empty(0, dtype=np.int64)
        lists = {
            start + i: (ids[i][near[i]], nobody)
            for i in np.flatnonzero(undecided & complete).tolist()
        }
        return rows[undecided & ~complete], lists

    def _uncovered(self, rows: Array, kept: Array, thresh: float) -> Array:
        """Returns those of the points that are within the distance of none of the kept."""
        vectors = self._vectors
        limit = vectors.closeness(thresh)
        # Near-duplicates tend to be neighbors in order, as frames of a video are
        for cols in reversed(self._tiles.columns(kept)):
            if not len(rows):
                break
            closeness = self._tiles.tile(rows, cols).closeness
            best = closeness.argmax(axis=1)
            value = closeness[np.arange(len(rows)), best]
            error = vectors.error(rows, cols)
            covered = vectors.near(rows, cols[best], value, thresh)
            for i in np.flatnonzero(~covered & (value >= limit - error)):
                unsure = cols[closeness[i] >= limit - error[i]]
                apart = vectors.distances(np.full(len(unsure), rows[i]), unsure)
                covered[i] = bool((apart <= thresh).any())
            self._witness[rows[covered]] = cols[best[covered]]
            self._witnessed[rows[covered]] = value[covered]
            rows = rows[~covered]
        return rows
