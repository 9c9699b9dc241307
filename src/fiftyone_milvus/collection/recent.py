"""The rows of a collection that was just made, while its server still loads it.

A server takes about 2.5 s to load even an empty collection. What this process has just uploaded is
all there is in it, so until then questions are answered from here, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fiftyone_milvus.metrics import Array, Points, metric_of, smallest, to_scores

MAX_BYTES = 32 << 20
"""Vectors that are kept for those seconds, at most."""


class Hits(NamedTuple):
    """What one query vector found, best first."""

    ids: list[str]
    sample_ids: list[str]
    scores: Array


class Rows(NamedTuple):
    """Rows with their vectors."""

    ids: list[str]
    sample_ids: list[str]
    vectors: Array

    def search(self, queries: Array, limit: int, metric_type: str) -> list[Hits]:
        """Returns the best ``limit`` rows of each query, with Milvus' scores."""
        metric = str(metric_of(metric_type))
        distances = Points(queries, metric).distances(Points(self.vectors, metric))
        order = smallest(distances, limit)
        scores = to_scores(np.take_along_axis(distances, order, axis=1), metric)
        return [
            Hits([self.ids[i] for i in row], [self.sample_ids[i] for i in row], score)
            for row, score in zip(order, scores)
        ]

    def take(self, ids: Sequence[str]) -> Rows:
        """Returns the rows of those of ``ids`` that exist, in their order."""
        table = {_id: i for i, _id in enumerate(self.ids)}
        found = [table[i] for i in ids if i in table]
        return Rows(
            [self.ids[i] for i in found], [self.sample_ids[i] for i in found], self.vectors[found]
        )
