"""Orders results so that they also differ from each other: by maximal marginal relevance.

J. Carbonell and J. Goldstein: The use of MMR, diversity-based reranking for reordering documents
and producing summaries. SIGIR 1998. The next result is the candidate with the largest

    (1 - diverse) * relevance - diverse * max(similarity to each result before)

where ``1 - diverse`` is their lambda. Relevance and similarity are linear in the distance to the
query, and in that between two candidates. Each is scaled to [0, 1] over the candidates: so
``diverse`` means the same for every metric and model, also for a text whose distances to all images
are nearly equal.
"""

from __future__ import annotations

import numpy as np

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.metrics import Array, Points

MOST = 1_000
"""The most results that can be diverse."""

_FACTOR = 5
_FEWEST = 100
MOST_CANDIDATES = _FACTOR * MOST
_ROWS = 512


def candidates(k: int | None) -> int:
    """Returns from how many candidates ``k`` diverse results are chosen.

    Args:
        k: how many results; None for all within a distance

    Raises:
        InvalidInputError: if that are more than :data:`MOST`
    """
    if k is None:
        return MOST_CANDIDATES + 1
    if k > MOST:
        raise InvalidInputError(
            f"Invalid k {k} with diverse; expected at most {MOST}, as each result is compared with "
            "all before it"
        )
    return max(_FEWEST, _FACTOR * k)


def order(
    vectors: Array, distances: Array, metric: str, k: int | None, diverse: float, *, reverse: bool
) -> Array:
    """Chooses results among candidates.

    Args:
        vectors: a ``num_candidates x num_dims`` float32 array
        distances: their ``num_candidates`` distances to the query
        metric: a key of :data:`fiftyone_milvus.metrics.METRICS`
        k: how many to choose; None for all
        diverse: from 0, for the nearest, to 1, for those that differ most
        reverse: whether the farthest are the most relevant

    Returns:
        the positions of ``min(k, num_candidates)`` results, the first chosen first

    Raises:
        InvalidInputError: if there are too many candidates
    """
    count = len(distances)
    if count > MOST_CANDIDATES:
        raise InvalidInputError(
            f"More than {MOST_CANDIDATES:,} results are within the distance, too many for diverse; "
            "give k, or a smaller max_distance"
        )
    k = count if k is None else min(k, count)
    if not k:
        return np.empty(0, dtype=np.intp)
    points = Points(vectors, metric)
    near, far = _range(points)
    scale = (far - near) or 1.0
    spread = float(np.ptp(distances)) or 1.0
    relevance = (distances.max() - distances) / spread
    if reverse:
        relevance = (distances - distances.min()) / spread
    found = [int(relevance.argmax())]
    similarity = np.full(count, -np.inf)
    left = np.ones(count, dtype=bool)
    while len(found) < k:
        last = found[-1]
        left[last] = False
        among = points.distances(points.take(slice(last, last + 1)))[:, 0]
        similarity = np.maximum(similarity, (far - among) / scale)
        value = (1 - diverse) * relevance - diverse * similarity
        found.append(int(np.where(left, value, -np.inf).argmax()))
    return np.array(found, dtype=np.intp)


def _range(points: Points) -> tuple[float, float]:
    """Returns the smallest and the largest distance between two candidates."""
    near, far = np.inf, -np.inf
    for start in range(0, len(points), _ROWS):
        block = points.take(slice(start, start + _ROWS)).distances(points)
        far = max(far, float(block.max()))
        rows = np.arange(len(block))
        block[rows, start + rows] = np.inf
        near = min(near, float(block.min()))
    return (near, far) if np.isfinite(near) else (0.0, 1.0)
