"""Finds the distance at which a given number of vectors is kept."""

from __future__ import annotations

import logging

import numpy as np

from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods.cells import some
from fiftyone_milvus.neighborhoods.close_pairs import Pairs, pairs_within
from fiftyone_milvus.neighborhoods.nearest_others import nearest_others
from fiftyone_milvus.neighborhoods.selection import Greedy, first_of_pairs
from fiftyone_milvus.neighborhoods.vectors import Tiles, Vectors

logger = logging.getLogger(__name__)

_WIDTH = 1e-6
"""The width of the interval at which the bisection ends."""

_PREPARE_FROM = 50
"""The smallest share of vectors to keep, as ``1 / n``, for which :meth:`Greedy.prepare` pays off: a
trial compares each vector with at most the kept ones, and there are some 25 trials."""

_SAMPLE = 512
_RECORD_FROM = 150_000
"""The number of vectors from which all close pairs are found once, instead of at each trial."""

_MOST_DROPPED = 0.25
"""The share of vectors to drop up to which there are few enough pairs to keep."""


class _Recorded:
    """Selects like :class:`Greedy`, from all pairs within a distance.

    Args:
        greedy: selects where these pairs do not tell
        count: the number of vectors
        pairs: those within the distance
        reach: the distance
    """

    def __init__(self, greedy: Greedy, count: int, pairs: Pairs, reach: float) -> None:
        self._greedy, self._count, self._pairs, self._reach = greedy, count, pairs, reach

    def within(self, thresh: float) -> Pairs | None:
        """Returns all pairs within a distance, and maybe others; None if that is too far."""
        return self._pairs if thresh <= self._reach else None

    def keep(self, thresh: float, *, fewest: int, most: int | None) -> tuple[Array, int]:
        """Returns what :meth:`Greedy.keep` does."""
        if thresh <= self._reach:
            near = self._pairs[2] <= thresh
            later, earlier, apart = (part[near] for part in self._pairs)
            return first_of_pairs(self._count, (later, earlier, apart)), self._count
        if fewest:
            # Fewer than that are kept even within the reach
            return np.empty(0, np.int64), 0
        return self._greedy.keep(thresh, fewest=fewest, most=most)


def keep_count(
    vectors: Vectors, count: int, start: float | None = None, tiles: Tiles | None = None
) -> tuple[Array, float | None, Pairs | None]:
    """Returns about ``count`` vectors to keep, and the distance that keeps them.

    Bisects the distance like FiftyOne, with the same first guess, steps and end. A trial stops as
    soon as it has kept, or dropped, too many.

    Args:
        vectors: the vectors
        count: the number to keep
        start (None): the first guess of the distance
        tiles (None): makes the tiles that are compared

    Returns:
        an ascending int64 array of positions, the distance, or None if none or all are kept, and
        all pairs within at least this distance, if these were needed
    """
    if count <= 0 or count >= len(vectors):
        return np.arange(len(vectors) if count > 0 else 0), None, None
    greedy = Greedy(vectors, tiles)
    recorded = _record(greedy, vectors, count)
    if recorded is None and count * _PREPARE_FROM > len(vectors):
        greedy.prepare()
    keep = greedy.keep if recorded is None else recorded.keep

    low, high = vectors.nearest_possible, None
    thresh = start if start is not None and start > 0 else 1.0
    last: int | None = None
    while True:
        narrow = high is not None and high - low < _WIDTH
        # Too many or too few is enough for a step; only the last two numbers must be exact
        exact = high is not None and high - low < 2 * _WIDTH
        fewest, most = (0, None) if exact else (count, count)
        kept, decided = keep(thresh, fewest=fewest, most=most)
        number = len(kept)
        whole = decided == len(vectors)
        too_many = number > count
        said = f"{number}," if whole else "over" if too_many else "under"
        logger.debug("threshold: %f, kept: %s target: %d", thresh, said, count)
        if whole and (number == count or (narrow and number == last)):
            return kept, thresh, None if recorded is None else recorded.within(thresh)
        last = number if whole else None
        if too_many:
            low = thresh
            thresh = 2 * thresh if high is None else 0.5 * (thresh + high)
        else:
            high = thresh
            thresh = 0.5 * (low + thresh)


def _record(greedy: Greedy, vectors: Vectors, count: int) -> _Recorded | None:
    """Finds all pairs within a distance at which fewer than ``count`` are kept, if that is fast."""
    total = len(vectors)
    dropped = 1.0 - count / total
    if total < _RECORD_FROM or dropped > _MOST_DROPPED:
        return None
    _, apart = nearest_others(vectors, some(total, _SAMPLE), 1)
    # In a pair, both have a neighbor, and one is dropped
    for share in (2.0 * dropped + 0.01, 4.0 * dropped + 0.02):
        reach = float(np.quantile(apart, min(1.0, share)))
        pairs = pairs_within(vectors, reach)
        if pairs is None:
            return None
        if len(first_of_pairs(total, pairs)) < count:
            return _Recorded(greedy, total, pairs, reach)
    return None
