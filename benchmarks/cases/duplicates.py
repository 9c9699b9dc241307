"""Near-duplicates and unique samples of a whole index, next to FiftyOne's default backend.

A twentieth of the vectors are copies of others, moved a little. All are centered, as FiftyOne's
default backend subtracts their mean: so both compare the same distances.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil

from benchmarks.report import Goal, Table, s, times
from benchmarks.timing import Ratio, Times, timed
from benchmarks.vectors import Array, clustered
from benchmarks.world import METRIC, World, new_index

SHARE = 0.05
THRESH = 0.01
UNIQUE = 100
_PAIR_BYTES = 16
# FiftyOne's search of the distance begins where half of all pairs are within it
_FIRST_GUESS = 0.5


def run(world: World) -> list[Table]:
    vectors = _with_copies(world.rows, world.dim)
    indexes: dict[str, Any] = {}
    for engine in world.engines:
        index = new_index(world.dataset, f"duplicates_{engine.name}", engine.kwargs())
        index.add_to_index(vectors, world.ids)
        index._kneighbors(vectors[0], k=10)
        indexes[f"ours, {engine.name}"] = index
    indexes["sklearn"] = _sklearn(world, vectors)

    questions: dict[str, Callable[[Any], object]] = {
        f"find_duplicates(thresh={THRESH})": lambda i: i.find_duplicates(thresh=THRESH),
        f"find_duplicates(fraction={SHARE})": lambda i: i.find_duplicates(fraction=SHARE),
        f"find_unique({UNIQUE})": lambda i: i.find_unique(UNIQUE),
    }
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    raw: dict[str, Any] = {}
    for text, ask in questions.items():
        found: dict[str, _Run] = {}
        for name, index in indexes.items():
            many = "thresh=" not in text and _FIRST_GUESS * world.rows**2 * _PAIR_BYTES
            if name == "sklearn" and many > psutil.virtual_memory().available:
                continue
            found[name] = _Run.of(index, ask)
        theirs = found.get("sklearn")
        for name in indexes:
            if name not in found:
                rows.append((text, name, "", f"needs > {many / 1e9:.0f} GB", "", "", "", ""))
                continue
            one = found[name]
            cells = [s(one.seconds), f"{one.bytes / 1e6:.0f} MB", str(len(one.duplicates))]
            if theirs is None or one is theirs:
                rows.append((text, name, *cells, "", "", ""))
                continue
            time = Ratio.of(Times((one.seconds,)), Times((theirs.seconds,)))
            memory = one.bytes / theirs.bytes
            same = one.agreement(theirs)
            rows.append((text, name, *cells, times(time.min), times(memory), f"{same:.5f}"))
            goals += [
                Goal(f"{text}, {name} / sklearn", "<= 0.5", time.min, time.median),
                Goal(f"{text}, {name} / sklearn: memory", "<= 1", memory, memory),
                Goal(f"{text}, {name}: same answer", ">= 0.999", same, same, unit=""),
            ]
        raw[text] = {n: {"seconds": r.seconds, "bytes": r.bytes} for n, r in found.items()}
    columns = ("call", "backend", "s", "peak memory", "duplicates", "time / sklearn",
               "memory / sklearn", "same")  # fmt: skip
    return [Table("duplicates", columns, rows, goals, raw)]


@dataclass
class _Run:
    """One call.

    Attributes:
        seconds: it took
        bytes: of memory that this process had more of at its peak; and those of the vectors, of a
            backend that keeps them in memory for good
        duplicates: the IDs it found
    """

    seconds: float
    bytes: float
    duplicates: set[str] = field(repr=False)
    total: int

    @classmethod
    def of(cls, index: Any, ask: Callable[[Any], object]) -> _Run:
        gc.collect()
        with Memory() as memory:
            seconds = timed(lambda: ask(index))()
        total = len(index.duplicate_ids) + len(index.unique_ids)
        held = index.embeddings.nbytes if hasattr(index, "embeddings") else 0
        return cls(seconds, memory.more + held, set(index.duplicate_ids), total)

    def agreement(self, other: _Run) -> float:
        """Returns the share of the smaller side on which both agree: duplicates or unique ones."""
        both = len(self.duplicates & other.duplicates)
        either = len(self.duplicates | other.duplicates)
        if either > self.total / 2:
            return (self.total - either) / (self.total - both)
        return both / max(1, either)


class Memory:
    """Samples this process' memory."""

    def __enter__(self) -> Memory:
        self._process = psutil.Process()
        self._start = self._peak = self._process.memory_info().rss
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def more(self) -> float:
        return float(max(1, self._peak - self._start))

    def _sample(self) -> None:
        while not self._done.wait(0.02):
            self._peak = max(self._peak, self._process.memory_info().rss)


def _with_copies(rows: int, dim: int) -> Array:
    vectors, _ = clustered(rows, dim)
    rng = np.random.default_rng(57)
    order = rng.permutation(rows)
    count = round(SHARE * rows)
    copies, originals = order[:count], rng.choice(order[count:], count)
    for _ in range(4):
        vectors -= vectors.mean(axis=0)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    moves = rng.normal(scale=0.05 / np.sqrt(dim), size=(count, dim))
    vectors[copies] = vectors[originals] + moves.astype(np.float32)
    vectors -= vectors.mean(axis=0)
    return vectors


def _sklearn(world: World, vectors: Array) -> Any:
    import fiftyone.brain as fob

    # FiftyOne's writes into the array that it is given
    return fob.compute_similarity(
        world.dataset, embeddings=vectors.copy(), brain_key="duplicates_sklearn",
        backend="sklearn", metric=METRIC,
    )  # fmt: skip
