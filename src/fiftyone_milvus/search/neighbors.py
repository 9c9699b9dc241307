"""The rows that one query found, with their distances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fiftyone_milvus.metrics import Array


class Neighbors(NamedTuple):
    """The rows that one query found.

    Attributes:
        ids: primary keys
        sample_ids: the sample of each
        distances: a float64 array of the same length, ascending; descending if the farthest rows
            were asked for
    """

    ids: list[str]
    sample_ids: list[str]
    distances: Array

    def first(self, k: int | None) -> Neighbors:
        """Returns the first ``k`` rows; None for all."""
        return Neighbors(self.ids[:k], self.sample_ids[:k], self.distances[:k])

    def last(self, k: int | None) -> Neighbors:
        """Returns the last ``k`` rows, or all, the last first."""
        return Neighbors(self.ids[::-1], self.sample_ids[::-1], self.distances[::-1]).first(k)

    def where(self, mask: Array) -> Neighbors:
        """Returns the rows where a mask is True, in the same order.

        Args:
            mask: a boolean array with one value for each row
        """
        return self.take(np.flatnonzero(mask))

    def take(self, order: Array) -> Neighbors:
        """Returns the rows at the given positions.

        Args:
            order: an integer array of positions, of any length

        Returns:
            :class:`Neighbors` of ``len(order)`` rows, in this order
        """
        return Neighbors(
            [self.ids[i] for i in order], [self.sample_ids[i] for i in order], self.distances[order]
        )


NO_RESULT = Neighbors([], [], np.empty(0))


def merge(parts: Sequence[Neighbors], k: int | None, *, farthest: bool = False) -> Neighbors:
    """Merges what one query found in disjoint parts.

    Args:
        parts: the rows found in each part
        k: how many rows to return; None for all
        farthest (False): whether to return the farthest rows, the farthest first

    Returns:
        :class:`Neighbors` of at most ``k`` rows, by default the nearest first; rows at equal
        distances stay in the order of ``parts``
    """
    found = Neighbors(
        [i for part in parts for i in part.ids],
        [i for part in parts for i in part.sample_ids],
        np.concatenate([NO_RESULT.distances, *(part.distances for part in parts)]),
    )
    keys = -found.distances if farthest else found.distances
    return found.take(np.argsort(keys, kind="stable")[:k])
