"""sync() embeds and uploads at the same time: next to the longer of the two."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.images import Synthetic, make_images
from benchmarks.report import Goal, Table, s, times
from benchmarks.timing import Contender, Times, take_turns, timed
from benchmarks.world import Engine, World

REPEATS = 2
BATCH_SIZE = 256
SLACK = 2.0
_number = itertools.count()


@dataclass(frozen=True)
class Load:
    """What is embedded and uploaded.

    Attributes:
        title: which of the two takes longer
        rows: how many images
        dim: of the embeddings
        sleep: the milliseconds that the model sleeps for each, by engine
    """

    title: str
    rows: int
    dim: int
    sleep: dict[str, float]


LOADS = (
    Load("a model that takes no time", 50_000, 512, {"embedded": 0, "server": 0}),
    Load("a slow model", 50_000, 512, {"embedded": 0.3, "server": 0.3}),
    Load("as long as the upload", 25_000, 2_048, {"embedded": 0.05, "server": 0.2}),
    Load("a slow upload", 25_000, 4_096, {"embedded": 0, "server": 0}),
)


def run(world: World) -> list[Table]:
    folder = world.root / "overlap"
    datasets = {rows: make_images(rows, folder) for rows in {load.rows for load in LOADS}}
    rows, goals, raw = [], [], {}
    for engine in world.engines:
        for load in LOADS:
            found = _measure(engine, datasets[load.rows], load)
            model, upload, sync = (found[name] for name in ("model", "upload", "sync"))
            over = _over(found)
            longer = [max(pair) for pair in zip(model.seconds, upload.seconds, strict=True)]
            rows.append(
                (
                    f"{load.title}, {engine.name}",
                    f"{load.rows:,} x {load.dim:,}",
                    *(s(found[name].median) for name in ("model", "upload", "sync")),
                    times(float(np.median(np.array(sync.seconds) / longer))),
                    times(float(np.median(np.array(sync.seconds) / _sum(model, upload)))),
                )
            )
            text = f"sync, {load.title}, {engine.name} / (1.15 max(model, upload) + 2 s)"
            goals.append(Goal(text, "<= 1", min(over), float(np.median(over))))
            raw[rows[-1][0]] = {name: t.seconds for name, t in found.items()}
    for dataset in datasets.values():
        dataset.delete()
    columns = ("", "embeddings", "model alone s", "upload alone s", "sync s",
               "sync / the longer", "sync / both")  # fmt: skip
    return [Table("overlap", columns, rows, goals, raw)]


def _over(found: dict[str, Times]) -> list[float]:
    turns = zip(*(found[name].seconds for name in ("model", "upload", "sync")), strict=True)
    return [sync / (1.15 * max(model, upload) + SLACK) for model, upload, sync in turns]


def _sum(one: Times, other: Times) -> Any:
    return np.array(one.seconds) + np.array(other.seconds)


def _measure(engine: Engine, dataset: Any, load: Load) -> dict[str, Times]:
    model = Synthetic(load.dim, load.sleep[engine.name] / 1e3)
    vectors = Synthetic(load.dim).embed_all(range(load.rows))
    ids = np.array(dataset.values("id"))

    def new() -> Any:
        import fiftyone.brain as fob

        kwargs = {**engine.kwargs(), "index_type": "FLAT", "embeddings": False}
        return fob.compute_similarity(dataset, brain_key=f"o_{next(_number)}", **kwargs)

    def on_new(work: Any) -> Contender:
        def contender() -> float:
            index = new()
            seconds = timed(lambda: work(index))()
            index.cleanup()
            dataset.delete_brain_run(index.key)
            return seconds

        return contender

    embed = {"model": model, "batch_size": BATCH_SIZE}
    contenders = {
        # As FiftyOne does it, all at once
        "model": on_new(lambda index: index.compute_embeddings(dataset, **embed)),
        "upload": on_new(lambda index: index.add_to_index(vectors, ids)),
        "sync": on_new(lambda index: index.sync(**embed)),
    }
    return take_turns(contenders, REPEATS, warmup=0)
