"""What it costs that the embedded engine syncs what it acknowledges: with and without."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.cases.uploading import INDEX, _add
from benchmarks.report import Goal, Table, s
from benchmarks.timing import Contender, Ratio, take_turns
from benchmarks.world import Engine, World, new_index

REPEATS = 5
SINGLE = 200

_number = itertools.count()

_UNSYNCED = """
import os, runpy
os.fsync = lambda descriptor: None
runpy.run_module("fiftyone_milvus.embedded", run_name="__main__", alter_sys=True)
"""


def run(world: World) -> list[Table]:
    return [_table(engine) for engine in world.engines if engine.name == "embedded"]


def _table(engine: Engine) -> Table:
    world = engine.world
    rows = min(world.rows, 100_000)
    with _unsynced(world.root / "unsynced.db") as path:
        other = replace(engine, uri=str(path))
        kwargs, unsynced = engine.kwargs() | INDEX, other.kwargs() | INDEX
        contenders: dict[str, Contender] = {
            "upload": _add(engine, kwargs),
            "upload, unsynced": _add(other, unsynced),
            "single rows": _single(engine, kwargs),
            "single rows, unsynced": _single(other, unsynced),
        }
        found = take_turns(contenders, REPEATS)
    columns = ("what", "s (min)", "(median)", "rows/s")
    lines, goals = [], []
    for name, count, wanted in (("upload", rows, "<= 1.15"), ("single rows", SINGLE, "<= 5")):
        one, base = found[name], found[f"{name}, unsynced"]
        for label in (name, f"{name}, unsynced"):
            times = found[label]
            lines.append((label, s(times.min), s(times.median), f"{count / times.median:,.0f}"))
        ratio = Ratio.of(one, base)
        goals.append(Goal(f"{name}: synced / unsynced", wanted, ratio.min, ratio.median))
    return Table(
        "power-loss", columns, lines, goals, {name: t.seconds for name, t in found.items()}
    )


@contextmanager
def _unsynced(path: Path) -> Iterator[Path]:
    """A service that syncs nothing, otherwise the same."""
    from fiftyone_milvus import embedded

    service = subprocess.Popen(
        [sys.executable, "-c", _UNSYNCED, "--path", str(path), "--announce"],
        stdout=subprocess.PIPE,
    )
    try:
        assert service.stdout is not None
        assert b"ready" in service.stdout.readline()
        yield path
    finally:
        embedded.stop(path)
        service.wait()


def _single(engine: Engine, kwargs: dict[str, Any]) -> Contender:
    """Adds rows one at a time."""
    world = engine.world

    def contender() -> float:
        key = f"single_{next(_number)}"
        index = new_index(world.dataset, key, kwargs)
        index.add_to_index(world.vectors[:1], world.ids[:1])
        start = time.perf_counter()
        for at in range(1, 1 + SINGLE):
            index.add_to_index(world.vectors[at : at + 1], world.ids[at : at + 1])
        seconds = time.perf_counter() - start
        index.cleanup()
        world.dataset.delete_brain_run(key)
        return seconds

    return contender
