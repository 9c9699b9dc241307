"""Exact search in the lists that may have one of the ``k`` best rows, see :mod:`..storage.lists`.

The lists with the best centers are compared first. The worst of the ``k`` best rows there says
which other lists are needed. Where these are few, which depends on the data, comparing their rows
is faster than codes; and many queries share the lists that are read.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fiftyone_milvus.embedded.executor.parts import Mask
from fiftyone_milvus.embedded.executor.scan import Hits, ordered
from fiftyone_milvus.embedded.executor.vectors import FEW_QUERIES, THREADS, Floats, Rows, threads

if TYPE_CHECKING:
    from fiftyone_milvus.embedded.executor.candidates import Coded

#: Rows that are compared first, at least.
_FIRST = 512
#: Comparing so many bytes of vectors takes as long as codes.
FEW_BYTES = 96 << 20
#: All rows are compared, if these are so few bytes, where this share seems to be needed.
_MANY = 0.25
#: For so many queries at once, matrix products of the lists' rows are faster than codes up to a
#: larger share of the rows.
_BATCH, _SHARE_OF_BATCH = 8, 0.15
_CHUNK = 1024
#: For so many at once, the order of all lists takes little memory.
_FEW = 64


def search(
    parts: Sequence[Coded], field: str, queries: Floats, k: int, metric: str
) -> tuple[Hits, Rows]:
    """Finds the best rows of the queries that few lists are needed for.

    Args:
        parts: at least one part
        field: the vector field
        queries: a ``num_queries x num_dims`` float32 array; of length one under ``COSINE``
        k: the number of hits of each query, at most the number of allowed rows
        metric: ``COSINE``, ``IP`` or ``L2``

    Returns:
        :class:`.Hits` of ``k`` columns, with exact scores; and which queries these are not of,
        int64
    """
    hits = Hits(np.full((len(queries), k), -1), np.zeros((len(queries), k), np.float32))
    left = []
    # As few tasks as there are threads, which take turns with Python's lock
    shares = [parts[i::THREADS] for i in range(THREADS) if parts[i::THREADS]]
    several = threads.map(lambda some: [_Table(part, field, metric) for part in some], shares)
    tables = list(itertools.chain.from_iterable(several))
    for start in range(0, len(queries), _CHUNK):
        some = slice(start, start + _CHUNK)
        left.append(start + _search(tables, queries[some], k, hits.rows[some], hits.scores[some]))
    return hits, np.concatenate(left)


class _Table:
    """The lists of a part, without the rows that may not be found."""

    def __init__(self, part: Coded, field: str, metric: str) -> None:
        self.part, self.metric, self.lists = part, metric, part.codes.lists
        self._field = field
        self.sizes = self.lists.sizes if part.allowed is None else self.lists.counts(part.allowed)

    def scores(self, number: int, queries: Floats) -> tuple[Rows, Floats]:
        """Compares the rows of a list; returns their row numbers and the scores of each query."""
        some = self.lists.rows[self.lists.starts[number] : self.lists.ends[number]]
        if self.part.allowed is not None:
            some = some[self.part.allowed[some]]
        rows = some.astype(np.int64)
        vectors = self.part.part.vectors(self._field)
        if len(queries) <= FEW_QUERIES:
            scores = np.stack([vectors.scores_of(rows, one, self.metric) for one in queries])
        else:
            data = vectors.take(rows)
            if self.metric == "L2":
                # Near the rows, else the squares would lose the digits that matter
                center = self.lists.centers[number]
                data, queries = data - center, queries - center
            scores = queries @ data.T
            if self.metric == "L2":
                scores *= 2
                scores -= np.einsum("ij,ij->i", data, data)
                scores -= np.einsum("ij,ij->i", queries, queries)[:, None]
        if self.part.codes.inverse is not None:
            scores *= self.part.codes.inverse[rows]
        return rows + self.part.start, scores


def _search(tables: list[_Table], queries: Floats, k: int, rows: Rows, scores: Floats) -> Rows:
    """Writes hits; returns the queries that need more lists than is worthwhile."""
    found = [table.lists.bounds(queries, table.metric) for table in tables]
    centers = np.concatenate([scores for scores, _ in found], axis=1)
    bounds = np.concatenate([bound for _, bound in found], axis=1)
    sizes = np.concatenate([table.sizes for table in tables])
    first = np.zeros(centers.shape, dtype=bool)
    for start in range(0, len(queries), _FEW):
        some = slice(start, start + _FEW)
        first[some] = _best_lists(centers[some], sizes, max(_FIRST, 2 * k))

    best = _Best(len(queries), k)
    _compare(tables, queries, first, best)
    needed = (bounds >= best.least[:, None]) & ~first & (sizes > 0)
    # How far a list reaches was measured near its rows. For a query that is far from all, as in a
    # view without its cluster, that is too little; then many lists seem to be needed
    allowed = int(sizes.sum())
    size = 4 * allowed * queries.shape[1]
    if size <= FEW_BYTES:
        far = (needed | first) @ sizes > _MANY * allowed
        needed |= (sizes > 0) & ~first & far[:, None]
    costs = (needed | first) @ sizes
    total = sum(table.part.part.rows for table in tables)
    few = 4 * costs * queries.shape[1] <= FEW_BYTES
    if len(queries) >= _BATCH:
        few |= costs <= _SHARE_OF_BATCH * total
    chosen = np.flatnonzero(few)
    needed[~few] = False
    _compare(tables, queries, needed, best)
    for query in chosen.tolist():
        rows[query], scores[query] = best.of(query, tables[0].metric)
    return np.flatnonzero(~few)


def _best_lists(centers: Floats, sizes: Rows, rows: int) -> Mask:
    """The lists with the best centers that together have so many rows."""
    order = np.argsort(-np.where(sizes > 0, centers, -np.inf), axis=1)
    before = np.cumsum(sizes[order], axis=1) - sizes[order]
    found = np.zeros(centers.shape, dtype=bool)
    np.put_along_axis(found, order, before < rows, axis=1)
    return found & (sizes > 0)


class _Best:
    """The best rows of each query so far."""

    def __init__(self, queries: int, k: int) -> None:
        self._k = k
        self._rows: list[list[Rows]] = [[] for _ in range(queries)]
        self._scores: list[list[Floats]] = [[] for _ in range(queries)]
        self.least = np.full(queries, -np.inf, np.float32)

    def add(self, query: int, rows: Rows, scores: Floats) -> None:
        """Takes rows that are as good as the least of the best."""
        self._rows[query].append(rows)
        self._scores[query].append(scores)

    def settle(self) -> None:
        """Keeps the ``k`` best of each query."""
        for query, several in enumerate(self._scores):
            if not several:
                continue
            scores, rows = np.concatenate(several), np.concatenate(self._rows[query])
            if len(scores) > self._k:
                kept = np.argpartition(-scores, self._k - 1)[: self._k]
                scores, rows = scores[kept], rows[kept]
            if len(scores) == self._k:
                self.least[query] = scores.min()
            self._scores[query], self._rows[query] = [scores], [rows]

    def of(self, query: int, metric: str) -> tuple[Rows, Floats]:
        """The best rows of a query, with Milvus' scores."""
        (rows,), (scores,) = self._rows[query], self._scores[query]
        if metric == "COSINE":
            scores = np.minimum(scores, 1.0)
        elif metric == "L2":
            scores = np.maximum(-scores, 0.0)
        hits = ordered(rows[None], scores[None], self._k, metric)
        return hits.rows[0], hits.scores[0]


