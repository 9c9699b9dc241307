"""The closest few of every row, kept while tiles go by."""

from __future__ import annotations

import numpy as np

from fiftyone_milvus.metrics import Array

_ROUND = 64


class Best:
    """The ``k`` closest of each row so far.

    Attributes:
        closeness: a ``num_rows x k`` float32 array in no order; -inf where there are fewer
        ids: of whom, a ``num_rows x k`` int32 array; 0 where there are fewer
    """

    def __init__(self, rows: int, k: int) -> None:
        self.k = k
        self.closeness = np.full((rows, k), -np.inf, dtype=np.float32)
        self.ids = np.zeros((rows, k), dtype=np.int32)
        self._floor = np.full(rows, -np.inf, dtype=np.float32)

    def offer(self, first: int, cols: Array, closeness: Array) -> None:
        """Offers columns to the rows ``first, first + 1, ...``.

        Args:
            first: the first row
            cols: an integer array: whom the columns are
            closeness: a ``num_rows x len(cols)`` float32 array; its greatest may be overwritten
        """
        count, width = closeness.shape
        floor = self._floor[first : first + count]
        if np.isneginf(floor).all() and width >= 4 * self.k:
            self._seed(first, cols, closeness)
        hits = np.flatnonzero(closeness > floor[:, None])
        values = closeness.ravel()[hits]
        self._merge(first + hits // width, cols[hits % width], values)

    def offer_back(self, first: int, ids: Array, closeness: Array) -> None:
        """Offers the rows of an array to its columns, which are ``first, first + 1, ...``."""
        width = closeness.shape[1]
        floor = self._floor[first : first + width]
        hits = np.flatnonzero(closeness > floor)
        order = np.argsort(hits % width, kind="stable")
        hits = hits[order]
        self._merge(first + hits % width, ids[hits // width], closeness.ravel()[hits])

    def _seed(self, first: int, cols: Array, closeness: Array) -> None:
        """Takes the closest of each of some groups of columns, so that few others are closer."""
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
        """Takes what is closer; ``rows`` are ascending. Of the same row, a few at a time."""
        while len(rows):
            starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
            counts = np.diff(np.r_[starts, len(rows)])
            place = np.arange(len(rows)) - np.repeat(starts, counts)
            now = place < _ROUND
            who = rows[starts]
            line = np.repeat(np.arange(len(who)), counts)[now]
            width = self.k + int(min(counts.max(), _ROUND))

            closeness = np.full((len(who), width), -np.inf, dtype=np.float32)
            closeness[:, : self.k] = self.closeness[who]
            closeness[line, self.k + place[now]] = values[now]
            taken = np.zeros((len(who), width), dtype=np.int32)
            taken[:, : self.k] = self.ids[who]
            taken[line, self.k + place[now]] = ids[now]

            chosen = np.argpartition(closeness, width - self.k, axis=1)[:, width - self.k :]
            self.closeness[who] = np.take_along_axis(closeness, chosen, axis=1)
            self.ids[who] = np.take_along_axis(taken, chosen, axis=1)
            self._floor[who] = self.closeness[who].min(axis=1)

            later = ~now
            later[later] = values[later] > self._floor[rows[later]]
            rows, ids, values = rows[later], ids[later], values[later]
