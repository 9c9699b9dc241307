"""From 200 images with embeddings to the first answer."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from benchmarks.report import Goal, Table, ms, times
from benchmarks.timing import Contender, Ratio, take_turns
from benchmarks.world import Engine, World, make_dataset

IMAGES = 200
REPEATS = 7
_number = itertools.count()


def run(world: World) -> list[Table]:
    rows, goals, raw = [], [], {}
    for engine in world.engines:
        for cold in (False, True) if engine.name == "embedded" else (False,):
            found = take_turns(
                {
                    "ours": _first_answer(engine, built_in=False, cold=cold),
                    "built-in": _first_answer(engine, built_in=True, cold=cold),
                },
                REPEATS,
            )
            ours, built_in = found["ours"], found["built-in"]
            ratio = Ratio.of(built_in, ours)
            title = f"{engine.name}{', not running yet' if cold else ''}"
            rows.append(
                (title, ms(ours.min), ms(ours.median), ms(built_in.min), ms(built_in.median),
                 times(ratio.min), times(ratio.median))
            )  # fmt: skip
            if engine.name == "server":
                text = "200 images to first answer, server: built-in / ours"
                goals.append(Goal(text, ">= 4", ratio.min, ratio.median))
            raw[title] = {n: t.seconds for n, t in found.items()}
    columns = ("engine", "ours ms (min)", "(median)", "built-in ms (min)", "(median)",
               "built-in / ours (min)", "(median)")  # fmt: skip
    return [Table("first_answer", columns, rows, goals, raw)]


def _first_answer(engine: Engine, *, built_in: bool, cold: bool) -> Contender:
    import fiftyone.brain as fob

    dataset = make_dataset(IMAGES)
    vectors = engine.world.vectors[:IMAGES]
    first = dataset.first().id

    def contender() -> float:
        key = f"first_{next(_number)}"
        kwargs = engine.kwargs(built_in=built_in)
        if engine.name == "embedded":
            kwargs["uri"] = str(Path(kwargs["uri"]).with_name(f"first-{built_in}-{cold}.db"))
            if cold:
                _stop(Path(kwargs["uri"]), built_in=built_in)
        start = time.perf_counter()
        fob.compute_similarity(dataset, embeddings=vectors, brain_key=key, **kwargs)
        view = dataset.sort_by_similarity(first, k=25, brain_key=key)
        found = view.values("id")
        seconds = time.perf_counter() - start
        if len(found) != 25 or found[0] != first:
            raise RuntimeError(f"wrong answer: {len(found)} samples, {found[:1]} first")
        dataset.load_brain_results(key).cleanup()
        dataset.delete_brain_run(key)
        return seconds

    return contender


def _stop(path: Path, *, built_in: bool) -> None:
    if built_in:
        from milvus_lite.server_manager import server_manager_instance
        from pymilvus import connections

        for alias, _ in connections.list_connections():
            if str(path) in str(connections.get_connection_addr(alias)):
                connections.remove_connection(alias)
        server_manager_instance.release_server(str(path))
    else:
        from fiftyone_milvus import embedded
        from fiftyone_milvus.connection import close_all

        close_all()
        embedded.stop(path)
