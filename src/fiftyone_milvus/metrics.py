"""Converts Milvus scores to FiftyOne distances and back.

FiftyOne shows distances and applies thresholds to them; a smaller distance is closer:

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
"""FiftyOne's metrics and the ``metric_type`` of each in Milvus."""


def metric_type(metric: str) -> str:
    """Returns the ``metric_type`` in Milvus of a FiftyOne metric.

    Raises:
        InvalidInputError: if the metric is not in :data:`METRICS`
    """
    try:
        return METRICS[metric]
    except (KeyError, TypeError):
        raise InvalidInputError(
            f"Unsupported metric {metric!r}; expected one of {', '.join(map(repr, METRICS))}"
        ) from None


def metric_of(milvus_metric: str) -> str | None:
    """Returns the FiftyOne metric of a Milvus ``metric_type``, or None if there is none."""
    return next((m for m, t in METRICS.items() if t == milvus_metric.upper()), None)


def to_distances(scores: npt.ArrayLike, metric: str) -> Array:
    """Converts Milvus scores to distances.

    Args:
        scores: numbers in an array of any shape
        metric: a key of :data:`METRICS`

    Returns:
        a float64 array of the same shape
    """
    scores = np.asarray(scores, dtype=np.float64)
    if metric == "euclidean":
        return np.sqrt(np.maximum(scores, 0.0))
    if metric == "cosine":
        # Rounding to float32 can put a vector at -1e-7 from itself
        return np.maximum(1.0 - scores, 0.0)
    return 1.0 - scores


def to_scores(distances: Array, metric: str) -> Array:
    """Converts distances to Milvus scores: the inverse of :func:`to_distances`."""
    return distances**2 if metric == "euclidean" else 1.0 - distances


def smallest(distances: Array, k: int | None) -> Array:
    """Returns where the smallest values of each row are.

    Args:
        distances: a ``num_rows x num_columns`` float array
        k: how many of each row; None for all

    Returns:
        a ``num_rows x min(k, num_columns)`` array of columns, that of the smallest value first
    """
    if k is None or 4 * k > distances.shape[1]:
        return np.argsort(distances, axis=1, kind="stable")[:, :k]
    part = np.argpartition(distances, k - 1, axis=1)[:, :k]
    inner = np.argsort(np.take_along_axis(distances, part, axis=1), axis=1, kind="stable")
    return np.take_along_axis(part, inner, axis=1)


class Points:
    """Vectors between which distances are computed exactly.

    Args:
        vectors: a ``num_vectors x num_dims`` float32 array; copied only if the metric is cosine
        metric: a key of :data:`METRICS`
    """

    def __init__(self, vectors: Array, metric: str) -> None:
        self.metric = metric
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if metric == "cosine":
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
            # The cosine score of a zero vector is 0 in Milvus
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
        # ||x||² - 2xy + ||y||² loses its digits where x is close to y: compute those from x - y
        close = distances < 1e-4 * squares
        if close.any():
            rows, cols = np.nonzero(close)
            for part in range(0, len(rows), 65536):
                r, c = rows[part : part + 65536], cols[part : part + 65536]
                delta = self.vectors[r].astype(np.float64) - others.vectors[c]
                distances[r, c] = np.einsum("ij,ij->i", delta, delta)
        return np.sqrt(np.maximum(distances, 0.0))

    def take(self, rows: Any) -> Points:
        """Returns the points at ``rows``, a slice or an array of indices."""
        part = object.__new__(Points)
        part.metric = self.metric
        part.vectors = self.vectors[rows]
        part._squares = self._squares[rows]
        return part
