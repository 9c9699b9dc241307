"""Building an index, 1,000 queries at once and the peak of memory, each backend in a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Goal, Table, s
from benchmarks.world import BUILT_IN, METRIC, World

QUERIES = 1_000
K = 25


def run(world: World) -> list[Table]:
    array = world.root / "vectors.npy"
    np.save(array, world.vectors)
    backends: dict[str, dict[str, Any]] = {
        "sklearn": {"backend": "sklearn"},
        "lancedb": {"backend": "lancedb", "uri": str(world.root / "lance")},
    }
    for engine in world.engines:
        backends[f"built-in, {engine.name}"] = {
            "backend": "milvus",
            "uri": engine.built_in_uri + _suffix(engine),
            "config_cls": BUILT_IN,
        }
        backends[f"ours, {engine.name}"] = {"backend": "milvus", "uri": engine.uri}
    world.dataset.persistent = True
    found = {}
    for name, kwargs in backends.items():
        found[name] = _measure(world, array, name, kwargs)
    rows = [
        (
            name,
            s(f["build"]),
            s(f["queries"]),
            f"{f['peak'] / 2**30:.2f}",
            f"{f['service'] / 2**30:.2f}" if f["service"] else "",
        )
        for name, f in found.items()
    ]
    goals = []
    limits = {"server": (0.6, 0.4), "embedded": (0.75, 0.05)}
    for engine in world.engines:
        ours, theirs = found[f"ours, {engine.name}"], found[f"built-in, {engine.name}"]
        for what, limit in zip(("build", "queries"), limits[engine.name]):
            ratio = ours[what] / theirs[what]
            title = "1,000 queries" if what == "queries" else "compute_similarity"
            text = f"{title}, {engine.name}: ours / built-in"
            goals.append(Goal(text, f"<= {limit}", ratio, ratio))
    columns = (
        "backend", "build s", f"{QUERIES:,} queries s", "peak memory GB", "its service's GB",
    )  # fmt: skip
    return [Table("backends", columns, rows, goals, found)]


def _suffix(engine: Any) -> str:
    return "" if engine.name == "server" else ".alone.db"


def _measure(world: World, array: Path, name: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    key = "b_" + "".join(c if c.isalnum() else "_" for c in name)
    task = {
        "dataset": world.dataset.name, "vectors": str(array), "key": key, "k": K,
        "queries": QUERIES, "kwargs": {"metric": METRIC, **kwargs},
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.child", json.dumps(task)],
        env=os.environ,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
