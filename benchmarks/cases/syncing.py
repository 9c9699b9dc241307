"""sync() of datasets of growing size: memory, and time when little or nothing is missing.

``python -m benchmarks --rows 1000000 --only syncing``

A server is given a FLAT index: else, building a better one would take both cores meanwhile.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.images import make_images
from benchmarks.report import Goal, Table, s, times
from benchmarks.world import Engine, World

SIZES = (100_000, 300_000, 1_000_000)
EMBEDDED_ROWS = 300_000
LIMIT_BYTES = 600e6
BATCH_SIZE = 256
CHANGES_DIM = 32
"""Only IDs are compared."""


def run(world: World) -> list[Table]:
    sizes = [rows for rows in SIZES if rows <= world.rows] or [world.rows]
    folder = world.root / "images"
    memory: dict[str, dict[str, list[dict[str, Any]]]] = {}
    changes: list[Table] = []
    for rows in sizes:
        dataset = make_images(rows, folder)
        engines = [e for e in world.engines if e.name == "server" or rows <= EMBEDDED_ROWS]
        tasks = {
            e.name: {
                "dataset": dataset.name, "folder": str(folder), "dim": world.dim,
                "batch_size": BATCH_SIZE, "route": "sync", "key": f"sync_{e.name}",
                "kwargs": {**e.kwargs(), "index_type": "FLAT"},
            }
            for e in engines
        }  # fmt: skip
        for engine in engines:
            task = tasks[engine.name]
            found = memory.setdefault(engine.name, {})
            found.setdefault(f"sync, {engine.name}", []).append(measure(task))
            if engine.name == "server" and rows == sizes[0]:
                kwargs = engine.kwargs(built_in=True)
                run = measure({**task, "route": "compute_similarity", "kwargs": kwargs})
                found["built-in compute_similarity, server"] = [run]
        if rows == sizes[-1]:
            # At the end, as it adds to the dataset
            for engine in engines:
                task = {**tasks[engine.name], "route": "add_to_index", "dim": CHANGES_DIM}
                changes += _changes(engine, measure(task))
        dataset.delete()
    return [*(_memory(name, found) for name, found in memory.items()), *changes]


def measure(task: dict[str, Any]) -> dict[str, Any]:
    """Returns what a process of its own found."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.sync_child", json.dumps(task)],
        env=os.environ, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    # A later one may fail, and these take long
    print(f"{task['key']}: {answer}", flush=True)
    return answer


def _memory(engine: str, found: dict[str, list[dict[str, Any]]]) -> Table:
    rows, goals = [], []
    for name, runs in found.items():
        for run in runs:
            size = run["samples"]
            if run["rows"] != size:
                raise RuntimeError(f"{name} has {run['rows']} rows of {size}")
            service = f"{run['service'] / 1e6:.0f}" if run["service"] else ""
            cells = (f"{run['peak'] / 1e6:.0f}", f"{run['vectors'] / 1e6:.0f}", service)
            rows.append((name, f"{size:,}", *cells, s(run["seconds"]), s(run["model"])))
            if name.startswith("sync"):
                ratio = run["peak"] / LIMIT_BYTES
                text = f"peak memory of {name}, {size:,} x {run['vectors'] // (4 * size)} / 600 MB"
                goals.append(Goal(text, "<= 1", ratio, ratio))
    columns = (
        "call, engine", "samples", "peak memory over baseline MB", "the vectors MB",
        "the service's peak MB", "s", "of it the model s",
    )  # fmt: skip
    return Table(f"syncing-memory-{engine}", columns, rows, goals, found)


def _changes(engine: Engine, run: dict[str, Any]) -> list[Table]:
    size, found = run["samples"], run["changes"]
    own = "dataset.values('id')"
    rows = []
    for name in (name for name in found if name not in ("peak", "added")):
        ratio = statistics.median(found[name]) / statistics.median(found[own])
        rows.append((name, *_cells(found[name]), times(ratio)))
    nothing = Table(
        f"syncing-up-to-date-{engine.name}",
        (f"{size:,} samples", "s (min)", "(median)", f"/ {own}"),
        rows, raw=found,
    )  # fmt: skip
    added = Table(
        f"syncing-added-{engine.name}",
        (f"1,000 samples more than {size:,}", "s (min)", "(median)"),
        [(name, *_cells(seconds)) for name, seconds in found["added"].items()],
        raw=found["added"],
    )
    return [nothing, added]


def _cells(seconds: Sequence[float]) -> tuple[str, str]:
    if not seconds:
        return "fails: more IDs than MongoDB takes", ""
    return s(min(seconds)), s(statistics.median(seconds))
