"""Whether two sets of vectors are of the same distribution, by the neighbors of their vectors.

Where they are, the nearest neighbors of a vector are from either set as often as chance has it.
Where they are not, they are from its own set more often (M. Schilling, *Multivariate two-sample
tests based on nearest neighbors*, Journal of the American Statistical Association, 1986).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods import Vectors, nearest_others


@dataclass(frozen=True)
class TwoSamples:
    """The result of a test.

    Attributes:
        drift: 0 where neighbors are from the own set as often as chance has it, 1 where they always
            are; a bit below 0 by chance
        p_value: the share of random divisions into two sets, the true one among them, that have at
            least this drift
    """

    drift: float
    p_value: float


def compare(vectors: Vectors, first: int, *, k: int, permutations: int, seed: int) -> TwoSamples:
    """Compares two sets of vectors by a permutation test.

    Args:
        vectors: those of the one set, then those of the other; three at least
        first: how many are of the one set; at least one of each
        k: how many neighbors of each vector count
        permutations: how many random divisions are compared with the true one
        seed: of the divisions, and of the order of neighbors that are equally far
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(vectors))
    mixed = Vectors.of(vectors.rows(order), vectors.metric)
    with mixed:
        near, _ = nearest_others(mixed, np.arange(len(mixed)), min(k, len(mixed) - 1))
    is_first = order < first
    count, other = first, len(vectors) - first
    chance = (count * (count - 1) + other * (other - 1)) / (len(vectors) * (len(vectors) - 1))

    def share(labels: Array) -> float:
        return float((labels[near] == labels[:, None]).mean())

    true = share(is_first)
    # As large but for rounding
    least = true - 1e-12
    larger = sum(share(generator.permutation(is_first)) >= least for _ in range(permutations))
    drift = (true - chance) / (1 - chance)
    return TwoSamples(drift, (1 + larger) / (1 + permutations))
