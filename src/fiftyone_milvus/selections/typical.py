"""Wants what has many others close by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fiftyone_milvus.neighborhoods import nearest_others
from fiftyone_milvus.selections.candidates import Candidates
from fiftyone_milvus.selections.strategy import Ranked, Scores, Strategy

SAMPLE = 4_096
"""The most candidates that each is compared with."""

NEIGHBORS = 10
_ROWS = 65_536


@dataclass(frozen=True)
class Typical(Strategy):
    """Wants what is close to others: no outliers.

    A candidate is the more typical, the smaller its mean distance to its 10 nearest neighbors among
    4,096 candidates that are drawn by the seed.

    Attributes:
        strength (1.0): its weight among several strategies
    """

    strength: float = 1.0

    def prepare(self, candidates: Candidates) -> Scores:
        """See the base class."""
        drawn = candidates.draw(SAMPLE)
        k = min(NEIGHBORS, len(drawn) - 1)
        mean = np.zeros(len(candidates))
        for start in range(0, len(candidates) if k > 0 else 0, _ROWS):
            rows = np.arange(start, min(start + _ROWS, len(candidates)))
            _, distances = nearest_others(
                candidates.vectors, rows, k, among=drawn, progress=candidates.progress
            )
            mean[rows] = distances.mean(axis=1)
        return Ranked(mean, "more typical than {share} of all: {value} from its neighbors")
