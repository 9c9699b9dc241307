"""Search by codes: the rows that seem nearest are compared exactly, until the rest can't matter.

A code's estimate of a score is off by some error. The rows that were compared exactly show how
large the errors of this query are. The search ends when the best row that was not compared would
need an error of :data:`CERTAINTY` standard deviations to be among the ``k`` best. Where estimates
tell too little for that, all rows are scanned. So how many rows are compared depends on the data,
the filter and ``k``, and needs no tuning.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fiftyone_milvus.embedded.executor import near_lists, scan
from fiftyone_milvus.embedded.executor.parts import LivePart, Mask
from fiftyone_milvus.embedded.executor.scan import Hits
from fiftyone_milvus.embedded.executor.vectors import FEW_QUERIES, THREADS, Floats, Rows, threads
from fiftyone_milvus.embedded.storage.codes import Codes

CERTAINTY = 4.0
"""A normal error exceeds this many standard deviations for one row in 30,000."""

#: Estimates that are asked for: of each query over all parts, and at least of each part.
_POOL, _LEAST = 4_096, 256
#: Of so many rows, every eighth part says first how good the best estimates of all are about.
_MANY_ROWS, _SAMPLED = 500_000, 8
#: Errors may be larger than these parts say.
_MARGIN = 1.15
#: Rows that are compared first; then twice as many, and so on.
_FIRST = 512
#: So few are not divided among threads.
_SHARE = 256
#: Below this share of allowed rows, comparing these exactly is faster than reading all codes.
_NARROW = 0.02
#: So many bytes of vectors are scanned in the time that the choice of candidates takes anyway:
#: where all rows are allowed, and where some are, which are not side by side.
_SCANNED_BYTES, _ALLOWED_BYTES = 48 << 20, 16 << 20
#: From so many queries on, a matrix product of all rows is faster, up to so many rows.
_BATCH, _BATCH_ROWS = 8, 150_000

_QUERY_CHUNK, _SCAN_CHUNK = 64, 1024

Way = Callable[[Sequence["Coded"], str, Floats, int, str], Hits]


@dataclass(frozen=True)
class Coded:
    """A part that is searched by its codes.

    Attributes:
        part: the part
        start: the row number of its first row
        allowed: which of its rows may be found, without the dead ones; None for all
        codes: its codes
    """

    part: LivePart
    start: int
    allowed: Mask | None
    codes: Codes

    @functools.cached_property
    def count(self) -> int:
        """The number of rows that may be found."""
        return self.part.rows if self.allowed is None else int(np.count_nonzero(self.allowed))


def worthwhile(parts: Sequence[Coded], k: int, queries: Floats) -> list[Coded]:
    """Returns the parts for which codes are faster than a scan of the allowed rows.

    Args:
        parts: parts that have codes
        k: the number of hits of each query
        queries: a ``num_queries x num_dims`` float32 array
    """
    chosen = [p for p in parts if p.count > max(_NARROW * p.part.rows, 8 * k, 2 * _FIRST)]
    rows = sum(part.count for part in chosen)
    total = sum(part.part.rows for part in chosen)
    size = 4 * queries.shape[1]
    is_small = size * total < _SCANNED_BYTES or size * rows <= _ALLOWED_BYTES
    return [] if is_small or (len(queries) >= _BATCH and rows < _BATCH_ROWS) else chosen


def search(parts: Sequence[Coded], field: str, queries: Floats, k: int, metric: str) -> Hits:
    """Finds the best rows of parts that have codes.

    Args:
        parts: at least one part
        field: the vector field
        queries: a ``num_queries x num_dims`` float32 array; of length one under ``COSINE``
        k: the number of hits of each query
        metric: ``COSINE``, ``IP`` or ``L2``

    Returns:
        :class:`.Hits` of at most ``k`` columns, with exact scores
    """
    k = min(k, sum(part.count for part in parts))
    hits, left = near_lists.search(parts, field, queries, k, metric)
    if metric == "L2" and len(queries) > FEW_QUERIES:
        # Products lose digits of small distances
        done = np.setdiff1d(np.arange(len(queries)), left)
        rows = hits.rows[done]
        exact = scan.ordered(rows, -_scores(parts, field, queries[done], rows, metric), k, metric)
        hits.rows[done], hits.scores[done] = exact.rows, exact.scores
    ways: list[Way] = [_search_chunk, _scanned]
    seconds: list[float] = []
    while len(left):
        # Of many queries, some are asked in each way, and the rest in the faster one
        several = len(left) > _QUERY_CHUNK and len(seconds) < len(ways)
        way = ways[len(seconds) if several else int(np.argmin(seconds or [0]))]
        size = _SCAN_CHUNK if way is _scanned and not several else _QUERY_CHUNK
        some, left = left[:size], left[size:]
        start = time.perf_counter()
        found = way(parts, field, queries[some], k, metric)
        if several:
            seconds.append(time.perf_counter() - start)
        hits.rows[some], hits.scores[some] = found.rows, found.scores
    return hits


def _search_chunk(parts: Sequence[Coded], field: str, queries: Floats, k: int, metric: str) -> Hits:
    hits = Hits(np.full((len(queries), k), -1), np.zeros((len(queries), k), dtype=np.float32))
    left = np.arange(len(queries))
    pool = max(_POOL, 8 * k)
    sizes = [pool, 8 * pool]
    is_long = len(parts) > 1 and sum(part.part.rows for part in parts) > _MANY_ROWS
    if is_long and len(queries) <= FEW_QUERIES:
        # To read many codes twice takes longest
        left = left[~_search_within(parts, field, queries, k, metric, hits)]
        sizes = [16 * pool]
    for size in sizes if len(left) else ():
        found = _Found.of(parts, queries[left], max(_LEAST, 2 * k, 2 * size // len(parts)), size)
        sure, _ = _compared(found, parts, field, queries[left], k, metric, hits, left)
        left = left[~sure]
        if not len(left):
            break
    if len(left):
        exact = _scanned(parts, field, queries[left], k, metric)
        hits.rows[left], hits.scores[left] = exact.rows, exact.scores
    return hits


def _search_within(
    parts: Sequence[Coded], field: str, queries: Floats, k: int, metric: str, hits: Hits
) -> Mask:
    """Compares all rows whose estimates are above a limit, which some of the parts tell.

    So all codes are read once, also where many estimates are as good as the best. A limit that is
    too high is found out by :func:`_compared`.

    Returns:
        for which queries the hits suffice, a boolean array
    """
    some = parts[::_SAMPLED]
    share = sum(part.count for part in some) / sum(part.count for part in parts)
    rank = int(1.5 * k * share) + 2
    sure = np.zeros(len(queries), dtype=bool)
    if sum(part.count for part in some) < 2 * max(_FIRST, 4 * rank):
        return sure
    for number, query in enumerate(queries):
        one = query[None]
        size = max(_FIRST // _SAMPLED, 4 * rank) + sum(len(part.codes.outliers) for part in some)
        first = _Found.of(some, one, max(_LEAST, size), size)
        scores = _scores(some, field, one, first.rows, metric)
        known = np.isfinite(first.estimates)
        errors = np.subtract(scores, first.estimates, where=known, out=np.zeros(scores.shape))
        kth = -np.partition(-scores, rank - 1, axis=1)[:, rank - 1]
        least = np.array([-np.inf], np.float32)
        for _ in range(2):
            # The errors of near rows may be larger, and these may be all above the limit
            above = known & (first.estimates > least)
            error = np.square(errors[above]).mean() if above.any() else np.inf
            least = kth - np.float32(_MARGIN * CERTAINTY * np.sqrt(error))
        # Again where these parts are not like the others
        for _ in range(2):
            if not np.isfinite(least[0]):
                break
            found = _Found.above(parts, one, least[0], 16 * max(_POOL, 8 * k))
            if found.rows.shape[1] < k:
                break
            place = np.array([number])
            sure[place], least = _compared(found, parts, field, one, k, metric, hits, place)
            if sure[number]:
                break
    return sure


def _scanned(parts: Sequence[Coded], field: str, queries: Floats, k: int, metric: str) -> Hits:
    every = []
    for part in parts:
        some = scan.search(part.part, part.allowed, field, queries, k, metric)
        every.append(Hits(np.where(some.rows < 0, -1, some.rows + part.start), some.scores))
    return scan.merge(every, k, metric)


@dataclass(frozen=True)
class _Found:
    """What the codes of all parts say.

    Attributes:
        rows: row numbers, ``num_queries x n``, those that seem nearest first; -1 for none
        estimates: their estimated scores; infinite for rows that must be compared
        unseen: the best estimate that any other row of each query may have
    """

    rows: Rows
    estimates: Floats
    unseen: Floats

    @classmethod
    def of(cls, parts: Sequence[Coded], queries: Floats, depth: int, size: int) -> _Found:
        return cls._merged(parts, lambda part: _estimates(part, queries, depth), size)

    @classmethod
    def above(cls, parts: Sequence[Coded], query: Floats, least: np.float32, size: int) -> _Found:
        """What codes say about the rows whose estimates are above ``least``, of one query."""
        return cls._merged(parts, lambda part: _estimates_above(part, query, least), size)

    @classmethod
    def _merged(
        cls, parts: Sequence[Coded], estimate: Callable[[Coded], _Found], size: int
    ) -> _Found:
        # As few tasks as there are threads, which take turns with Python's lock
        shares = [parts[i::THREADS] for i in range(THREADS) if parts[i::THREADS]]
        several = threads.map(lambda some: [estimate(part) for part in some], shares)
        found = list(itertools.chain.from_iterable(several))
        estimates = np.concatenate([f.estimates for f in found], axis=1)
        rows = np.concatenate([f.rows for f in found], axis=1)
        unseen = np.max([f.unseen for f in found], axis=0)
        if estimates.shape[1] > size:
            best = np.argpartition(-estimates, size, axis=1)
            cut = np.take_along_axis(estimates, best[:, size : size + 1], 1)[:, 0]
            unseen, best = np.maximum(unseen, cut), best[:, :size]
            rows = np.take_along_axis(rows, best, 1)
            estimates = np.take_along_axis(estimates, best, 1)
        order = np.argsort(-estimates, axis=1)
        return cls(
            np.take_along_axis(rows, order, 1), np.take_along_axis(estimates, order, 1), unseen
        )


def _estimates(part: Coded, queries: Floats, depth: int) -> _Found:
    count = part.count
    estimates, rows = part.codes.search(queries, min(depth, count), part.allowed)
    unseen = estimates[:, -1] if depth < count else np.full(len(queries), -np.inf, np.float32)
    # Fewer rows than there are: any of the others may be near
    unseen = np.where(rows[:, -1] < 0, np.float32(np.inf), unseen)
    return _with_outliers(part, rows, estimates, unseen)


def _estimates_above(part: Coded, query: Floats, least: np.float32) -> _Found:
    estimates, rows = part.codes.search_above(query, least, part.allowed)
    return _with_outliers(part, rows[None], estimates[None], np.array([least]))


def _with_outliers(part: Coded, rows: Rows, estimates: Floats, unseen: Floats) -> _Found:
    outliers = part.codes.outliers
    if part.allowed is not None:
        outliers = outliers[part.allowed[outliers]]
    if len(outliers):
        again = np.isin(rows, outliers)
        rows, estimates = np.where(again, -1, rows), np.where(again, -np.inf, estimates)
        added = np.broadcast_to(outliers, (len(rows), len(outliers)))
        rows = np.concatenate([added, rows], axis=1)
        infinite = np.full(added.shape, np.inf, dtype=np.float32)
        estimates = np.concatenate([infinite, estimates], axis=1)
    return _Found(np.where(rows < 0, -1, rows + part.start), estimates, unseen)


def _compared(
    found: _Found,
    parts: Sequence[Coded],
    field: str,
    queries: Floats,
    k: int,
    metric: str,
    hits: Hits,
    places: Rows,
) -> tuple[Mask, Floats]:
    """Compares what was found exactly, until the rest can't matter.

    Args:
        found: what the codes say about each query
        parts: the parts
        field: the vector field
        queries: a ``num_queries x num_dims`` float32 array
        k: the number of hits of each query
        metric: ``COSINE``, ``IP`` or ``L2``
        hits: where the hits are written
        places: the rows of ``hits`` that are those of the queries

    Returns:
        for which queries the hits suffice, a boolean array; and of the others, the estimate above
        which all rows would be enough as far as is known, a float array
    """
    total = found.rows.shape[1]
    sure = np.zeros(len(queries), dtype=bool)
    least = np.zeros(len(queries), np.float32)
    active = np.arange(len(queries))
    scores = np.full((len(queries), 0), -np.inf, dtype=np.float32)
    errors, compared = np.zeros(len(queries)), np.zeros(len(queries))
    end = min(total, max(_FIRST, 4 * k, int(np.isinf(found.estimates).sum(axis=1).max()) + k))
    while True:
        rows = found.rows[active, scores.shape[1] : end]
        estimates = found.estimates[active, scores.shape[1] : end]
        new = _scores(parts, field, queries[active], rows, metric)
        scores = np.concatenate([scores, new], axis=1)
        known = np.isfinite(estimates) & (rows >= 0)
        apart = np.subtract(new, estimates, where=known, out=np.zeros(new.shape))
        errors += np.square(apart).sum(axis=1)
        compared += known.sum(axis=1)

        kth = -np.partition(-scores, k - 1, axis=1)[:, k - 1]
        unseen = found.unseen[active]
        following = found.estimates[active, end] if end < total else np.full(len(active), -np.inf)
        spread = CERTAINTY * np.sqrt(errors / np.maximum(compared, 1))
        with np.errstate(invalid="ignore"):
            enough = kth - np.maximum(following, unseen) >= spread
        hopeless = ~enough & ((kth - unseen < spread) | (end == total))
        done = enough | hopeless
        if done.any():
            ended = active[done]
            shown = np.where(found.rows[ended, :end] < 0, -1, found.rows[ended, :end])
            best = scan.ordered(shown, _milvus(scores[done], metric), k, metric)
            hits.rows[places[ended]], hits.scores[places[ended]] = best.rows, best.scores
            sure[active[enough]] = True
            least[ended] = (kth - _MARGIN * spread)[done]
            active, scores = active[~done], scores[~done]
            errors, compared = errors[~done], compared[~done]
        if not len(active):
            return sure, least
        end = min(total, 2 * end)


def _milvus(scores: Floats, metric: str) -> Floats:
    if metric == "L2":
        return -scores
    return np.minimum(scores, 1.0) if metric == "COSINE" else scores


def _scores(parts: Sequence[Coded], field: str, queries: Floats, rows: Rows, metric: str) -> Floats:
    """Exact scores, the higher the nearer, of a ``num_queries x n`` array of rows."""
    starts = np.array([part.start for part in parts])
    numbers = np.searchsorted(starts, rows, side="right") - 1
    scores = np.full(rows.shape, -np.inf, dtype=np.float32)

    def compare(query: Floats, some: Rows, of_part: Rows, line: Floats) -> None:
        order = np.argsort(of_part, kind="stable")
        ends = np.searchsorted(of_part[order], np.arange(len(parts) + 1))
        for part, start, end in zip(parts, ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            if start == end:
                continue
            where = order[start:end]
            local = some[where] - part.start
            found = part.part.vectors(field).scores_of(local, query, metric)
            line[where] = found if part.codes.inverse is None else found * part.codes.inverse[local]

    step = max(_SHARE, -(-rows.shape[1] * len(queries) // THREADS))
    shares = [slice(start, start + step) for start in range(0, rows.shape[1], step)]
    tasks = [(query, share) for query in range(len(queries)) for share in shares]
    together = threads.map if len(tasks) > 1 else map
    list(together(lambda t: compare(queries[t[0]], rows[t], numbers[t], scores[t]), tasks))
    return scores
