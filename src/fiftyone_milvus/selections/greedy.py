"""Chooses candidates one after the other: each time the one that the strategies want most.

Scores only fall when others are chosen, so an old score is an upper bound. Only candidates with the
largest bounds are looked at again (M. Minoux, *Accelerated greedy algorithms*, 1978): the result is
that of looking at all each time. Memory holds some 30 bytes for each candidate, and the vectors,
which are in a temporary file beyond 1 GB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods.vectors import SHOW_FROM
from fiftyone_milvus.selections.candidates import Candidates
from fiftyone_milvus.selections.strategy import Scores

_WORKING = 1024
"""Candidates that are up to date after each choice."""

_TIE = 1e-9
"""Equal scores are ordered by the seed."""


@dataclass(frozen=True)
class Choice:
    """One chosen candidate.

    Attributes:
        row: its position
        score: the sum of what the strategies said of it, times their strengths
        reasons: what each of them said
    """

    row: int
    score: float
    reasons: tuple[str, ...]


def choose(
    candidates: Candidates, scores: Sequence[Scores], strengths: Sequence[float]
) -> list[Choice]:
    """Chooses candidates.

    Args:
        candidates: what is chosen from, and how many
        scores: what each strategy says
        strengths: the strength of each

    Returns:
        the choices in their order: ``candidates.count`` of them, or fewer if there are no more
    """
    return _Greedy(candidates, scores, strengths).run()


class _Greedy:
    def __init__(
        self, candidates: Candidates, scores: Sequence[Scores], strengths: Sequence[float]
    ) -> None:
        self._candidates, self._scores, self._strengths = candidates, scores, strengths
        generator = np.random.default_rng(candidates.seed)
        self._tie = _TIE * generator.random(len(candidates))
        self._bounds = self._total(np.arange(len(candidates)))
        for one in scores:
            if one.excluded is not None:
                self._bounds[one.excluded] = -np.inf

    def run(self) -> list[Choice]:
        candidates, choices = self._candidates, list[Choice]()
        count = min(candidates.count, int((self._bounds > -np.inf).sum()))
        working, outside = np.empty(0, dtype=np.int64), np.inf
        show = len(candidates) >= SHOW_FROM
        with ProgressBar(
            count, "Choosing", show=show, what="choices", progress=candidates.progress
        ) as bar:
            while len(choices) < count:
                if len(working):
                    self._look_at(working)
                if not len(working) or self._bounds[working].max() < outside:
                    working, outside = self._working_set()
                row = int(working[self._bounds[working].argmax()])
                reasons = tuple(one.reason(row) for one in self._scores)
                choices.append(Choice(row, float(self._bounds[row]), reasons))
                self._bounds[row] = -np.inf
                for one in self._scores:
                    one.choose(row)
                if len(choices) == 1 and any(one.begins_at_zero for one in self._scores):
                    self._bounds[self._bounds > -np.inf] = np.inf
                    working = working[:0]
                bar.update(1)
        return choices

    def _working_set(self) -> tuple[Array, float]:
        """Returns candidates of which one is the best of all, and the largest bound of the others.

        Looks at more and more candidates, those with the largest bounds first.
        """
        size = _WORKING
        while True:
            rows, outside = self._largest(size)
            self._look_at(rows)
            if self._bounds[rows].max() >= outside:
                break
            size *= 4
        rows, outside = self._largest(_WORKING)
        self._look_at(rows)
        self._candidates.vectors.release_pages()
        return rows, outside

    def _largest(self, size: int) -> tuple[Array, float]:
        """Returns the ascending positions of the largest bounds, and the next smaller one."""
        bounds = self._bounds
        if size >= len(bounds):
            return np.flatnonzero(bounds > -np.inf), -np.inf
        order = np.argpartition(-bounds, size)
        rows = np.sort(order[:size])
        return rows[bounds[rows] > -np.inf], float(bounds[order[size]])

    def _look_at(self, rows: Array) -> None:
        rows = rows[self._bounds[rows] > -np.inf]
        self._bounds[rows] = self._total(rows)

    def _total(self, rows: Array) -> Array:
        total = self._tie[rows].copy()
        for one, strength in zip(self._scores, self._strengths):
            total += strength * one.of(rows)
        return total
