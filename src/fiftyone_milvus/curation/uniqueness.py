"""How far each vector is from its nearest neighbors, as FiftyOne's ``compute_uniqueness()``."""

from __future__ import annotations

from typing import Any

import numpy as np

from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods import Vectors, nearest_of_all

WEIGHTS = (0.6, 0.3, 0.1)
"""How much the nearest, the second and the third neighbor count, as in FiftyOne."""


def uniqueness(vectors: Vectors, progress: Any = None) -> Array:
    """Returns the uniqueness of each vector.

    Args:
        vectors: whose distances are never below 0
        progress (None): a progress setting of FiftyOne

    Returns:
        a float64 array of numbers from 0 to 1: the weighted distance to the three nearest others,
        divided by the largest; 1 for all if there are three vectors or fewer, and 0 for all if all
        are the same
    """
    if len(vectors) <= len(WEIGHTS):
        return np.ones(len(vectors))
    _, distances = nearest_of_all(vectors, len(WEIGHTS), progress=progress)
    apart = distances @ np.array(WEIGHTS)
    return np.asarray(apart / (apart.max() or 1.0))
