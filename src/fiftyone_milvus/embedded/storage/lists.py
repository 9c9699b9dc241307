"""Lists of near rows of a segment: what says which rows can't be among the nearest.

K-means divides the rows; each row is in the list of the center that it is nearest to. A row's score
is its center's, and what the row's offset from the center adds. How much the best row of a list
adds is measured on some of the segment's own rows, in units of the list's spread: the *reach*.
A list whose center, with that, is not as good as what was found already needs no look.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int32]

_ROWS_OF_A_CENTER = 32
_ITERATIONS = 6
#: Rows that are searched for to measure the reach, and scores that are held for that.
_QUERIES, _SCORES = 64, 8_000_000
#: The nearest rows of each that are looked at.
_NEAREST = 25
_SHARE = 0.999
#: Of the best rows of all lists, near and far, a smaller share: some lists are hardly spread.
_SHARE_OF_LISTS = 0.99
_LEAST_SPREAD = 0.1


@dataclass(frozen=True)
class Lists:
    """The lists of one field of one segment.

    Attributes:
        centers: a ``num_lists x num_dims`` float32 array
        spread: the root mean square distance of a list's rows to its center, float32
        rows: the row numbers, list after list, in each in ascending order, int32
        ends: where each list ends in ``rows``, int64
        reach: how many spreads the best row of a list is better than its center, at most
        own_reach: the same for the list whose center is the best
    """

    centers: Floats
    spread: Floats
    rows: Rows
    ends: npt.NDArray[np.int64]
    reach: float
    own_reach: float

    @functools.cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where each list starts in ``rows``, int64."""
        return np.concatenate([[0], self.ends[:-1]])

    @functools.cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """The number of rows of each list, int64."""
        return np.diff(self.ends, prepend=0)

    def counts(self, allowed: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """The number of allowed rows of each list, int64.

        Args:
            allowed: which rows are, a boolean array
        """
        found = np.zeros(len(self.ends), np.int64)
        some = self.sizes > 0
        if some.any():
            # Of all rows in the lists' order: to choose the allowed ones takes six times as long
            inside = allowed.view(np.uint8).take(self.rows)
            found[some] = np.add.reduceat(inside, self.starts[some], dtype=np.int32)
        return found

    def bounds(self, queries: Floats, metric: str) -> tuple[Floats, Floats]:
        """Returns how good the rows of each list can be.

        Args:
            queries: a ``num_queries x num_dims`` float32 array; of length one under ``COSINE``
            metric: ``COSINE``, ``IP`` or ``L2``

        Returns:
            the scores of the centers and of the best row that a list may have, two
            ``num_queries x num_lists`` float32 arrays; the higher the nearer
        """
        scores, scale = _scores(queries, self.centers, metric)
        reach = np.full(scores.shape, self.reach, np.float32)
        reach[np.arange(len(queries)), scores.argmax(axis=1)] = self.own_reach
        return scores, scores + reach * scale * self.spread

    def to_bytes(self) -> bytes:
        """What :meth:`from_bytes` reads."""
        parts = (self.ends, self.rows, self.spread, self.centers)
        return b"".join(part.tobytes() for part in parts)

    def about(self) -> dict[str, float]:
        """What else :meth:`from_bytes` needs, as JSON."""
        return {"lists": len(self.ends), "reach": self.reach, "own_reach": self.own_reach}

    @classmethod
    def from_bytes(cls, data: bytes, about: dict[str, Any], rows: int) -> Lists:
        """Reads lists.

        Args:
            data: what :meth:`to_bytes` made
            about: what :meth:`about` made
            rows: the number of rows
        """
        number = int(about["lists"])
        ends = np.frombuffer(data, "<i8", number)
        order = np.frombuffer(data, "<i4", rows, 8 * number)
        spread = np.frombuffer(data, "<f4", number, 4 * rows + 8 * number)
        centers = np.frombuffer(data, "<f4", -1, 4 * rows + 12 * number).reshape(number, -1)
        return cls(centers, spread, order, ends, about["reach"], about["own_reach"])


def build(blocks: Callable[[], Iterator[Floats]], sample: Floats, rows: int, metric: str) -> Lists:
    """Divides rows into lists.

    Args:
        blocks: yields all rows, in blocks, as often as it is called; of length one under ``COSINE``
        sample: some of the rows
        rows: the number of rows
        metric: ``COSINE``, ``IP`` or ``L2``
    """
    faiss: Any = importlib.import_module("faiss")
    number = max(1, min(math.isqrt(rows), len(sample) // _ROWS_OF_A_CENTER))
    means = faiss.Kmeans(
        sample.shape[1], number, niter=_ITERATIONS, seed=1, min_points_per_centroid=1,
        max_points_per_centroid=_ROWS_OF_A_CENTER,
    )  # fmt: skip
    means.train(sample)
    centers = np.ascontiguousarray(means.centroids)
    list_of = np.empty(rows, np.int64)
    squares = np.empty(rows)
    asked = sample[:: max(1, len(sample) // max(8, min(_QUERIES, _SCORES // rows)))]
    scores = np.empty((len(asked), rows), np.float32)
    start = 0
    for block in blocks():
        some = slice(start, start + len(block))
        list_of[some] = means.index.search(block, 1)[1][:, 0]
        apart = block - centers[list_of[some]]
        squares[some] = np.einsum("ij,ij->i", apart, apart)
        scores[:, some] = _scores(asked, block, metric)[0]
        start += len(block)
    sizes = np.bincount(list_of, minlength=number)
    ends = np.cumsum(sizes)
    spread = np.sqrt(np.bincount(list_of, squares, minlength=number) / np.maximum(sizes, 1))
    length = float(np.sqrt(np.einsum("ij,ij->i", centers, centers).mean()))
    least = max(_LEAST_SPREAD * float(np.sqrt(squares.mean())), 1e-3 * length, 1e-12)
    spread = np.maximum(spread, least).astype(np.float32)
    order = np.argsort(list_of, kind="stable").astype(np.int32)
    reach, own = _reach(scores, asked, centers, spread, list_of, order, sizes, metric)
    return Lists(centers, spread, order, ends.astype(np.int64), reach, own)


def _reach(
    scores: Floats,
    queries: Floats,
    centers: Floats,
    spread: Floats,
    list_of: npt.NDArray[np.int64],
    order: Rows,
    sizes: npt.NDArray[np.int64],
    metric: str,
) -> tuple[float, float]:
    of_center, scale = _scores(queries, centers, metric)
    unit = np.maximum(scale * spread, 1e-12)
    every = np.arange(len(queries))
    best = of_center.argmax(axis=1)
    # The best row of each list
    starts = (np.cumsum(sizes) - sizes)[sizes > 0]
    tops = np.maximum.reduceat(scores[:, order], starts, axis=1)
    reaches = np.full(of_center.shape, -np.inf)
    reaches[:, sizes > 0] = ((tops - of_center[:, sizes > 0]) / unit[:, sizes > 0]).astype(float)
    own = float(reaches[every, best].max())
    reaches[every, best] = -np.inf
    others = reaches[np.isfinite(reaches)]
    # The nearest rows that are in other lists
    depth = min(_NEAREST, scores.shape[1] - 1)
    near = np.argpartition(-scores, depth, axis=1)[:, : depth + 1]
    lists = list_of[near]
    found = np.take_along_axis(scores, near, 1) - np.take_along_axis(of_center, lists, 1)
    found = (found / np.take_along_axis(unit, lists, 1))[lists != best[:, None]]
    reach = max(
        float(np.quantile(others, _SHARE_OF_LISTS)) if len(others) else 0.0,
        float(np.quantile(found, _SHARE)) if len(found) else 0.0,
        0.0,
    )
    return reach, max(own, reach)


def _scores(queries: Floats, rows: Floats, metric: str) -> tuple[Floats, Floats]:
    """Scores, the higher the nearer, and what an offset of length one changes at most."""
    if metric != "L2":
        lengths = np.linalg.norm(queries, axis=1, keepdims=True).astype(np.float32)
        return queries @ rows.T, lengths
    # Near the rows, else the squares would lose the digits that matter
    center = rows.mean(axis=0)
    queries, rows = queries - center, rows - center
    squares = np.einsum("ij,ij->i", queries, queries)[:, None]
    squares = squares + np.einsum("ij,ij->i", rows, rows) - 2 * (queries @ rows.T)
    np.maximum(squares, 0, out=squares)
    return -squares, np.sqrt(squares)
