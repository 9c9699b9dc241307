"""The embedded engine with many vectors: AUTOINDEX, which has codes, next to FLAT.

For a million vectors, ``--engine embedded --rows 1000000``: some 20 minutes, 10 GB of disk, and
10 GB of memory, of which the benchmark's own copies of the vectors are most.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.cases.views import _contender
from benchmarks.report import Goal, Table, ms
from benchmarks.timing import Ratio, take_turns, timed
from benchmarks.vectors import Array, near, nearest, recall
from benchmarks.views import Case, queries_and_views
from benchmarks.world import METRIC, Engine, World, finish_lite, new_index

K = 25
QUERIES = 7
NAMINGS = 2
MANY = 1_000
#: A Python with FiftyOne's LanceDB backend of another release, see benchmarks/lancedb_child.py.
_LANCEDB = "LANCEDB_PYTHON"


def run(world: World) -> list[Table]:
    engine = next((e for e in world.engines if e.name == "embedded"), None)
    if engine is None:
        return []
    # Made once, and not timed
    assert len(world.ids) == len(world.vectors)
    facts = {name: _facts(engine, name) for name in ("AUTOINDEX", "FLAT")}
    queries, cases = queries_and_views(world, QUERIES)
    other = _Lancedb(world, queries) if _LANCEDB in os.environ else None
    theirs = {} if other is None else other.searches(cases)
    rows, goals, raw = [], [], {}
    for case in cases:
        truth = nearest(world.vectors, queries, min(K, int(case.inside.sum())), case.inside)
        found: dict[str, list[list[int]]] = {name: [] for name in facts}
        contenders = {
            name: _contender(case.view, name, queries, found[name], world) for name in facts
        }
        times = take_turns(contenders, QUERIES, warmup=0)
        name_ids = {"IDs": timed(lambda view=case.view: view.values("_id"))}
        naming = take_turns(name_ids, NAMINGS, warmup=0)["IDs"]
        recalls = {name: recall(found[name], truth) for name in facts}
        cells = [f"{ms(times[n].median)} ms, {recalls[n]:.3f}" for n in facts]
        if other is not None:
            one = theirs[case.title]
            right = recall([[world.row_of[i] for i in ids] for ids in one["ids"]], truth)
            cells.append(f"{ms(statistics.median(one['seconds']))} ms, {right:.3f}")
        rows.append((case.title, *cells, f"{ms(naming.min)} ms"))
        text = f"recall@{K} in a view ({case.title})"
        goals.append(Goal(text, ">= 0.99", *[recalls["AUTOINDEX"]] * 2, unit=""))
        if case.title == "all":
            ratio = Ratio.of(times["AUTOINDEX"], times["FLAT"])
            goals.append(Goal("whole index, codes / scan", "<= 1", ratio.min, ratio.median))
        raw[case.title] = {n: {"seconds": times[n].seconds, "recall": recalls[n]} for n in facts}
    if other is not None:
        facts[other.name] = other.facts
    views = Table("codes", ("view", *facts, "MongoDB names the IDs"), rows, goals, raw)
    names = [*facts["FLAT"]]
    table = [(name, *(found.get(name, "") for found in facts.values())) for name in names]
    return [views, Table("codes_facts", ("", *facts), table, [], facts)]


class _Lancedb:
    """FiftyOne's LanceDB backend: what it takes, and what it finds."""

    name = "lancedb, fiftyone-brain 0.27"

    def __init__(self, world: World, queries: Array) -> None:
        self._world, self.facts = world, {}
        world.dataset.persistent = True
        arrays = {
            "vectors": world.vectors,
            "queries": queries,
            "many": near(world.vectors, MANY, seed=60),
        }
        self._task: dict[str, Any] = {
            name: str(world.root / f"lance_{name}.npy") for name in arrays
        } | {"dataset": world.dataset.name, "uri": str(world.root / "lance"), "k": K}
        for name, array in arrays.items():
            np.save(self._task[name], array)

    def searches(self, cases: list[Case]) -> dict[str, Any]:
        """Builds an index and searches it, in two processes."""
        build = self._run(what="build")["build"]
        views = {case.title: case.view.view()._serialize() for case in cases}
        found = self._run(what="search", views=views)
        folder = Path(self._task["uri"])
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        self.facts = {
            "from vectors to the first answer, s": f"{build:.1f}",
            "from start to the first answer, s": f"{found['first']:.2f}",
            "memory of its own after that, MB": f"{found['memory'] / 1e6:.0f} (in your process)",
            f"{MANY} queries in one call, s": f"{found['many']:.2f}",
            "files over vectors": f"{size / self._world.vectors.nbytes:.2f}x",
        }
        return dict(found["views"])

    def _run(self, **task: Any) -> dict[str, Any]:
        script = Path(__file__).parents[1] / "lancedb_child.py"
        done = subprocess.run(
            [os.environ[_LANCEDB], str(script), json.dumps(self._task | task)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer


def _facts(engine: Engine, index_type: str) -> dict[str, str]:
    from fiftyone_milvus import embedded
    from fiftyone_milvus.connection import close_all

    world = engine.world
    path = embedded.default_path()
    kwargs = {"backend": "milvus", "metric": METRIC, "index_type": index_type}
    start = time.perf_counter()
    index = new_index(world.dataset, index_type, kwargs)
    index.add_to_index(world.vectors, world.ids)
    _answer(index, world)
    searchable = time.perf_counter() - start
    finish_lite(Engine("embedded", str(path), "", world).client, index.config.collection_name)
    ready = time.perf_counter() - start

    close_all()
    embedded.stop(path)
    world.dataset.clear_cache()
    start = time.perf_counter()
    index = world.dataset.load_brain_results(index_type)
    _answer(index, world)
    first = time.perf_counter() - start
    anonymous = _anonymous(path)

    queries = near(world.vectors, MANY, seed=60)
    start = time.perf_counter()
    index._kneighbors(queries, k=K)
    many = time.perf_counter() - start
    folder = path / "collections" / index.config.collection_name
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {
        "from vectors to the first answer, s": f"{searchable:.1f}",
        "until the index is ready, s": f"{ready:.1f}",
        "from start to the first answer, s": f"{first:.2f}",
        "memory of its own after that, MB": f"{anonymous / 1e6:.0f}",
        f"{MANY} queries in one call, s": f"{many:.2f}",
        "files over vectors": f"{size / world.vectors.nbytes:.2f}x",
    }


def _answer(index: Any, world: World) -> None:
    view = world.dataset.sort_by_similarity(world.vectors[0], k=1, brain_key=index.key)
    if view.values("id") != [world.ids[0]]:
        raise RuntimeError("wrong answer")


def _anonymous(path: Path) -> int:
    """The memory of the service that is not of files, which the system can't take back."""
    from fiftyone_milvus import embedded

    memory = psutil.Process(embedded.status(path).pid).memory_info()
    return int(memory.rss - memory.shared)
