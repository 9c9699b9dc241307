"""sync() with a model that costs nothing: images read ahead, against FiftyOne's own path.

``python -m benchmarks --engine embedded --only image-reading``

Both in this process, with what a user gets who passes no more than a model: FiftyOne reads with one
thread, and reading ahead with one more than there are cores. The reader alone decodes, and nothing
is compared, embedded or written. FiftyOne's path keeps one core busy, and reading ahead all of them
if no other program needs them: so the most that is possible is the ratio of the processor times of
this process, times the cores. The times of MongoDB and the engine come on top, on both sides.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import fiftyone as fo
import numpy as np
from PIL import Image

from benchmarks.images import Synthetic
from benchmarks.report import Goal, Table, times
from benchmarks.vectors import Array
from benchmarks.world import World, new_index

KINDS = (
    # width, height, suffix, images, batch size
    (64, 64, "jpg", 20_000, 64),
    (64, 64, "jpg", 20_000, None),
    (224, 224, "jpg", 8_000, 64),
    (640, 480, "jpg", 2_000, 64),
    (1920, 1080, "jpg", 400, 64),
)
_FILES = 16
_REPEATS = 5
_WAYS = ("FiftyOne", "ahead", "reader")


class Free(Synthetic):
    """Embeds images by what was computed before."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self._found = super().embed_all([None] * 1024)

    def embed_all(self, args: Any) -> Array:
        return self._found[: len(args)]


def run(world: World) -> list[Table]:
    rows, goals, raw = [], [], {}
    for width, height, suffix, count, batch_size in KINDS:
        dataset = _dataset(world.root, width, height, suffix, count)
        paths = dataset.values("filepath")
        walls: dict[str, list[float]] = {way: [] for way in _WAYS}
        processor: dict[str, list[float]] = {way: [] for way in _WAYS}
        for repeat in range(_REPEATS):
            for way in _WAYS:
                index = new_index(dataset, f"{way}_{repeat}", world.engines[0].kwargs())
                work = _work(way, index, paths, Free(world.dim), batch_size)
                start, used = time.perf_counter(), time.process_time()
                work()
                walls[way].append(time.perf_counter() - start)
                processor[way].append(time.process_time() - used)
                if way != "reader" and index.total_index_size != count:
                    raise RuntimeError(f"{way} left {index.total_index_size} of {count}")
                index.cleanup()
        dataset.delete()
        name = f"{width} x {height} {suffix}, batch_size={batch_size}"
        theirs, ours, _ = (min(walls[way]) for way in _WAYS)
        median = statistics.median(a / b for a, b in zip(walls["FiftyOne"], walls["ahead"]))
        used = [min(processor[way]) / count for way in _WAYS]
        cores = os.cpu_count() or 1
        rows.append(
            (
                name,
                *(f"{count / seconds:,.0f}" for seconds in (theirs, ours)),
                times(theirs / ours),
                times(median),
                *(f"{1e3 * seconds:.3f}" for seconds in used),
                times(cores * used[0] / used[1]),
            )
        )
        raw[name] = {"seconds": walls, "processor": processor}
        text = f"images/s of sync(), {name}: read ahead / FiftyOne's path"
        goals.append(Goal(text, ">= 3", theirs / ours, median))
    columns = (
        "images, free model",
        "FiftyOne's path images/s",
        "read ahead images/s",
        "best / best",
        "median ratio",
        "processor ms an image: FiftyOne's path",
        "read ahead",
        "its reader alone",
        "most that free cores allow",
    )
    return [Table("image-reading", columns, rows, goals, raw)]


def _work(
    way: str, index: Any, paths: list[str], model: Any, batch_size: int | None
) -> Callable[[], None]:
    from fiftyone_milvus.syncing import images
    from fiftyone_milvus.syncing.reader import Reader

    def read() -> None:
        with Reader(paths) as found:
            for _ in found:
                pass

    def sync() -> None:
        serves = images.serves if way == "ahead" else lambda *_: False
        with mock.patch.object(images, "serves", serves):
            index.sync(model=model, batch_size=batch_size, progress=False)

    return read if way == "reader" else sync


def _dataset(root: Path, width: int, height: int, suffix: str, count: int) -> Any:
    """Returns a dataset of some files, each of which many samples have."""
    random = np.random.default_rng(7)
    paths = []
    for i in range(_FILES):
        # As smooth as photos: noise would take several times as long to decode
        coarse = random.integers(0, 255, (height // 16, width // 16, 3), dtype=np.uint8)
        paths.append(str(root / f"{width}_{i}.{suffix}"))
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(paths[-1])
    dataset = fo.Dataset(persistent=True)
    samples = [fo.Sample(filepath=paths[i % _FILES]) for i in range(count)]
    dataset.add_samples(samples, progress=False)
    return dataset
