"""What compares every vector with the others, without an engine: time, memory and recall.

Vectors in clusters, of which a twentieth are copies, and vectors with a spectrum that falls evenly,
where cells do not help. For a million, ``--rows 1000000``: some ten minutes without the latter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks.cases.duplicates import Memory, _with_copies
from benchmarks.report import Goal, Table, s
from benchmarks.timing import timed
from benchmarks.vectors import Array, recall
from benchmarks.world import METRIC, World

K = 10
DROPPED = 0.05
UNIQUE = 100
_SAMPLE = 1_000
_MOST_FALLING = 200_000
"""All pairs of more take long."""


def run(world: World) -> list[Table]:
    rows, goals, raw = [], [], {}
    data: dict[str, Callable[[int, int], Array]] = {"200 clusters": _with_copies}
    if world.rows <= _MOST_FALLING:
        data["falling spectrum"] = _falling
    for name, make in data.items():
        with _vectors(make(world.rows, world.dim)) as vectors:
            for what, ask in _QUESTIONS.items():
                found: list[Any] = []
                with Memory() as memory:
                    seconds = timed(lambda: found.append(ask(vectors)))()  # noqa: B023
                right = _recall(vectors, found[0]) if what.startswith("neighbors") else None
                cells = (s(seconds), f"{memory.more / 1e6:.0f} MB", f"{right:.5f}" if right else "")
                rows.append((f"{world.rows:,} x {world.dim}, {name}", what, *cells))
                raw[f"{name}, {what}"] = {"seconds": seconds, "bytes": memory.more}
                if right is not None:
                    text = f"recall of the {what}, {name}"
                    goals.append(Goal(text, ">= 0.999", right, right, unit=""))
    return [Table("neighborhoods", ("vectors", "what", "s", "memory", "recall"), rows, goals, raw)]


@contextmanager
def _vectors(data: Array) -> Iterator[Any]:
    from fiftyone_milvus.neighborhoods import Vectors

    with Vectors.of(data, METRIC) as vectors:
        del data
        yield vectors


def _neighbors(vectors: Any) -> Any:
    from fiftyone_milvus.neighborhoods import nearest_of_all

    return nearest_of_all(vectors, K, progress=False)[0]


def _kept(count: Callable[[int], int]) -> Callable[[Any], Any]:
    def ask(vectors: Any) -> Any:
        from fiftyone_milvus.neighborhoods import keep_count

        return keep_count(vectors, count(len(vectors)))

    return ask


_QUESTIONS: dict[str, Callable[[Any], Any]] = {
    f"neighbors of every vector, k={K}": _neighbors,
    f"find_duplicates(fraction={DROPPED})": _kept(lambda count: round((1 - DROPPED) * count)),
    f"find_unique({UNIQUE})": _kept(lambda _: UNIQUE),
}


def _recall(vectors: Any, found: Array) -> float:
    from fiftyone_milvus.neighborhoods import nearest_others

    rows = np.sort(np.random.default_rng(77).choice(len(vectors), _SAMPLE, replace=False))
    true, _ = nearest_others(vectors, rows, K, progress=False)
    return recall(found[rows].tolist(), true)


def _falling(rows: int, dim: int) -> Array:
    data = np.random.default_rng(78).normal(size=(rows, dim)).astype(np.float32)
    return data * np.geomspace(1, 0.02, dim, dtype=np.float32)
