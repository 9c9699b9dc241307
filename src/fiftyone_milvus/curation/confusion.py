"""Which labels are confused with which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fiftyone_milvus.metrics import Array


@dataclass(frozen=True)
class Confusion:
    """How often samples with one label have neighbors that say another.

    Attributes:
        labels: sorted
        counts: a ``num_labels x num_labels`` int64 array: the label that a sample has, by the label
            that its neighbors say
    """

    labels: list[str]
    counts: Array

    @classmethod
    def of(cls, has: Sequence[str], says: Sequence[str]) -> Confusion:
        """Counts pairs of labels: that of a sample, and that of its neighbors."""
        labels = sorted({*has, *says})
        at = {label: place for place, label in enumerate(labels)}
        counts = np.zeros((len(labels), len(labels)), np.int64)
        for (one, other), number in Counter(zip(has, says, strict=True)).items():
            counts[at[one], at[other]] = number
        return cls(labels, counts)

    @property
    def accuracy(self) -> float:
        """The share of samples whose neighbors say the label that they have."""
        return float(np.trace(self.counts) / max(1, self.counts.sum()))

    def pairs(self) -> list[tuple[str, str, int]]:
        """Returns the pairs of different labels with their counts, the most frequent first."""
        found = [
            (self.labels[i], self.labels[j], int(self.counts[i, j]))
            for i, j in zip(*np.nonzero(self.counts), strict=True)
            if i != j
        ]
        return sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1]))
