"""Timing on a machine that others use too: contenders take turns, and ratios are of one run."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Contender = Callable[[], float]
"""Does its work once and returns the seconds that count."""


@dataclass(frozen=True)
class Times:
    """The seconds of each repetition of one contender, in the order of the repetitions."""

    seconds: tuple[float, ...]

    @property
    def min(self) -> float:
        return min(self.seconds)

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))


@dataclass(frozen=True)
class Ratio:
    """One contender's time over another's.

    Attributes:
        min: of their fastest repetitions
        median: the median over the repetitions that ran both
    """

    min: float
    median: float

    @classmethod
    def of(cls, one: Times, other: Times) -> Ratio:
        pairs = [a / b for a, b in zip(one.seconds, other.seconds)]
        return cls(one.min / other.min, float(np.median(pairs)))


def timed(work: Callable[[], object]) -> Contender:
    """Returns a contender of which all the work counts."""

    def contender() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return contender


def take_turns(
    contenders: Mapping[str, Contender],
    repeats: int,
    *,
    warmup: int = 1,
    most_seconds: float = np.inf,
) -> dict[str, Times]:
    """Runs the contenders in turn, ``repeats`` times, each turn starting with another one.

    One that has run three times and for ``most_seconds`` in all has no more turns.
    """
    names = list(contenders)
    for _ in range(warmup):
        for name in names:
            contenders[name]()
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            if len(found[name]) < 3 or sum(found[name]) < most_seconds:
                gc.collect(0)
                found[name].append(contenders[name]())
    return {name: Times(tuple(seconds)) for name, seconds in found.items()}
