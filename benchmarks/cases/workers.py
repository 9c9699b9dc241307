"""sync() with processes, and a model that computes on one core.

``python -m benchmarks --engine embedded --only workers``

The machine must be quiet: with two cores, two workers need both.
"""

from __future__ import annotations

import statistics
import threading
import time
from contextlib import suppress
from typing import Any

import fiftyone.core.models as fom
import numpy as np
import psutil

from benchmarks.images import make_images
from benchmarks.report import Goal, Table, s, times
from benchmarks.world import World, new_index

#: How many images, by how often the model transforms one. The second takes as long as a small
#: convolutional network does on one core.
MODELS = {24: 6_000, 100: 2_000}
_SIDE = 96
_REPEATS = 2


class Computing(fom.Model):
    """Embeds an image by its spectrum, which numpy computes on one core.

    Args:
        steps: how often
    """

    media_type = "image"
    has_embeddings = True
    can_embed_prompts = False
    ragged_batches = False
    transforms = None
    preprocess = False

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def predict(self, arg: Any) -> None:
        raise NotImplementedError

    def embed(self, arg: Any) -> Any:
        large = np.kron(np.asarray(arg, dtype=float).mean(axis=2), np.ones((12, 12)))[
            :_SIDE, :_SIDE
        ]
        for _ in range(self.steps):
            spectrum = np.abs(np.fft.fft2(large))
            large = np.log1p(spectrum)
        return large[0, :64].astype(np.float32)

    def embed_all(self, args: Any) -> Any:
        return np.stack([self.embed(arg) for arg in args])


def run(world: World) -> list[Table]:
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    raw: dict[str, Any] = {}
    for steps, images in MODELS.items():
        model = Computing(steps)
        start = time.perf_counter()
        model.embed(np.zeros((8, 8, 3)))
        name = f"{(time.perf_counter() - start) * 1e3:.0f} ms"
        found = _synced(world, model, images)
        best = {workers: min(runs)[0] for workers, runs in found.items()}
        rows += [
            (
                name,
                str(workers),
                s(best[workers]),
                f"{images / best[workers]:,.0f}",
                times(best[1] / best[workers]),
                f"{max(memory for _, memory in runs) / 1e6:.0f}" if workers else "",
            )
            for workers, runs in found.items()
        ]
        median = statistics.median(one / two for (one, _), (two, _) in zip(found[1], found[2]))
        text = f"images/s of sync(), a model of {name}, 2 workers / 1"
        goals.append(Goal(text, ">= 1.7", best[1] / best[2], median))
        raw[name] = {str(workers): runs for workers, runs in found.items()}
    columns = (
        "model, on one core",
        "workers=",
        "s",
        "images/s",
        "/ workers=1",
        "memory of a worker MB",
    )
    return [Table("workers", columns, rows, goals, raw)]


def _synced(
    world: World, model: Computing, images: int
) -> dict[int | None, list[tuple[float, float]]]:
    """The seconds of each sync, and the most memory of a worker, by number of workers."""
    dataset = make_images(images, world.root / f"computing-{images}")
    found: dict[int | None, list[tuple[float, float]]] = {}
    for repeat in range(_REPEATS):
        for workers in (None, 1, 2):
            index = new_index(dataset, f"w{workers}_{repeat}", world.engines[0].kwargs())
            with _Memory() as memory:
                start = time.perf_counter()
                index.sync(model=model, workers=workers, progress=False)
                seconds = time.perf_counter() - start
            if index.total_index_size != images:
                raise RuntimeError(f"{workers=} left {index.total_index_size} of {images}")
            found.setdefault(workers, []).append((seconds, memory.peak))
            index.cleanup()
    dataset.delete()
    return found


class _Memory:
    """Looks at the memory of child processes meanwhile.

    Attributes:
        peak: the most that one of them had of its own, in bytes
    """

    def __init__(self) -> None:
        self.peak = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.5):
            for child in psutil.Process().children():
                with suppress(psutil.Error):
                    if "syncing.worker" in " ".join(child.cmdline()):
                        self.peak = max(self.peak, child.memory_full_info().uss)
