"""How close each vector is to the center of its cluster.

FiftyOne's ``compute_representativeness()`` has the same clusters and the same distances, but gives
the most to what is farthest from the center.
"""

from __future__ import annotations

import warnings

import numpy as np

from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods import Vectors

CLUSTERS, SEED = 20, 1234
"""FiftyOne's number of clusters, and the seed of their first centers."""

SAMPLE = 50_000
"""The most vectors from which the centers are learned."""

_BLOCK = 4_096
_ROUNDING = 1e-6
"""The float32 error of a center, to the length of its vectors: copies are at their center."""


def representativeness(vectors: Vectors, clusters: int = CLUSTERS, seed: int = SEED) -> Array:
    """Returns the representativeness of each vector.

    Args:
        vectors: of length one if the metric is cosine; whatever the metric, Euclidean distances
            are compared
        clusters (20): how many clusters there are, at most
        seed (1234): of the first centers, and of the vectors that are drawn to learn them

    Returns:
        a float64 array of numbers from 0 to 1: 1 less the distance to the center, divided by the
        largest of the cluster
    """
    if not len(vectors):
        return np.empty(0)
    centers = _centers(vectors, clusters, seed)
    nearest, apart = np.empty(len(vectors), np.int64), np.empty(len(vectors))
    squares = np.einsum("ij,ij->i", centers, centers)
    for start in range(0, len(vectors), _BLOCK):
        block = slice(start, start + _BLOCK)
        part = vectors.rows(block).astype(np.float64)
        nearest[block] = (squares - 2 * part @ centers.T).argmin(axis=1)
        apart[block] = np.linalg.norm(part - centers[nearest[block]], axis=1)
        apart[block][apart[block] <= _ROUNDING * vectors.lengths[block]] = 0.0
        vectors.release_pages()
    largest = np.zeros(len(centers))
    np.maximum.at(largest, nearest, apart)
    return np.asarray(1.0 - apart / np.where(largest > 0, largest, 1.0)[nearest])


def _centers(vectors: Vectors, clusters: int, seed: int) -> Array:
    """Returns the centers of clusters of some of the vectors, as float64."""
    # Takes a second to import, which only this needs
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    count = len(vectors)
    drawn = vectors.rows(slice(None))
    if count > SAMPLE:
        chosen = np.random.default_rng(seed).choice(count, SAMPLE, replace=False)
        drawn = vectors.rows(np.sort(chosen))
        vectors.release_pages()
    # Of many copies there are fewer clusters, which is no problem here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = KMeans(min(clusters, len(drawn)), n_init=1, random_state=seed).fit(drawn)
    return np.asarray(model.cluster_centers_, dtype=np.float64)
