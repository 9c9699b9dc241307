"""Groups of near-duplicates next to ``fiftyone.brain.compute_near_duplicates``.

A twentieth of the vectors are copies of others, moved a little; another twentieth are chains, such
as frames of a video: each is a copy of the one before, and after two steps it is no duplicate.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from benchmarks.cases.duplicates import THRESH, Memory, _sklearn, _with_copies
from benchmarks.report import Goal, Table, s, times
from benchmarks.timing import timed
from benchmarks.vectors import Array
from benchmarks.world import World, new_index

_LENGTH = 6
_STEP = 0.006
"""The cosine distance of one step of a chain."""

Members = list[list[str]]


def run(world: World) -> list[Table]:
    import fiftyone.brain as fob

    vectors = _with_chains(_with_copies(world.rows, world.dim))
    at = {i: place for place, i in enumerate(world.ids)}
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    raw: dict[str, Any] = {}
    theirs = _sklearn(world, vectors)

    def near() -> Members:
        fob.compute_near_duplicates(world.dataset, threshold=THRESH, similarity_index=theirs)
        return [[one, *(i for i, _ in more)] for one, more in theirs.neighbors_map.items()]

    asked: dict[str, Callable[[], Members]] = {"compute_near_duplicates, sklearn": near}
    for engine in world.engines:
        index = new_index(world.dataset, f"groups_{engine.name}", engine.kwargs())
        index.add_to_index(vectors, world.ids)
        index._kneighbors(vectors[0], k=10)

        def complete(index: Any = index) -> Members:
            found = index.find_groups(THRESH, progress=False)
            return [found.members(n) for n in range(1, min(len(found), 20_000) + 1)]

        asked[f"find_groups, {engine.name}"] = complete
    reference: tuple[float, float] | None = None
    for name, ask in asked.items():
        gc.collect()
        found: list[Members] = []
        with Memory() as memory:
            seconds = timed(lambda ask=ask, found=found: found.append(ask()))()
        held = theirs.embeddings.nbytes if name.endswith("sklearn") else 0
        used, groups = memory.more + held, found[0]
        chained = sum(_widest(vectors, (at[i] for i in group)) > THRESH for group in groups)
        total = sum(map(len, groups))
        cells = [s(seconds), f"{used / 1e6:.0f} MB", f"{len(groups):,}", f"{total - len(groups):,}"]
        cells.append(f"{chained:,}")
        if reference is None:
            reference = seconds, used
            rows.append((name, *cells, "", ""))
        else:
            time, more = seconds / reference[0], used / reference[1]
            rows.append((name, *cells, times(time), times(more)))
            goals += [
                Goal(f"{name} / compute_near_duplicates", "<= 0.5", time, time),
                Goal(f"{name} / compute_near_duplicates: memory", "<= 1", more, more),
                Goal(f"{name}: groups that chain", "<= 0", chained, chained, unit=""),
            ]
        raw[name] = {"seconds": seconds, "bytes": used, "groups": len(groups), "chained": chained}
    columns = (
        "call", "s", "peak memory", "groups", "duplicates", "groups that chain", "time", "memory",
    )  # fmt: skip
    return [Table("groups", columns, rows, goals, raw)]


def _widest(vectors: Array, members: Iterable[int]) -> float:
    """The largest cosine distance of two members of a group, less the error of float32."""
    part = vectors[list(members)].astype(np.float64)
    part /= np.linalg.norm(part, axis=1, keepdims=True)
    return float(1 - (part @ part.T).min() - 1e-7)


def _with_chains(vectors: Array) -> Array:
    rng = np.random.default_rng(58)
    rows, dim = vectors.shape
    chains = rng.permutation(rows)[: rows // 20 // _LENGTH * _LENGTH].reshape(-1, _LENGTH)
    for before, after in zip(chains.T, chains.T[1:]):
        lengths = np.linalg.norm(vectors[before], axis=1, keepdims=True)
        moves = rng.normal(size=(len(after), dim)) * np.sqrt(2 * _STEP / dim)
        vectors[after] = vectors[before] + (lengths * moves).astype(np.float32)
    return vectors
