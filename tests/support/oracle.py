"""What every search must answer, by brute force: numpy, float64, no index, no Milvus.

Distances are FiftyOne's: smaller is closer. ``euclidean`` is the L2 distance itself, ``cosine`` is
1 - cos, ``dotproduct`` is 1 - ip. Engines compute in float32, so rankings are compared by distance
and never by ID alone: two IDs whose distances differ by less than the tolerance may swap places.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

METRICS = ("cosine", "dotproduct", "euclidean")
TOLERANCE = 1e-5

Floats = NDArray[np.float64]

_POST: dict[str, Callable[..., Floats]] = {
    "post-mean": np.mean,
    "post-min": np.min,
    "post-max": np.max,
    "min": np.min,
    "max": np.max,
}


def distances(metric: str, queries: ArrayLike, vectors: ArrayLike) -> Floats:
    """Returns the ``(num_queries, num_vectors)`` float64 distances."""
    q = np.atleast_2d(np.asarray(queries, dtype=np.float64))
    v = np.atleast_2d(np.asarray(vectors, dtype=np.float64))
    if metric == "euclidean":
        return np.linalg.norm(q[:, np.newaxis, :] - v[np.newaxis, :, :], axis=2)
    products = q @ v.T
    if metric == "dotproduct":
        return 1.0 - products
    if metric == "cosine":
        lengths = np.outer(np.linalg.norm(q, axis=1), np.linalg.norm(v, axis=1))
        return 1.0 - products / lengths
    raise AssertionError(f"the oracle knows no metric '{metric}'")


def aggregated(metric: str, queries: ArrayLike, vectors: ArrayLike, how: str) -> Floats:
    """Returns the ``(num_vectors,)`` distances to several queries taken together.

    ``"mean"`` averages the query vectors before the search; the others take the mean, smallest or
    greatest of each vector's distances to the queries.
    """
    if how == "mean":
        centre = np.atleast_2d(np.asarray(queries, dtype=np.float64)).mean(axis=0)
        return distances(metric, centre, vectors)[0]
    return _POST[how](distances(metric, queries, vectors), axis=0)


def tolerance(true: ArrayLike, at_least: float = TOLERANCE) -> float:
    """Returns the distance below which float32 cannot tell two of these distances apart."""
    return at_least * max(1.0, float(np.max(np.abs(np.asarray(true)), initial=0.0)))


def check_ranking(
    ids: Sequence[Hashable],
    true: Mapping[Hashable, float],
    k: int | None,
    *,
    reverse: bool = False,
    reported: Sequence[float] | None = None,
    atol: float | None = None,
) -> None:
    """Fails unless ``ids`` are an exact answer.

    Args:
        ids: the answer, best first
        true: the distance of every ID that may be answered
        k: how many were asked for, or ``None`` for all
        reverse: whether the farthest were asked for
        reported: the distances that came with the answer, if any
        atol: the tolerance, by default that of float32 for these distances
    """
    values = np.fromiter(true.values(), np.float64, len(true))
    expected = (-np.sort(-values) if reverse else np.sort(values))[:k]
    atol = tolerance(values) if atol is None else atol

    assert len(ids) == len(expected), f"{len(ids)} results, expected {len(expected)}"
    assert len(set(ids)) == len(ids), "an ID came back twice"
    strangers = [_id for _id in ids if _id not in true]
    assert not strangers, f"{len(strangers)} results may not be answered, eg {strangers[0]}"
    got = [true[_id] for _id in ids]
    np.testing.assert_allclose(got, expected, rtol=0, atol=atol)
    if reported is not None:
        assert len(reported) == len(ids)
        np.testing.assert_allclose(np.asarray(reported, dtype=float), got, rtol=0, atol=atol)


def recall(
    ids: Collection[Hashable], true: Mapping[Hashable, float], k: int, *, reverse: bool = False
) -> float:
    """Returns the share of the ``min(k, len(true))`` best that came back; ties count as right."""
    values = np.fromiter(true.values(), np.float64, len(true))
    expected = (-np.sort(-values) if reverse else np.sort(values))[:k]
    if not len(expected):
        return 1.0
    atol, last = tolerance(expected), expected[-1]
    if reverse:
        right = sum(_id in true and true[_id] >= last - atol for _id in set(ids))
    else:
        right = sum(_id in true and true[_id] <= last + atol for _id in set(ids))
    return min(right, len(expected)) / len(expected)


def neighbors(metric: str, vectors: ArrayLike) -> Floats:
    """Returns the ``(n, n)`` distances of vectors among themselves, NaN where i == j."""
    square = distances(metric, vectors, vectors)
    np.fill_diagonal(square, np.nan)
    return square


def within(metric: str, vectors: ArrayLike, thresh: float) -> list[set[int]]:
    """Returns, for every vector, the positions of the *other* vectors within ``thresh``."""
    with np.errstate(invalid="ignore"):
        return [set(np.nonzero(row <= thresh)[0].tolist()) for row in neighbors(metric, vectors)]


def kept(neighborhoods: Sequence[set[int]]) -> set[int]:
    """Returns the positions that FiftyOne's greedy sweep keeps as non-duplicates."""
    keep = set(range(len(neighborhoods)))
    for i, near in enumerate(neighborhoods):
        if i in keep:
            keep -= {j for j in near if j > i}
    return keep


def clear_thresh(metric: str, vectors: ArrayLike, quantile: float) -> float:
    """Returns a threshold in the widest gap near a quantile, where float32 decides nothing."""
    square = neighbors(metric, vectors)
    flat = np.sort(square[~np.isnan(square)])
    at = int(quantile * (flat.size - 1))
    low, high = max(0, at - 50), min(flat.size - 1, at + 50)
    gaps = np.diff(flat[low : high + 1])
    best = low + int(np.argmax(gaps))
    return float((flat[best] + flat[best + 1]) / 2)


def partition(square: np.ndarray, thresh: float) -> set[frozenset[int]]:
    """Returns the groups of two or more that complete linkage finds, by scipy."""
    # Inner products may be above 1, and scipy takes no negative distances
    low = np.nanmin(square)
    square, thresh = square - low, thresh - low
    np.fill_diagonal(square, 0.0)
    numbers = fcluster(linkage(squareform(square, checks=False), "complete"), thresh, "distance")
    found = (frozenset(np.flatnonzero(numbers == n).tolist()) for n in np.unique(numbers))
    return {group for group in found if len(group) > 1}
