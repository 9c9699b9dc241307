"""More vectors than memory should hold: written, searched, restarted, deleted.

For five millions, ``--engine embedded --rows 5000000``: some 40 minutes, 30 GB of disk, 10 GB of
memory. The vectors are in a file, and the exact answers are computed piece by piece.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.report import Table
from benchmarks.vectors import Array, near, recall
from benchmarks.world import METRIC, Engine, World, finish_lite, make_dataset, new_index

K = 25
QUERIES = 15
CLUSTERS = 5_000
SHARE = 0.1
DELETED = 0.01
_PIECE = 100_000


def run(world: World) -> list[Table]:
    from fiftyone import ViewField as F

    from fiftyone_milvus import embedded
    from fiftyone_milvus.connection import close_all

    if not any(engine.name == "embedded" for engine in world.engines):
        return []
    vectors = _vectors(world)
    dataset = make_dataset(world.rows)
    ids = np.array(dataset.values("id"))
    shares = np.array(dataset.values("share"))
    queries = near(vectors, QUERIES, seed=63)
    cells: dict[str, str] = {}

    start = time.perf_counter()
    index = new_index(dataset, "millions", {"backend": "milvus", "metric": METRIC})
    for at in _pieces(world.rows):
        index.add_to_index(np.array(vectors[at]), ids[at].tolist())
    index._kneighbors(queries[0], k=K)
    cells["from vectors to the first answer, s"] = f"{time.perf_counter() - start:.0f}"
    path, name = embedded.default_path(), index.config.collection_name
    finish_lite(Engine("embedded", str(path), "", world).client, name)
    cells["until the index is ready, s"] = f"{time.perf_counter() - start:.0f}"
    cells["memory of its own after that, MB"] = _memory(path)
    folder = path / "collections" / name
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    cells["files over vectors"] = f"{size / (4 * vectors.size):.2f}x"

    close_all()
    embedded.stop(path)
    dataset.clear_cache()
    start = time.perf_counter()
    index = dataset.load_brain_results("millions")
    dataset.sort_by_similarity(queries[0], k=K, brain_key="millions").values("id")
    cells["from start to the first answer, s"] = f"{time.perf_counter() - start:.2f}"

    view = dataset.match(F("share") < SHARE)
    for title, some, inside in (
        ("whole index", dataset, np.full(world.rows, True)),
        (f"view of {SHARE:.0%}", view, shares < SHARE),
    ):
        cells[f"search, {title}"] = _searches(some, queries, ids, vectors, inside)
    cells["memory of its own after these searches, MB"] = _memory(path)

    start = time.perf_counter()
    gone = shares >= 1 - DELETED
    index.remove_from_index(ids[gone].tolist())
    cells[f"delete {DELETED:.0%}, s"] = f"{time.perf_counter() - start:.1f}"
    cells["search after that"] = _searches(dataset, queries, ids, vectors, ~gone)
    cells["memory of its own at the end, MB"] = _memory(path)
    title = f"{world.rows:,} x {world.dim}"
    return [Table("millions", ("", title), [*cells.items()], [], cells)]


def _vectors(world: World) -> Array:
    """Unit vectors in many clusters, mapped from a file."""
    file = world.root / "millions.f32"
    found = np.memmap(file, np.float32, "w+", shape=(world.rows, world.dim))
    rng = np.random.default_rng(62)
    centers = rng.standard_normal((CLUSTERS, world.dim), dtype=np.float32)
    for at in _pieces(world.rows):
        some = 0.6 * rng.standard_normal(found[at].shape, dtype=np.float32)
        some += centers[rng.integers(0, CLUSTERS, len(some))]
        found[at] = some / np.linalg.norm(some, axis=1, keepdims=True)
    return found


def _pieces(rows: int) -> Iterator[slice]:
    return (slice(at, min(at + _PIECE, rows)) for at in range(0, rows, _PIECE))


def _searches(view: Any, queries: Array, ids: Array, vectors: Array, inside: Array) -> str:
    """The first search's time, the median of the others', and recall."""
    found, seconds = [], []
    for query in queries:
        start = time.perf_counter()
        some = view.sort_by_similarity(query, k=K, brain_key="millions").values("id")
        seconds.append(time.perf_counter() - start)
        found.append(some)
    right = recall(found, ids[_nearest(vectors, queries, inside)])
    first, others = seconds[0] * 1e3, statistics.median(seconds[1:]) * 1e3
    return f"{others:.0f} ms (the first {first:.0f}), recall {right:.3f}"


def _nearest(vectors: Array, queries: Array, inside: Array) -> Array:
    """The nearest rows of each query, exactly."""
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    best = np.full((len(queries), 0), 0.0)
    rows = np.zeros((len(queries), 0), dtype=np.int64)
    for at in _pieces(len(vectors)):
        scores = np.where(inside[at], unit @ vectors[at].T, -np.inf)
        best = np.concatenate([best, scores], axis=1)
        here = np.broadcast_to(np.arange(at.start, at.stop), scores.shape)
        rows = np.concatenate([rows, here], axis=1)
        order = np.argsort(-best, axis=1)[:, :K]
        best, rows = np.take_along_axis(best, order, 1), np.take_along_axis(rows, order, 1)
    return rows


def _memory(path: Path) -> str:
    """The memory of the service that is not of files, which the system can't take back."""
    from fiftyone_milvus import embedded

    memory = psutil.Process(embedded.status(path).pid).memory_info()
    return f"{(memory.rss - memory.shared) / 1e6:.0f}"
