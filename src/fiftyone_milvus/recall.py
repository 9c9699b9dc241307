"""How many of the true neighbors an index finds, and how fast."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fiftyone_milvus.neighbors import Neighbors
from fiftyone_milvus.progress import ProgressBar
from fiftyone_milvus.scores import Array
from fiftyone_milvus.searching import Searcher

TOLERANCE = 1e-5
"""What float32 leaves uncertain of a distance, relative to the largest of a list."""

_BLOCK = 200
_SHOW_FROM = 200


@dataclass(frozen=True)
class Evaluation:
    """What a search with given parameters finds.

    Attributes:
        recall: the share of the true ``k`` nearest that were found, in [0, 1]
        k: how many were asked for
        queries: how many searches that is the mean of
        p50: the median seconds of a search for one query
        p95: the seconds that 95 % of these searches took at most
        vectors: the number of vectors in the index
        bytes: of these vectors; a graph and the IDs take more
        index_type: as ``"HNSW"``
        search_params: those that were set; Milvus' and this package's defaults otherwise
    """

    recall: float
    k: int
    queries: int
    p50: float
    p95: float
    vectors: int
    bytes: int
    index_type: str | None
    search_params: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"recall@{self.k} {self.recall:.4f} of {self.queries} queries, "
            f"{self.p50 * 1e3:.1f} ms (p95 {self.p95 * 1e3:.1f} ms) each, {self.index_type} of "
            f"{self.vectors} vectors"
        )


def measure(
    searcher: Searcher, queries: Array, keys: Sequence[str], truth: Sequence[Neighbors], k: int
) -> tuple[float, Array]:
    """Searches with each query alone, and compares with the truth.

    Args:
        searcher: searches with the parameters in question
        queries: a ``num_queries x num_dims`` float32 array
        keys: the row of each query, which does not count as its own neighbor
        truth: of each query, from :func:`exact`
        k: how many to look for

    Returns:
        the recall, and a float64 array of the seconds of each search
    """
    seconds = np.empty(len(queries))
    shares = np.empty(len(queries))
    for i, key in enumerate(keys):
        start = time.perf_counter()
        (found,) = searcher.nearest(queries[i : i + 1], k + 1)
        seconds[i] = time.perf_counter() - start
        shares[i] = _share(_others(found, key, k), truth[i])
    return float(shares.mean()), seconds


def exact(
    searcher: Searcher,
    queries: Array,
    keys: Sequence[str],
    k: int,
    *,
    title: str,
    progress: bool | None = None,
) -> list[Neighbors]:
    """Returns the true neighbors of rows among the others, from the vectors themselves.

    Args:
        searcher: of the collection
        queries: the ``num_queries x num_dims`` vectors of the rows
        keys: the primary keys of the rows
        k: how many neighbors of each
        title: what the progress bar says
        progress (None): whether to show one where it is worth it
    """
    truth: list[Neighbors] = []
    show = len(keys) > _SHOW_FROM
    with ProgressBar(len(keys), title, show=show, what="queries", progress=progress) as bar:
        for start in range(0, len(keys), _BLOCK):
            block = slice(start, start + _BLOCK)
            found = searcher.truth(queries[block], k + 1)
            truth += [_others(one, key, k) for one, key in zip(found, keys[block])]
            bar.update(len(found))
    return truth


def _others(found: Neighbors, key: str, k: int) -> Neighbors:
    """Leaves the query's own row out, or else the last."""
    keep = [i for i, one in enumerate(found.ids) if one != key][:k]
    return Neighbors(
        [found.ids[i] for i in keep], [found.sample_ids[i] for i in keep], found.distances[keep]
    )


def _share(found: Neighbors, true: Neighbors) -> float:
    """Returns the share of the true neighbors that were found; one as near as the last is one."""
    if not len(true.ids):
        return 1.0
    limit = true.distances[-1] + TOLERANCE * max(1.0, float(np.abs(true.distances).max()))
    known = set(true.ids)
    hits = sum(i in known or d <= limit for i, d in zip(found.ids, found.distances))
    return min(hits, len(true.ids)) / len(true.ids)
