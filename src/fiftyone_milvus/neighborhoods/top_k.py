"""The closest few columns of every row, collected tile by tile."""

from __future__ import annotations

import numpy as np

from fiftyone_milvus.metrics import Array

_ROUND = 64
"""The most candidates of one row that are merged at once."""


class TopK:
    """The ``k`` closest columns of each row so far.

    Args:
        rows: the number of rows
        k: the number of columns to collect for each

    Attributes:
        closeness: a ``num_rows x k`` float32 array in no order; -inf where there are fewer
        ids: a ``num_rows x k`` int32 array of columns; 0 where there are fewer
    """

    def __init__(self, rows: int, k: int) -> None:
        self.k = k
        self.closeness = np.full((rows, k), -np.inf, dtype=np.float32)
        self.ids = np.zeros((rows, k), dtype=np.int32)
        self._floor = np.full(rows, -np.inf, dtype=np.float32)

    def offer(self, first: int, cols: Array, closeness: Array) -> None:
        """Adds columns to the rows ``first, first + 1, ...`` where they are close enough.

        Args:
            first: the first row
            cols: an integer array of columns
            closeness: a ``num_rows x len(cols)`` float32 array; the largest may be overwritten
        """
        count, width = closeness.shape
        floor = self._floor[first : first + count]
        if np.isneginf(floor).all() and width >= 4 * self.k:
            self._seed(first, cols, closeness)
        hits = np.flatnonzero(closeness > floor[:, None])
        values = closeness.ravel()[hits]
        self._merge(first + hits // width, cols[hits % width], values)

    def offer_to(self, rows: Array, cols: Array, closeness: Array) -> None:
        """Adds columns to some rows where they are close enough.

        Args:
            rows: an ascending integer array
            cols: an integer array of columns
            closeness: a ``len(rows) x len(cols)`` float32 array
        """
        hits = np.flatnonzero(closeness > self._floor[rows][:, None])
        values = closeness.ravel()[hits]
        self._merge(rows[hits // len(cols)], cols[hits % len(cols)], values)

    def offer_back(self, first: int, ids: Array, closeness: Array) -> None:
        """Adds the rows of a tile, as neighbors, to its columns ``first, first + 1, ...``.

        Args:
            first: the first column of the tile
            ids: an integer array: the rows of the tile
            closeness: the tile, a ``len(ids) x num_columns`` float32 array, which does not change
        """
        width = closeness.shape[1]
        floor = self._floor[first : first + width]
        hits = np.flatnonzero(closeness > floor)
        hits = hits[np.argsort(hits % width, kind="stable")]
        self._merge(first + hits % width, ids[hits // width], closeness.ravel()[hits])

    def _seed(self, first: int, cols: Array, closeness: Array) -> None:
        """Starts with the closest of each of some groups of columns: few others are closer."""
        count, width = closeness.shape
        groups = min(max(4 * self.k, 64), width)
        size = width // groups
        grouped = closeness[:, : groups * size].reshape(count, groups, size)
        at = grouped.argmax(axis=2) + np.arange(0, groups * size, size)
        values = np.take_along_axis(closeness, at, axis=1)
        chosen = np.argpartition(values, groups - self.k, axis=1)[:, groups - self.k :]
        at = np.take_along_axis(at, chosen, axis=1)
        rows = slice(first, first + count)
        self.closeness[rows] = np.take_along_axis(values, chosen, axis=1)
        self.ids[rows] = cols[at]
        self._floor[rows] = self.closeness[rows].min(axis=1)
        np.put_along_axis(closeness, at, -np.inf, axis=1)

    def _merge(self, rows: Array, ids: Array, values: Array) -> None:
        """Merges candidates, a few of each row at a time; ``rows`` are ascending."""
        while len(rows):
            starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
            counts = np.diff(np.r_[starts, len(rows)])
            place = np.arange(len(rows)) - np.repeat(starts, counts)
            now = place < _ROUND
            merged = rows[starts]
            line = np.repeat(np.arange(len(merged)), counts)[now]
            width = self.k + int(min(counts.max(), _ROUND))

            closeness = np.full((len(merged), width), -np.inf, dtype=np.float32)
            closeness[:, : self.k] = self.closeness[merged]
            closeness[line, self.k + place[now]] = values[now]
            taken = np.zeros((len(merged), width), dtype=np.int32)
            taken[:, : self.k] = self.ids[merged]
            taken[line, self.k + place[now]] = ids[now]

            chosen = np.argpartition(closeness, width - self.k, axis=1)[:, width - self.k :]
            self.closeness[merged] = np.take_along_axis(closeness, chosen, axis=1)
            self.ids[merged] = np.take_along_axis(taken, chosen, axis=1)
            self._floor[merged] = self.closeness[merged].min(axis=1)

            later = ~now
            later[later] = values[later] > self._floor[rows[later]]
            rows, ids, values = rows[later], ids[later], values[later]
