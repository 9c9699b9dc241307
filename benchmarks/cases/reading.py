"""Reading a whole index back: seconds and memory, next to bare pymilvus and the built-in backend.

And listing its IDs, next to MongoDB listing the dataset's.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import child
from benchmarks.report import Goal, Table, s, times
from benchmarks.timing import Contender, Ratio, take_turns
from benchmarks.world import Engine, World

REPEATS = 3
_MB = 1 << 20
_BARE_PAGE = 1_000
"""What ``query_iterator`` reads at a time by default."""


def run(world: World) -> list[Table]:
    tables = []
    for engine in world.engines:
        tables += [_embeddings(engine), _ids(engine)]
    return tables


def _embeddings(engine: Engine) -> Table:
    world, ours, built_in = engine.world, engine.ours, engine.built_in
    extras: dict[str, list[int]] = {}
    array = 4 * world.rows * world.dim

    def stream() -> int:
        return sum(len(embeddings) for embeddings, _, _ in ours.iter_embeddings())

    def bare() -> int:
        return _bare(engine, ["pk", "sample_id", "vector"])

    readers: dict[str, tuple[Callable[[], int], int]] = {
        "ours, get_embeddings": (lambda: len(ours.get_embeddings(sample_ids=world.ids)[0]), array),
        "ours, iter_embeddings": (stream, 0),
        "built-in, get_embeddings": (
            lambda: len(built_in.get_embeddings(sample_ids=world.ids)[0]),
            array,
        ),
        "bare, query_iterator": (bare, 0),
    }
    found = take_turns(
        {
            name: _measured(name, read, held, world.rows, extras)
            for name, (read, held) in readers.items()
        },
        REPEATS,
        warmup=0,
    )
    rows = [
        (name, s(t.min), s(t.median), f"{world.rows / t.min / 1e3:.0f}k",
         f"{max(extras[name]) / _MB:.0f}",
         times(Ratio.of(t, found["ours, get_embeddings"]).min))
        for name, t in found.items()
    ]  # fmt: skip
    goals = []
    for name in ("built-in, get_embeddings", "bare, query_iterator"):
        ratio = Ratio.of(found[name], found["ours, get_embeddings"])
        text = f"read back, {engine.name}: {name} / ours"
        goals.append(Goal(text, ">= 1", ratio.min, ratio.median))
    columns = ("reader", "s (min)", "(median)", "rows/s", "MB beside the array", "/ ours")
    raw = {"seconds": {n: t.seconds for n, t in found.items()}, "extra bytes": extras}
    return Table(f"reading-{engine.name}", columns, rows, goals, raw)


def _ids(engine: Engine) -> Table:
    world, ours = engine.world, engine.ours

    def pages() -> int:
        return sum(len(page.ids) for page in ours._collection.id_pages(with_samples=False))

    extras: dict[str, list[int]] = {}
    listings: dict[str, Callable[[], int]] = {
        "ours": pages,
        "bare, query_iterator": lambda: _bare(engine, ["pk"], 16_384),
        "MongoDB, dataset.values('id')": lambda: len(world.dataset.values("id")),
    }
    found = take_turns(
        {name: _measured(name, read, 0, world.rows, extras) for name, read in listings.items()},
        REPEATS,
    )
    rows = [
        (name, s(t.min), s(t.median), times(Ratio.of(t, found["ours"]).min))
        for name, t in found.items()
    ]
    columns = ("IDs", "s (min)", "(median)", "/ ours")
    raw = {"seconds": {n: t.seconds for n, t in found.items()}}
    return Table(f"reading-ids-{engine.name}", columns, rows, (), raw)


def _measured(
    name: str, read: Callable[[], int], held: int, rows: int, extras: dict[str, list[int]]
) -> Contender:
    """Times a reader, and notes its peak of memory less what it must hold at the end."""

    def contender() -> float:
        gc.collect()
        # The peak starts anew
        Path("/proc/self/clear_refs").write_text("5")
        before = child.peak("self")
        start = time.perf_counter()
        count = read()
        seconds = time.perf_counter() - start
        extras.setdefault(name, []).append(child.peak("self") - before - held)
        if count != rows:
            raise RuntimeError(f"{name} read {count} of {rows} rows")
        return seconds

    return contender


def _bare(engine: Engine, fields: list[str], size: int = _BARE_PAGE) -> int:
    iterator = engine.client.query_iterator(
        engine.ours.config.collection_name, batch_size=size, output_fields=fields
    )
    count = 0
    while page := iterator.next():
        count += len(list(page))
    iterator.close()
    return count
