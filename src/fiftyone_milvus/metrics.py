"""Milvus scores ↔ FiftyOne distances: the only place that knows what a Milvus score is.

FiftyOne asks for distances, smaller is closer, wherever it shows or thresholds them:

==============  ========  ==============================  =====================
metric          Milvus    Milvus score                    distance
==============  ========  ==============================  =====================
``euclidean``   ``L2``    squared L2, ascending           ``sqrt(score)``
``cosine``      ``COSINE`` cosine similarity, descending  ``1 - score``
``dotproduct``  ``IP``    inner product, descending       ``1 - score``
==============  ========  ==============================  =====================

Milvus' scores: https://milvus.io/docs/metric.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.errors import InvalidInputError

Array = npt.NDArray[Any]

METRICS = {"cosine": "COSINE", "dotproduct": "IP", "euclidean": "L2"}
"""FiftyOne's metric names and Milvus' ``metric_type`` of each."""


def metric_type(metric: str) -> str:
    """Returns Milvus' ``metric_type`` of a FiftyOne metric.

    Raises:
        InvalidInputError: if the metric is none of :data:`METRICS`
    """
    try:
        return METRICS[metric]
    except (KeyError, TypeError):
        raise InvalidInputError(
            f"Unsupported metric {metric!r}; expected one of {', '.join(map(repr, METRICS))}"
        ) from None


def metric_of(milvus_metric: str) -> str | None:
    """Returns the FiftyOne metric of a Milvus ``metric_type``, or None if it has none."""
    return next((m for m, t in METRICS.items() if t == milvus_metric.upper()), None)


def to_distances(scores: npt.ArrayLike, metric: str) -> Array:
    """Turns Milvus scores into distances.

    Args:
        scores: an array of any shape
        metric: a key of :data:`METRICS`

    Returns:
        a float64 array of the same shape
    """
    scores = np.asarray(scores, dtype=np.float64)
    if metric == "euclidean":
        return np.sqrt(np.maximum(scores, 0.0))
    if metric == "cosine":
        # float32 rounding puts a vector at -1e-7 from itself
        return np.maximum(1.0 - scores, 0.0)
    return 1.0 - scores


def to_scores(distances: Array, metric: str) -> Array:
    """Turns distances back into Milvus scores; the inverse of :func:`to_distances`."""
    return distances**2 if metric == "euclidean" else 1.0 - distances


def smallest(distances: Array, k: int | None) -> Array:
    """Returns the columns of the ``k`` smallest values of each row, ascending; None for all."""
    if k is None or 4 * k > distances.shape[1]:
        return np.argsort(distances, axis=1, kind="stable")[:, :k]
    part = np.argpartition(distances, k - 1, axis=1)[:, :k]
    inner = np.argsort(np.take_along_axis(distances, part, axis=1), axis=1, kind="stable")
    return np.take_along_axis(part, inner, axis=1)


class Points:
    """Vectors that distances are computed from, exactly and in bounded memory.

    Args:
        vectors: a ``num_vectors x num_dims`` float32 array; not copied where the metric allows
        metric: a key of :data:`METRICS`
    """

    def __init__(self, vectors: Array, metric: str) -> None:
        self.metric = metric
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if metric == "cosine":
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
            # Milvus scores a zero vector 0 under cosine
            vectors = vectors / np.where(norms == 0, 1, norms)
        self.vectors = vectors
        self._squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)

    def __len__(self) -> int:
        return len(self.vectors)

    def distances(self, others: Points) -> Array:
        """Returns the ``len(self) x len(others)`` float64 array of distances to ``others``."""
        products = (self.vectors @ others.vectors.T).astype(np.float64)
        if self.metric == "cosine":
            return np.maximum(1.0 - products, 0.0)
        if self.metric == "dotproduct":
            return 1.0 - products
        squares = self._squares[:, None] + others._squares[None, :]
        distances = squares - 2.0 * products
        # ||x||² - 2xy + ||y||² of float32 products cancels for near-duplicates: redo those exactly
        close = distances < 1e-4 * squares
        if close.any():
            rows, cols = np.nonzero(close)
            for part in range(0, len(rows), 65536):
                r, c = rows[part : part + 65536], cols[part : part + 65536]
                delta = self.vectors[r].astype(np.float64) - others.vectors[c]
                distances[r, c] = np.einsum("ij,ij->i", delta, delta)
        return np.sqrt(np.maximum(distances, 0.0))

    def take(self, rows: Any) -> Points:
        """Returns the points of the given rows (a slice or an index array)."""
        part = object.__new__(Points)
        part.metric = self.metric
        part.vectors = self.vectors[rows]
        part._squares = self._squares[rows]
        return part
