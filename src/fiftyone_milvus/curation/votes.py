"""What the nearest labeled neighbors say of the label of each vector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods import Vectors, nearest_others

_BLOCK = 20_000


@dataclass(frozen=True)
class Votes:
    """The labels of the neighbors of some vectors, as numbers, and how much each counts.

    Attributes:
        labels: a ``num_vectors x k`` int array: those of the neighbors, nearest first
        weights: a float64 array of the same shape; each row sums to 1
        distances: of the neighbors: a float64 array of the same shape
    """

    labels: Array
    weights: Array
    distances: Array

    def winners(self) -> tuple[Array, Array]:
        """Returns the label with the largest share of each vector, and that share.

        Of labels with the same share, that of the nearest neighbor wins.
        """
        return self._best(np.zeros(len(self.labels), np.int64) - 1)

    def share(self, labels: Array) -> Array:
        """Returns the share of a label for each vector: a float64 array.

        Args:
            labels: an int array, one for each vector
        """
        return np.asarray((self.weights * (self.labels == labels[:, None])).sum(axis=1))

    def best_other(self, labels: Array) -> tuple[Array, Array]:
        """Returns the label with the largest share that is not a given one, and its share.

        Args:
            labels: an int array, one for each vector

        Returns:
            an int array, -1 where all neighbors have the given label, and a float64 array
        """
        return self._best(labels)

    def probabilities(self, count: int) -> Array:
        """Returns the share of every label: a ``num_vectors x count`` float64 array.

        Args:
            count: the number of labels
        """
        found = np.zeros((len(self.labels), count))
        rows = np.repeat(np.arange(len(self.labels)), self.labels.shape[1])
        np.add.at(found, (rows, self.labels.ravel()), self.weights.ravel())
        return found

    def _best(self, but: Array) -> tuple[Array, Array]:
        number, k = self.labels.shape
        winners, shares = np.full(number, -1, np.int64), np.zeros(number)
        for start in range(0, number, _BLOCK):
            part = slice(start, start + _BLOCK)
            labels, weights = self.labels[part], self.weights[part]
            totals = np.stack(
                [(weights * (labels == labels[:, [j]])).sum(axis=1) for j in range(k)], axis=1
            )
            totals[labels == but[part, None]] = -1.0
            # Equal sums may differ by rounding; the first of them is the nearest
            at = np.argmax(np.round(totals, 9), axis=1)
            rows = np.arange(len(labels))
            good = totals[rows, at] >= 0
            winners[part][good] = labels[rows, at][good]
            shares[part][good] = totals[rows, at][good]
        return winners, np.minimum(shares, 1.0)


def votes(
    vectors: Vectors,
    rows: Array,
    among: Array,
    labels: Array,
    k: int,
    *,
    weighted: bool,
    progress: bool | None = None,
) -> Votes:
    """Returns what the nearest labeled neighbors of some vectors say; exact.

    A vector is never its own neighbor.

    Args:
        vectors: all vectors
        rows: an ascending integer array: the positions of the vectors to label
        among: an ascending integer array: the positions of labeled vectors
        labels: the label of every vector, as an int array; used at ``among``
        k: the number of neighbors of each; fewer if there are fewer
        weighted: whether a neighbor counts by the inverse of its distance, and those at distance 0
            alone; if not, all count the same
        progress (None): a progress setting of FiftyOne
    """
    own = int(np.isin(rows, among, assume_unique=True).any())
    k = max(0, min(k, len(among) - own))
    inds, distances = nearest_others(vectors, rows, k, among=among, progress=progress)
    weights = np.ones(distances.shape)
    if weighted:
        same = distances <= 0
        weights = np.where(same.any(axis=1, keepdims=True), same, 1 / np.maximum(distances, 1e-300))
    weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
    return Votes(labels[inds], weights, distances)
