"""Draws a sample of rows that are read in parts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fiftyone_milvus.mapping.rows import Rows, join


def draw(parts: Iterable[Rows], count: int, seed: int) -> Rows:
    """Returns some rows, each with the same probability, in the order in which they are read.

    Needs memory for three times the rows that it returns.

    Args:
        parts: embeddings, at least one in all
        count: how many rows to draw; all if there are fewer
        seed: of the random numbers
    """
    rng = np.random.default_rng(seed)
    kept: list[Rows] = []
    numbers = np.empty(0)
    limit = 1.0
    for part in parts:
        drawn = rng.random(len(part.sample_ids))
        some = np.flatnonzero(drawn < limit)
        # A copy, so that the rest of the part is released
        kept.append(part.take(some))
        numbers = np.append(numbers, drawn[some])
        if len(numbers) > 2 * count:
            best = _smallest(numbers, count)
            kept, numbers = [join(kept).take(best)], numbers[best]
            limit = numbers.max()
    return join(kept).take(_smallest(numbers, count))


def _smallest(numbers: np.ndarray, count: int) -> np.ndarray:
    if len(numbers) <= count:
        return np.arange(len(numbers))
    return np.sort(np.argpartition(numbers, count)[:count])
