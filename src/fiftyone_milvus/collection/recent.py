"""Answers searches of a new collection from memory, while a server loads it.

A server takes about 2.5 s to load even an empty collection. Until then all its rows are those that
this process has just uploaded, so they are searched here, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fiftyone_milvus.metrics import Array, Points, metric_of, smallest, to_scores

MAX_BYTES = 32 << 20
"""The largest size of the vectors that are kept for these seconds."""


class Hits(NamedTuple):
    """The rows that one query vector found, the best first.

    Attributes:
        ids: primary keys
        sample_ids: the sample of each
        scores: a float64 array of the same length: what Milvus returns for the metric
    """

    ids: list[str]
    sample_ids: list[str]
    scores: Array


class Rows(NamedTuple):
    """Rows with their vectors.

    Attributes:
        ids: primary keys
        sample_ids: the sample of each
        vectors: a ``num_rows x num_dims`` float32 array
    """

    ids: list[str]
    sample_ids: list[str]
    vectors: Array

    def search(self, queries: Array, limit: int, metric_type: str) -> list[Hits]:
        """Returns the best ``limit`` rows of each query, with the scores that Milvus returns.

        Args:
            queries: a ``num_queries x num_dims`` float32 array
            limit: how many rows of each query
            metric_type: ``COSINE``, ``IP`` or ``L2``

        Returns:
            a list of ``num_queries`` :class:`Hits` of ``min(limit, num_rows)`` rows each
        """
        metric = str(metric_of(metric_type))
        distances = Points(queries, metric).distances(Points(self.vectors, metric))
        order = smallest(distances, limit)
        scores = to_scores(np.take_along_axis(distances, order, axis=1), metric)
        return [
            Hits([self.ids[i] for i in row], [self.sample_ids[i] for i in row], score)
            for row, score in zip(order, scores)
        ]

    def take(self, ids: Sequence[str]) -> Rows:
        """Returns the rows that exist of ``ids``, in their order.

        Args:
            ids: primary keys
        """
        table = {_id: i for i, _id in enumerate(self.ids)}
        found = [table[i] for i in ids if i in table]
        return Rows(
            [self.ids[i] for i in found], [self.sample_ids[i] for i in found], self.vectors[found]
        )
