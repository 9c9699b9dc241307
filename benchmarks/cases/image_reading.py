"""sync() with a model that costs nothing: images read ahead, against FiftyOne's own path.

``python -m benchmarks --engine embedded --only image-reading``

Large images are shown too: they are decoded, which takes the same time either way and gains only
the second core.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any
from unittest import mock

import fiftyone as fo
import numpy as np
from PIL import Image

from benchmarks.images import Synthetic
from benchmarks.report import Goal, Table, times
from benchmarks.world import World, new_index

KINDS = (
    # width, height, suffix, images, batch size
    (64, 64, "jpg", 10_000, 64),
    (64, 64, "jpg", 10_000, None),
    (224, 224, "jpg", 4_000, 64),
    (640, 480, "jpg", 1_000, 64),
    (1920, 1080, "jpg", 200, 64),
)
_FILES = 16
_REPEATS = 5


def run(world: World) -> list[Table]:
    rows, goals, raw = [], [], {}
    engine = world.engines[0]
    for width, height, suffix, count, batch_size in KINDS:
        dataset = _dataset(world.root, width, height, suffix, count)
        found: dict[str, list[float]] = {"FiftyOne": [], "ahead": []}
        for repeat in range(_REPEATS):
            for way, seconds in found.items():
                model = Synthetic(world.dim)
                index = new_index(dataset, f"{way}_{repeat}", engine.kwargs())
                with _way(way):
                    start = time.perf_counter()
                    index.sync(model=model, batch_size=batch_size, progress=False)
                    seconds.append(time.perf_counter() - start)
                if index.total_index_size != count:
                    raise RuntimeError(f"{way} left {index.total_index_size} of {count}")
                index.cleanup()
        dataset.delete()
        ratios = [a / b for a, b in zip(found["FiftyOne"], found["ahead"])]
        name = f"{width} x {height} {suffix}, batch_size={batch_size}"
        rates = (f"{count / min(seconds):,.0f}" for seconds in found.values())
        rows.append((name, *rates, times(statistics.median(ratios))))
        raw[name] = found
        if count == KINDS[0][3]:
            text = f"images/s of sync(), {name}: read ahead / FiftyOne's path"
            best = min(found["FiftyOne"]) / min(found["ahead"])
            goals.append(Goal(text, ">= 3", best, statistics.median(ratios)))
    columns = (
        "images, free model",
        "FiftyOne's path images/s",
        "read ahead images/s",
        "median ratio",
    )
    return [Table("image-reading", columns, rows, goals, raw)]


def _way(way: str) -> Any:
    from fiftyone_milvus.syncing import images

    serves = images.serves if way == "ahead" else lambda *_: False
    return mock.patch.object(images, "serves", serves)


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
