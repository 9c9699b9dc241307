"""sync() of a free model into a Milvus that takes less than the model makes.

A wire in front of the server passes on so many bytes a second. What the model makes must wait for
it, so memory must not grow with the number of samples, nor what is on the way: the rows that the
planner has given out, and Milvus has not acknowledged.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from tests.faults.wire import Wire

from benchmarks.cases.syncing import measure
from benchmarks.images import make_images
from benchmarks.report import Goal, Table, s
from benchmarks.world import World

SIZES = (10_000, 40_000)
LIMITS = (None, 8e6, 2e6)
"""Bytes a second; the first is none."""

BATCH_SIZE = 256


def run(world: World) -> list[Table]:
    engine = next((e for e in world.engines if e.name == "server"), None)
    if engine is None:
        return []
    rows, goals, raw = [], [], []
    peaks: dict[float | None, list[float]] = {}
    for size in SIZES:
        folder = world.root / "images"
        dataset = make_images(size, folder)
        for limit in LIMITS:
            wire = Wire(urlsplit(engine.uri).port or 19530, limit=limit)
            try:
                task = {
                    "dataset": dataset.name, "folder": str(folder), "dim": world.dim,
                    "batch_size": BATCH_SIZE, "route": "sync", "key": f"slow_{int(limit or 0)}",
                    "kwargs": {**engine.kwargs(), "uri": wire.uri, "index_type": "FLAT"},
                }  # fmt: skip
                found = measure(task)
            finally:
                wire.cut()
            if found["rows"] != size:
                raise RuntimeError(f"{found['rows']} rows of {size}")
            peaks.setdefault(limit, []).append(found["peak"])
            passed = "all" if limit is None else f"{limit / 1e6:g} MB/s"
            speed = size / found["seconds"]
            cells = (s(found["seconds"]), f"{speed:,.0f}", f"{speed * 4 * world.dim / 1e6:.1f}")
            memory = (f"{found['vectors'] / 1e6:.0f}", f"{found['peak'] / 1e6:.0f}")
            rows.append((passed, f"{size:,}", *cells, *memory, f"{found['in flight']:,}"))
            raw.append({"limit": limit, **found})
        dataset.delete()
    for limit, (few, many) in peaks.items():
        if limit is not None:
            ratio = many / few
            text = f"peak memory at {limit / 1e6:g} MB/s, {SIZES[1]:,} / {SIZES[0]:,} samples"
            goals.append(Goal(text, "<= 1.25", ratio, ratio))
    columns = (
        "passed on", "samples", "s", "vectors a second", "of them MB a second",
        "the vectors MB", "peak memory over baseline MB", "most rows on the way",
    )  # fmt: skip
    return [Table("slow_milvus", columns, rows, goals, raw)]
