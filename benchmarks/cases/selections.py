"""Selections: how well few samples cover all, next to random ones and to the exact k-center.

The k-center is that of T. F. Gonzalez, by numpy, which compares all vectors with each chosen one.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.cases.duplicates import Memory
from benchmarks.report import Table, s
from benchmarks.vectors import Array, clustered, digits
from benchmarks.world import World, make_dataset

SIZE = 10_000
CHOSEN = 100
LARGE = (1_000_000, 128)
_SEEDS = range(10)
_SEED = 71


def run(world: World) -> list[Table]:
    from fiftyone_milvus.selections import Balanced, Diverse, Typical

    vectors, labels = digits()
    drawn = np.random.default_rng(_SEED).choice(len(vectors), SIZE, replace=False)
    # Few nines, as in collections that nobody has balanced
    kept = drawn[(labels[drawn] != 9) | (np.random.default_rng(_SEED).random(SIZE) < 0.05)]
    vectors, labels = vectors[kept], labels[kept]
    index, ids, dataset = _index(world.engines[0], vectors, labels)
    row_of = {_id: row for row, _id in enumerate(ids)}

    def of(*strategies: Any) -> tuple[Array, float]:
        start = time.perf_counter()
        found = index.select(CHOSEN, list(strategies))
        return np.array([row_of[i] for i in found.ids]), time.perf_counter() - start

    generator = np.random.default_rng(_SEED)
    random = [generator.choice(len(ids), CHOSEN, replace=False) for _ in _SEEDS]
    forms: dict[str, Any] = {
        "random, the mean of ten": (random, 0.0),
        "Diverse()": of(Diverse()),
        "Diverse(), Typical()": of(Diverse(), Typical()),
        "Diverse(), Balanced(..., strength=10)": of(Diverse(), Balanced("cluster", strength=10)),
        "Typical()": of(Typical()),
    }
    start = time.perf_counter()
    first = int(forms["Diverse()"][0][0])
    forms["k-center by numpy, from the same first"] = (
        _k_center(vectors, first), time.perf_counter() - start,
    )  # fmt: skip
    rows = []
    for name, (chosen, seconds) in forms.items():
        each = chosen if isinstance(chosen, list) else [chosen]
        far = [1 - (vectors @ vectors[one].T).max(axis=1) for one in each]
        counts = np.mean([np.bincount(labels[one], minlength=10) for one in each], axis=0)
        radius, mean = (float(np.mean([how(f) for f in far])) for how in (np.max, np.mean))
        of_each = f"{counts.min():g} to {counts.max():g}"
        rows.append([name, f"{radius:.3f}", f"{mean:.3f}", of_each, s(seconds) if seconds else ""])
    index.cleanup()
    dataset.delete()
    columns = ("choice", "coverage radius", "mean distance", "of each digit", "s")
    return [Table("selections", columns, rows), _large()]


def _large() -> Table:
    """Chooses among a million vectors that were read already."""
    from fiftyone_milvus.neighborhoods import Vectors
    from fiftyone_milvus.selections import Candidates, Diverse, choose

    count, dim = LARGE
    vectors = Vectors.of(clustered(count, dim)[0], "cosine")
    ids = [str(row) for row in range(count)]
    rows = []
    for size in (1_000, 10_000):
        with Memory() as memory:
            start = time.perf_counter()
            candidates = Candidates(ids, vectors, size, 0, _nothing, _nothing, progress=False)
            choose(candidates, [Diverse().prepare(candidates)], [1.0])
            seconds = time.perf_counter() - start
        rows.append([f"{size:,}", s(seconds), f"{memory.more / 1e6:.0f} MB"])
    columns = (f"chosen of {count:,} x {dim}", "s", "more memory")
    return Table("selections_large", columns, rows)


def _nothing(_: Any) -> Any:
    raise AssertionError("Diverse() reads nothing")


def _index(engine: Any, vectors: Array, clusters: Array) -> tuple[Any, list[str], Any]:
    import fiftyone.brain as fob

    dataset = make_dataset(len(vectors), clusters)
    index = fob.compute_similarity(
        dataset, embeddings=False, brain_key="selections", **engine.kwargs()
    )
    ids = dataset.values("id")
    index.add_to_index(vectors, ids)
    return index, ids, dataset


def _k_center(vectors: Array, first: int) -> Array:
    chosen, far = [first], 1 - vectors @ vectors[first]
    while len(chosen) < CHOSEN:
        chosen.append(int(far.argmax()))
        far = np.minimum(far, 1 - vectors @ vectors[chosen[-1]])
    return np.array(chosen)
