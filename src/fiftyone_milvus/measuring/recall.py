"""How many of the true neighbors an index finds, and how fast."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np

from fiftyone_milvus import neighborhoods
from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods import Vectors
from fiftyone_milvus.search.planner import Searcher

TOLERANCE = 1e-5
"""The rounding error of a float32 distance, relative to :meth:`Vectors.magnitudes`."""

CONFIDENCE = 0.95
"""That of every lower bound that is reported."""

_SHOW_FROM = 200


@dataclass(frozen=True)
class Evaluation:
    """What an index finds with given search parameters, and how fast.

    Attributes:
        recall: the share of the true ``k`` nearest that were found, in [0, 1]
        bound: the recall that all possible queries reach at least, with a confidence of 95 %; 1.0
            where searches are exact
        k: the number of neighbors that each query asked for
        queries: the number of queries
        p50: the median seconds of a search for one query
        p95: the seconds that 95 % of these searches took at most
        vectors: the number of vectors in the index
        bytes: the size of these vectors; a graph and the IDs come on top
        index_bytes: the memory of the vector index with the vectors in it, estimated by
            :func:`fiftyone_milvus.measuring.memory.estimate`; None if that is unknown
        index_type: for example ``"HNSW"``
        search_params: those that were set; Milvus' and this package's defaults otherwise
    """

    recall: float
    bound: float
    k: int
    queries: int
    p50: float
    p95: float
    vectors: int
    bytes: int
    index_bytes: int | None
    index_type: str | None
    search_params: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"recall@{self.k} {self.recall:.4f}, {at_least(self.bound)}, of {self.queries} "
            f"queries, {self.p50 * 1e3:.1f} ms (p95 {self.p95 * 1e3:.1f} ms) each, "
            f"{self.index_type} of {self.vectors} vectors, {megabytes(self.index_bytes)}"
        )


def at_least(bound: float) -> str:
    """Returns a lower bound as text."""
    return f"at least {bound:.4f} with {CONFIDENCE:.0%} confidence".replace("%", " %")


def lower_bound(recalls: Array, confidence: float = CONFIDENCE) -> float:
    """Returns what the mean recall of all possible queries is at least.

    The ``k`` results of a query are found or missed together, so the recalls of the queries count,
    not the results: it is the one-sided confidence bound of Student's t for their mean
    (NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.5.2). Recalls near 1 are skewed: the rare
    query that finds nothing is often not among those that were drawn. So one is added: where none
    of ``n`` queries missed, up to ``3 / n`` of all may (Hanley and Lippman-Hand, JAMA 249, 1983).
    If each query finds all or nothing, such as with ``k=1``, the bound holds a percent less often.

    Args:
        recalls: a float64 array: the recall of each query that was drawn
        confidence (0.95): how often the bound holds
    """
    recalls = np.append(recalls, 0.0)
    error = float(recalls.std(ddof=1)) / math.sqrt(len(recalls))
    return max(0.0, float(recalls.mean()) - _student(confidence, len(recalls) - 1) * error)


def _student(confidence: float, freedom: int) -> float:
    """Returns a quantile of Student's t, by Abramowitz and Stegun's expansion 26.7.5."""
    z = NormalDist().inv_cdf(confidence)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2


def megabytes(size: int | None) -> str:
    """Returns a number of bytes as text."""
    return "size unknown" if size is None else f"{size / 1e6:,.1f} MB"


class Truth:
    """The true neighbors of some rows of an index among its other rows.

    Any number of searchers can be compared with it.

    Args:
        vectors: those of all rows; they must stay open
        ids: the primary keys of all rows
        rows: an ascending integer array of the rows to search for
        k: the number of neighbors of each, at most one fewer than there are rows
        progress (None): a progress setting of FiftyOne
    """

    def __init__(
        self, vectors: Vectors, ids: Sequence[str], rows: Array, k: int, *, progress: Any = None
    ) -> None:
        self.vectors = vectors
        self.rows = rows
        self.keys = [ids[i] for i in rows]
        self.k = k
        _, self.distances = neighborhoods.nearest_others(vectors, rows, k, progress=progress)
        """A ``len(rows) x k`` float64 array, ascending."""
        farthest = self.distances[:, -1]
        self._limits = farthest + TOLERANCE * vectors.magnitudes(rows, farthest)
        self._row_of = {key: row for row, key in enumerate(ids)}

    def count_right(self, at: int, found: Sequence[str]) -> int:
        """Returns how many keys of a result are among the ``k`` nearest, or as near as the last.

        Compares true distances, since a compressed index reports others.

        Args:
            at: the position in ``rows`` of the row that was searched for
            found: the primary keys of the result, without that row's
        """
        known = [self._row_of[key] for key in dict.fromkeys(found) if key in self._row_of]
        if not known:
            return 0
        own = np.full(len(known), self.rows[at])
        distances = self.vectors.distances(own, np.array(known))
        return min(int(np.count_nonzero(distances <= self._limits[at])), self.k)


def measure(
    searcher: Searcher, queries: Array, truth: Truth, *, progress: Any = None
) -> tuple[Array, Array]:
    """Searches with each query alone, and compares the results with the truth.

    Args:
        searcher: a searcher with the parameters in question
        queries: the ``num_queries x num_dims`` vectors of the truth's rows
        truth: the true neighbors
        progress (None): a progress setting of FiftyOne

    Returns:
        two float64 arrays of length ``num_queries``: the recall of each query, and the seconds of
        each search
    """
    seconds, recalls = np.empty((2, len(queries)))
    k, show = truth.k, len(queries) >= _SHOW_FROM
    # The first search may have to wait for a connection
    searcher.nearest(queries[:1], k + 1)
    with ProgressBar(
        len(queries), "Searching", show=show, what="queries", progress=progress
    ) as bar:
        for i, key in enumerate(truth.keys):
            start = time.perf_counter()
            (found,) = searcher.nearest(queries[i : i + 1], k + 1)
            seconds[i] = time.perf_counter() - start
            recalls[i] = truth.count_right(i, [one for one in found.ids if one != key][:k]) / k
            bar.update(1)
    return recalls, seconds
