"""The two directions in which vectors differ most, from vectors that are read in parts."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fiftyone_milvus.metrics import Array

DIMS = 2


@dataclass(frozen=True)
class Basis:
    """What makes vectors points of a map.

    Attributes:
        mean: the mean of the vectors that the basis was computed from, ``num_dims`` float64
        axes: the directions of the map, ``2 x num_dims`` float64
    """

    mean: Array
    axes: Array

    def project(self, vectors: Array) -> Array:
        """Returns where vectors are on the map.

        Args:
            vectors: a ``num_vectors x num_dims`` array

        Returns:
            a ``num_vectors x 2`` float64 array
        """
        return (vectors - self.mean) @ self.axes.T

    def to_text(self) -> str:
        """Returns the basis as text, for FiftyOne's database."""
        file = io.BytesIO()
        np.save(file, np.vstack([self.mean, self.axes]), allow_pickle=False)
        return base64.b64encode(zlib.compress(file.getvalue())).decode("ascii")

    @classmethod
    def from_text(cls, text: str) -> Basis:
        """Returns what :meth:`to_text` wrote."""
        file = io.BytesIO(zlib.decompress(base64.b64decode(text)))
        rows = np.load(file, allow_pickle=False)
        return cls(rows[0], rows[1:])


def fit(parts: Iterable[Array]) -> Basis:
    """Returns the first two principal components of vectors.

    Needs memory for one part and one ``num_dims x num_dims`` float64 array.

    Args:
        parts: ``num_vectors x num_dims`` float32 arrays, at least one vector in all
    """
    count, origin = 0, None
    for part in parts:
        if origin is None:
            # The squares of what is far from zero leave too few digits for what differs
            origin = part.mean(axis=0)
            total = np.zeros(len(origin))
            squares = np.zeros((len(origin), len(origin)))
        shifted = part - origin
        count += len(part)
        total += shifted.sum(axis=0, dtype=np.float64)
        squares += shifted.T @ shifted
    assert origin is not None
    offset = total / count
    # Ascending, so the last is the first component
    vectors = np.linalg.eigh(squares / count - np.outer(offset, offset))[1].T[::-1]
    return _basis(origin + offset, vectors[:DIMS])


def fit_all(vectors: Array, seed: int) -> Basis:
    """Returns what :func:`fit` does, without an array of ``num_dims x num_dims``.

    Args:
        vectors: a ``num_vectors x num_dims`` float32 array
        seed: of the iteration's start
    """
    from sklearn.decomposition import PCA  # slow, and rarely needed

    if len(vectors) == 1:
        return _basis(vectors[0], np.empty((0, vectors.shape[1])))
    count = min(DIMS, *vectors.shape)
    # The iteration finds fewer components than there are vectors or dimensions
    solver = "arpack" if count < min(vectors.shape) else "full"
    found = PCA(count, svd_solver=solver, random_state=seed).fit(vectors)
    return _basis(found.mean_, found.components_)


def _basis(mean: Array, axes: Array) -> Basis:
    # Else every platform would mirror the map as it likes
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    padded = np.zeros((DIMS, len(mean)))
    padded[: len(axes)] = axes * signs[:, None]
    return Basis(np.asarray(mean, dtype=np.float64), padded)
