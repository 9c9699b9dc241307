"""What a query found: rows and their distances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fiftyone_milvus.metrics import Array


class Neighbors(NamedTuple):
    """The rows nearest to one query, nearest first.

    Attributes:
        ids: primary keys
        sample_ids: the sample of each
        distances: float64, ascending (descending where the farthest were asked for)
    """

    ids: list[str]
    sample_ids: list[str]
    distances: Array

    def first(self, k: int | None) -> Neighbors:
        """Returns the first ``k`` of them, or all."""
        return Neighbors(self.ids[:k], self.sample_ids[:k], self.distances[:k])

    def last(self, k: int | None) -> Neighbors:
        """Returns the last ``k`` of them, or all, in reverse."""
        return Neighbors(self.ids[::-1], self.sample_ids[::-1], self.distances[::-1]).first(k)

    def where(self, mask: Array) -> Neighbors:
        """Returns those where ``mask`` is True."""
        return self.take(np.flatnonzero(mask))

    def take(self, order: Array) -> Neighbors:
        """Returns those at the given positions."""
        return Neighbors(
            [self.ids[i] for i in order], [self.sample_ids[i] for i in order], self.distances[order]
        )


NOBODY = Neighbors([], [], np.empty(0))


def merge(parts: Sequence[Neighbors], k: int | None, *, farthest: bool = False) -> Neighbors:
    """Returns the best ``k`` of rows that were found in disjoint parts; None for all."""
    found = Neighbors(
        [i for part in parts for i in part.ids],
        [i for part in parts for i in part.sample_ids],
        np.concatenate([part.distances for part in parts]) if parts else np.empty(0),
    )
    keys = -found.distances if farthest else found.distances
    return found.take(np.argsort(keys, kind="stable")[:k])