def _compare(tables: list[_Table], queries: Floats, needed: Mask, best: _Best) -> None:
    """Compares queries with the rows of the lists that are needed."""
    starts = np.cumsum([0, *(len(table.sizes) for table in tables)])
    tasks = [
        (table, number, start + number)
        for table, start in zip(tables, starts.tolist(), strict=False)
        for number in np.flatnonzero(needed[:, start : start + len(table.sizes)].any(axis=0))
    ]

    # Those of a list side by side, as they are read list by list
    by_list = np.ascontiguousarray(needed.T)

    def compare(some: list[tuple[_Table, int, int]]) -> list[tuple[Rows, Rows, Floats]]:
        found = []
        for table, number, column in some:
            asking = np.flatnonzero(by_list[column])
            rows, scores = table.scores(number, queries[asking])
            which, where = np.nonzero(scores >= best.least[asking][:, None])
            found.append((asking[which], rows[where], scores[which, where]))
        return found

    shares = [tasks[i::THREADS] for i in range(THREADS) if tasks[i::THREADS]]
    several = [one for found in threads.map(compare, shares) for one in found]
    if not several:
        return
    asked, rows, scores = (np.concatenate(column) for column in zip(*several, strict=True))
    order = np.argsort(asked, kind="stable")
    asked, rows, scores = asked[order], rows[order], scores[order]
    ends = np.searchsorted(asked, np.arange(len(queries) + 1))
    for query, start, end in zip(range(len(queries)), ends[:-1], ends[1:], strict=True):
        if end > start:
            best.add(query, rows[start:end], scores[start:end])
    best.settle()
