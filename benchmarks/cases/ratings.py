"""Uniqueness and representativeness next to ``fiftyone.brain``'s, of the same vectors.

FiftyOne's uniqueness asks the same index, ten vectors at a time. Its representativeness takes an
array; it counts the other way round, so 1 less its numbers is compared.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.cases.duplicates import Memory
from benchmarks.report import Goal, Table, s, times
from benchmarks.timing import timed
from benchmarks.vectors import Array
from benchmarks.world import World, new_index


def run(world: World) -> list[Table]:
    import fiftyone.brain as fob

    unit = world.vectors / np.linalg.norm(world.vectors, axis=1, keepdims=True)
    found: dict[str, tuple[float, float, Array]] = {}

    def measure(name: str, work: Callable[[], Any]) -> None:
        gc.collect()
        results: list[Any] = []
        with Memory() as memory:
            seconds = timed(lambda: results.append(work()))()
        if results[0] is None:
            field = f"{name.split(',')[0].rpartition('_')[2]}"
            values = np.array(world.dataset.values(field))
            world.dataset.delete_sample_field(field)
        else:
            table = dict(zip(results[0].ids, results[0].values.tolist(), strict=True))
            values = np.array([table[i] for i in world.ids])
        found[name] = seconds, memory.more, values

    theirs = "fob.compute_representativeness"
    measure(theirs, lambda: fob.compute_representativeness(world.dataset, embeddings=unit))
    pairs = []
    for engine in world.engines:
        index = new_index(world.dataset, f"ratings_{engine.name}", engine.kwargs())
        index.add_to_index(world.vectors, world.ids)
        index._kneighbors(world.vectors[0], k=10)
        own = f"compute_representativeness, {engine.name}"
        measure(own, lambda i=index: i.compute_representativeness(progress=False))
        slow = f"fob.compute_uniqueness, {engine.name}"
        measure(slow, lambda i=index: fob.compute_uniqueness(world.dataset, similarity_index=i))
        fast = f"compute_uniqueness, {engine.name}"
        measure(fast, lambda i=index: i.compute_uniqueness(progress=False))
        pairs += [(own, theirs, 1.2), (fast, slow, 0.5)]
        index.cleanup()
    goals: list[Goal] = []
    for one, other, limit in pairs:
        ratio = found[one][0] / found[other][0]
        values = found[other][2] if "uniqueness" in other else 1 - found[other][2]
        apart = float(np.quantile(np.abs(found[one][2] - values), 0.99))
        goals += [
            Goal(f"{one} / {other}", f"<= {limit}", ratio, ratio),
            Goal(f"{one}: difference of 99 %", "<= 0.01", apart, apart, unit=""),
        ]
    ratios = {one: times(found[one][0] / found[other][0]) for one, other, _ in pairs}
    rows = [
        (name, s(seconds), f"{used / 1e6:.0f} MB", ratios.get(name, ""))
        for name, (seconds, used, _) in found.items()
    ]
    raw = {name: {"seconds": seconds, "bytes": used} for name, (seconds, used, _) in found.items()}
    columns = ("call", "s", "peak memory", "time / FiftyOne")
    return [Table("ratings", columns, rows, goals, raw)]
