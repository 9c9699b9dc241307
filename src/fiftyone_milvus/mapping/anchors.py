"""Maps by UMAP: a sample of the vectors is laid out, and the rest is placed among it."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from dataclasses import dataclass

import numpy as np

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.metrics import Array

NEIGHBORS = 15
"""The neighbors of each vector that UMAP looks at, its own default."""

LEAST = 5
"""UMAP has no layout of fewer vectors."""

_TILE = 16 << 20
"""The most distances that are in memory at once."""


@dataclass(frozen=True)
class Anchors:
    """Vectors that have a place on a map, among which others are placed.

    Attributes:
        vectors: a ``num_anchors x num_dims`` float32 array
        points: a ``num_anchors x 2`` array
    """

    vectors: Array
    points: Array

    def project(self, vectors: Array) -> Array:
        """Returns where vectors are on the map: amid their nearest anchors, the nearest first.

        As UMAP's own ``transform()`` does before it moves them on.

        Args:
            vectors: a ``num_vectors x num_dims`` float32 array

        Returns:
            a ``num_vectors x 2`` float64 array
        """
        rows = max(1, _TILE // len(self.vectors))
        parts = [self._place(vectors[i : i + rows]) for i in range(0, len(vectors), rows)]
        return np.concatenate(parts) if parts else np.empty((0, 2))

    def _place(self, vectors: Array) -> Array:
        squares = np.einsum("ij,ij->i", self.vectors, self.vectors)
        near = squares - 2.0 * (vectors @ self.vectors.T)
        count = min(NEIGHBORS, len(squares))
        best = np.argpartition(near, count - 1, axis=1)[:, :count]
        found = self.vectors[best].astype(np.float64) - vectors[:, None, :]
        distances = np.sqrt(np.einsum("ijk,ijk->ij", found, found))
        beyond = distances - distances.min(axis=1, keepdims=True)
        width = beyond.mean(axis=1, keepdims=True)
        weights = np.exp(-beyond / np.where(width > 0, width, 1.0))
        weights /= weights.sum(axis=1, keepdims=True)
        return np.einsum("ij,ijk->ik", weights, self.points[best])


def check_umap() -> None:
    """Raises InvalidInputError if ``umap-learn`` is not installed."""
    if importlib.util.find_spec("umap") is None:
        raise InvalidInputError(
            "method='umap' needs the package umap-learn, which is not installed; run pip install "
            "umap-learn, or use method='pca'"
        )


def lay_out(vectors: Array, seed: int) -> Array:
    """Returns the places that UMAP finds for vectors.

    Args:
        vectors: a ``num_vectors x num_dims`` float32 array
        seed: of UMAP's random numbers

    Returns:
        a ``num_vectors x 2`` float64 array

    Raises:
        InvalidInputError: if there are fewer than :data:`LEAST`
    """
    if len(vectors) < LEAST:
        raise InvalidInputError(
            f"A map by UMAP needs at least {LEAST} embeddings, and there are {len(vectors)}; use "
            "method='pca'"
        )
    umap = importlib.import_module("umap")
    reducer = umap.UMAP(n_neighbors=min(NEIGHBORS, len(vectors) - 1), random_state=seed)
    with warnings.catch_warnings():
        # That a seed means one thread
        warnings.simplefilter("ignore")
        return np.asarray(reducer.fit_transform(vectors), dtype=np.float64)
