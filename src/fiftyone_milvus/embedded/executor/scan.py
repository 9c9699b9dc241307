"""Exact search by matrix products over the rows of a view.

Scores are Milvus': cosine similarity and inner product, higher is closer; squared Euclidean
distance, lower is closer. Within this module, the score of ``L2`` is ``x.y - |x|^2 / 2`` until the
end, so that higher is always closer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fiftyone_milvus.embedded.executor.parts import LivePart, Mask, inverse_norms, squares
from fiftyone_milvus.embedded.executor.vectors import (
    FEW_QUERIES,
    THREADS,
    Floats,
    Rows,
    Vectors,
    in_shares,
    threads,
)

#: Scores that all threads hold at once, 4 bytes each.
_BLOCK_SCORES = 4_000_000
_QUERY_CHUNK = 1024
#: Rows gathered at once, in floats.
_GATHER_FLOATS = 4_000_000
#: Rows copied at once because they are not aligned, in floats: a processor's cache holds them.
_COPY_FLOATS = 1_500_000
#: Up to this share of allowed rows, comparing these is faster than comparing all.
_SOME = 0.7


@dataclass(frozen=True)
class Hits:
    """The best rows of each query, the best first.

    Attributes:
        rows: a ``num_queries x k`` int64 array of row numbers; -1 where there are fewer
        scores: a float32 array of the same shape: Milvus' scores
    """

    rows: Rows
    scores: Floats

    @property
    def counts(self) -> Rows:
        """The number of hits of each query: an int64 array of length ``num_queries``."""
        return np.count_nonzero(self.rows >= 0, axis=1).astype(np.int64)


def empty(queries: int) -> Hits:
    """Returns no hits.

    Args:
        queries: the number of queries

    Returns:
        :class:`Hits` of ``queries x 0`` arrays
    """
    return Hits(np.zeros((queries, 0), np.int64), np.zeros((queries, 0), np.float32))


def normalize(queries: Floats) -> Floats:
    """Returns the queries scaled to length one.

    Args:
        queries: a ``num_queries x num_dims`` float32 array

    Returns:
        a float32 array of the same shape; zero vectors do not change
    """
    norms = np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
    norms[norms == 0] = 1.0
    return (queries / norms).astype(np.float32)


def search(
    part: LivePart, allowed: Mask | None, field: str, queries: Floats, k: int, metric: str
) -> Hits:
    """Finds the best rows of one part, exactly.

    Args:
        part: the part
        allowed: a boolean array of length ``part.rows``: which rows may be found, without the dead
            ones; None for all rows
        field: the vector field
        queries: a ``num_queries x num_dims`` float32 array; of length one under ``COSINE``
        k: the number of hits of each query
        metric: ``COSINE``, ``IP`` or ``L2``

    Returns:
        :class:`Hits` of ``min(k, allowed rows)`` columns; row numbers count from the start of the
        part
    """
    count = part.rows if allowed is None else int(np.count_nonzero(allowed))
    k = min(k, count)
    if k == 0:
        return empty(len(queries))
    if len(queries) <= FEW_QUERIES:
        return _search_few(part, allowed, count, field, queries, k, metric)
    chunks = [
        _search_chunk(part, allowed, count, field, queries[i : i + _QUERY_CHUNK], k, metric)
        for i in range(0, len(queries), _QUERY_CHUNK)
    ]
    if len(chunks) == 1:
        return chunks[0]
    return Hits(
        np.concatenate([c.rows for c in chunks]), np.concatenate([c.scores for c in chunks])
    )


def merge(parts: list[Hits], k: int, metric: str) -> Hits:
    """Returns the best hits of several parts.

    Args:
        parts: at least one :class:`Hits`, all for the same queries, without common rows
        k: the number of hits of each query
        metric: ``COSINE``, ``IP`` or ``L2``

    Returns:
        :class:`Hits` of at most ``k`` columns, the best first. Of equal scores, the lower row
        number comes first; where they tie for the last place, any of them may be left out
    """
    rows = np.concatenate([h.rows for h in parts], axis=1)
    scores = np.concatenate([h.scores for h in parts], axis=1)
    return ordered(rows, scores, k, metric)


def ordered(rows: Rows, scores: Floats, k: int, metric: str) -> Hits:
    """Returns the best of some hits.

    Args:
        rows: a ``num_queries x n`` int64 array; -1 for none
        scores: Milvus' scores, a float32 array of the same shape
        k: the number of hits of each query
        metric: ``COSINE``, ``IP`` or ``L2``

    Returns:
        :class:`Hits` of at most ``k`` columns, the best first; of equal scores, the lower row
    """
    key = scores if metric == "L2" else -scores
    key = np.where(rows < 0, np.float32(np.inf), key)
    if rows.shape[1] > 4 * k:
        best = np.argpartition(key, k - 1, axis=1)[:, :k]
        rows = np.take_along_axis(rows, best, 1)
        scores = np.take_along_axis(scores, best, 1)
        key = np.take_along_axis(key, best, 1)
    order = np.lexsort((rows, key), axis=-1)[:, :k]
    return Hits(np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1))


def _search_few(
    part: LivePart,
    allowed: Mask | None,
    count: int,
    field: str,
    queries: Floats,
    k: int,
    metric: str,
) -> Hits:
    vectors = part.vectors(field)
    if allowed is not None and count <= _SOME * part.rows:
        rows = np.flatnonzero(allowed).astype(np.int64)
        scores = np.empty((len(queries), count), np.float32)

        def compare(start: int, stop: int) -> None:
            for query, line in zip(queries, scores, strict=True):
                line[start:stop] = vectors.scores_of(rows[start:stop], query, metric)

        in_shares(compare, count, vectors.shape[1])
        inverse = part.norms(field).inverse_of(rows) if metric == "COSINE" else None
    else:
        rows = np.arange(part.rows, dtype=np.int64)
        scores = vectors.scores(queries, metric)
        inverse = part.norms(field).inverse if metric == "COSINE" else None
        if allowed is not None:
            scores[:, ~allowed] = -np.inf
    if inverse is not None:
        scores *= inverse
    scores, rows = _top(scores, rows, k)
    if metric == "COSINE":
        np.minimum(scores, 1.0, out=scores)
    return ordered(rows, -scores if metric == "L2" else scores, k, metric)


def _search_chunk(
    part: LivePart,
    allowed: Mask | None,
    count: int,
    field: str,
    queries: Floats,
    k: int,
    metric: str,
) -> Hits:
    vectors = part.vectors(field)
    inverse = half_square = center = None
    shifted = queries
    blocks = _blocks(part, vectors, allowed, count, len(queries))
    if metric == "COSINE" and isinstance(blocks[0], slice):
        inverse = part.norms(field).inverse
    elif metric == "L2":
        if isinstance(blocks[0], slice):
            center, half_square = part.norms(field).centered
        else:
            center = vectors.take(blocks[0]).mean(axis=0)
        shifted = queries if center is None else queries - center

    # L2 scores have rounding errors here, so more than k rows are re-ranked.
    keep = min(count, 2 * k + 32) if metric == "L2" else k

    def compare(blocks: list[slice | Rows]) -> tuple[Floats, Rows]:
        best = np.full((len(queries), 0), -np.inf, dtype=np.float32)
        rows = np.zeros((len(queries), 0), dtype=np.int64)
        for some in blocks:
            if isinstance(some, slice):
                found, data = np.arange(some.start, some.stop), vectors.block(some)
            else:
                found, data = some, vectors.take(some)
            if center is not None:
                data = data - center
            scores = shifted @ data.T
            if inverse is not None:
                scores *= inverse[some]
            elif metric == "COSINE":
                scores *= inverse_norms(squares(data))
            elif half_square is not None:
                scores -= half_square[some]
            elif metric == "L2":
                scores -= squares(data) / 2
            if allowed is not None and isinstance(some, slice):
                scores[:, ~allowed[some]] = -np.inf
            scores, found = _top(scores, found, keep)
            best, rows = _top(
                np.concatenate([best, scores], axis=1), np.concatenate([rows, found], axis=1), keep
            )
        return best, rows

    shares = [blocks[i::THREADS] for i in range(min(THREADS, len(blocks)))]
    several = list(threads.map(compare, shares))
    best, rows = _top(
        np.concatenate([best for best, _ in several], axis=1),
        np.concatenate([rows for _, rows in several], axis=1),
        keep,
    )
    rows = np.where(np.isneginf(best), -1, rows)
    if metric == "L2":
        return ordered(rows, _l2(vectors, rows, queries), k, metric)
    if metric == "COSINE":
        np.minimum(best, 1.0, out=best)
    return ordered(rows, best, k, metric)


def _blocks(
    part: LivePart, vectors: Vectors, allowed: Mask | None, count: int, queries: int
) -> list[slice | Rows]:
    size = max(256, _BLOCK_SCORES // (THREADS * max(queries, 1)))
    if not vectors.is_aligned:
        size = max(256, min(size, _COPY_FLOATS // max(vectors.shape[1], 1)))
    # A copy of a row costs about as much as five scores of it alone, or a hundred in bulk.
    gather = 5.0
    score = max(1.0, queries / 12.0)
    if allowed is not None and count * (gather + score) < part.rows * score:
        chosen = np.flatnonzero(allowed).astype(np.int64)
        size = max(256, min(size, _GATHER_FLOATS // max(vectors.shape[1], 1)))
        return [chosen[i : i + size] for i in range(0, count, size)]
    return [slice(i, min(i + size, part.rows)) for i in range(0, part.rows, size)]


def _top(scores: Floats, rows: Rows, keep: int) -> tuple[Floats, Rows]:
    """The highest scores of each query, in no order, and their rows."""
    rows = np.broadcast_to(rows, scores.shape)
    if scores.shape[1] <= keep:
        return scores, rows
    index = np.argpartition(scores, scores.shape[1] - keep, axis=1)[:, -keep:]
    return np.take_along_axis(scores, index, 1), np.take_along_axis(rows, index, 1)


def _l2(vectors: Vectors, rows: Rows, queries: Floats) -> Floats:
    distances = np.empty(rows.shape, dtype=np.float32)
    for query, found, line in zip(queries, rows, distances, strict=True):
        line[:] = -vectors.scores_of(np.maximum(found, 0), query, "L2")
    return distances
