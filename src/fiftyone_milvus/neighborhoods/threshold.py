"""Finds the distance at which a given number of vectors is kept."""

from __future__ import annotations

import logging

import numpy as np

from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods.selection import Greedy
from fiftyone_milvus.neighborhoods.vectors import Tiles, Vectors

logger = logging.getLogger(__name__)

_WIDTH = 1e-6
"""The width of the interval at which the bisection ends."""

_PREPARE_FROM = 50
"""The smallest share of vectors to keep, as ``1 / n``, for which :meth:`Greedy.prepare` pays off: a
trial compares each vector with at most the kept ones, and there are some 25 trials."""


def keep_count(
    vectors: Vectors, count: int, start: float | None = None, tiles: Tiles | None = None
) -> tuple[Array, float | None]:
    """Returns about ``count`` vectors to keep, and the distance that keeps them.

    Bisects the distance like FiftyOne, with the same first guess, steps and end. A trial stops as
    soon as it has kept, or dropped, too many.

    Args:
        vectors: the vectors
        count: the number to keep
        start (None): the first guess of the distance
        tiles (None): makes the tiles that are compared

    Returns:
        an ascending int64 array of positions, and the distance, or None if none or all are kept
    """
    if count <= 0 or count >= len(vectors):
        return np.arange(len(vectors) if count > 0 else 0), None
    greedy = Greedy(vectors, tiles)
    if count * _PREPARE_FROM > len(vectors):
        greedy.prepare()

    low, high = vectors.nearest_possible, None
    thresh = start if start is not None and start > 0 else 1.0
    last: int | None = None
    while True:
        narrow = high is not None and high - low < _WIDTH
        # Too many or too few is enough for a step; only the last two numbers must be exact
        exact = high is not None and high - low < 2 * _WIDTH
        fewest, most = (0, None) if exact else (count, count)
        kept, decided = greedy.keep(thresh, fewest=fewest, most=most)
        number = len(kept)
        whole = decided == len(vectors)
        too_many = number > count
        said = f"{number}," if whole else "over" if too_many else "under"
        logger.debug("threshold: %f, kept: %s target: %d", thresh, said, count)
        if whole and (number == count or (narrow and number == last)):
            return kept, thresh
        last = number if whole else None
        if too_many:
            low = thresh
            thresh = 2 * thresh if high is None else 0.5 * (thresh + high)
        else:
            high = thresh
            thresh = 0.5 * (low + thresh)
