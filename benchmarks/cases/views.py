"""``view.sort_by_similarity(...).values("id")`` for each backend: time, and recall in the view."""

from __future__ import annotations

import itertools
from typing import Any

from benchmarks.report import Goal, Table, ms
from benchmarks.timing import Contender, Ratio, take_turns, timed
from benchmarks.vectors import Array, nearest, recall
from benchmarks.views import queries_and_views
from benchmarks.world import METRIC, World

K = 25
QUERIES = 15
MOST_SECONDS = 5.0
"""Of a backend in a view; LanceDB takes ten seconds for a query in a large one."""

_SERVER_GOALS = {"1%": 1.0, "10%": 0.75, "50%": 0.2, "90%": 0.1}


def run(world: World) -> list[Table]:
    keys = {}
    for engine in world.engines:
        keys[f"ours, {engine.name}"] = engine.ours.key
        keys[f"ours with fields, {engine.name}"] = engine.with_fields.key
        keys[f"built-in, {engine.name}"] = engine.built_in.key
    keys["sklearn"] = _other(world, "sklearn")
    keys["lancedb"] = _other(world, "lancedb", uri=str(world.root / "lancedb"))

    queries, cases = queries_and_views(world, QUERIES)
    rows, goals, raw = [], [], {}
    all_times = {}
    for case in cases:
        truth = nearest(world.vectors, queries, min(K, int(case.inside.sum())), case.inside)
        found: dict[str, list[list[int]]] = {name: [] for name in keys}
        contenders = {
            name: _contender(case.view, key, queries, found[name], world)
            for name, key in keys.items()
        }
        times = take_turns(contenders, QUERIES, warmup=0, most_seconds=MOST_SECONDS)
        all_times[case.title] = times
        recalls = {name: recall(some, truth[: len(some)]) for name, some in found.items()}
        cells = [f"{ms(times[n].median)} ms, {recalls[n]:.3f}" for n in keys]
        rows.append((case.title, *cells))
        for name in keys:
            if name.startswith("ours"):
                short = [f for f in found[name] if len(f) != truth.shape[1]]
                if short:
                    raise RuntimeError(f"{name} found {len(short[0])} in {case.title}")
                if case.title != "all":
                    text = f"recall@25 in a view ({case.title}), {name}"
                    goals.append(Goal(text, ">= 0.99", recalls[name], recalls[name], unit=""))
        raw[case.title] = {n: {"seconds": times[n].seconds, "recall": recalls[n]} for n in keys}
    for engine in world.engines:
        for name in (f"ours, {engine.name}", f"ours with fields, {engine.name}"):
            goals += _goals(engine.name, name, all_times)
    return [Table("views", ("view", *keys), rows, goals, raw)]


def _goals(engine: str, name: str, times: dict[str, dict[str, Any]]) -> list[Goal]:
    whole = times["all"]
    limit = "<= 1.1" if engine == "server" else "<= 0.5"
    goals = [_goal(f"whole index, {name} / built-in", limit, whole, name, f"built-in, {engine}")]
    if engine == "server":
        for title, factor in _SERVER_GOALS.items():
            text = f"view ({title}), {name} / sklearn"
            goals.append(_goal(text, f"<= {factor}", times[title], name, "sklearn"))
    else:
        for title, found in times.items():
            if title != "all":
                # Not of one turn: the median of all turns of each
                ratio = Ratio(
                    found[name].min / whole[name].min, found[name].median / whole[name].median
                )
                text = f"view ({title}) / whole index, {name}"
                goals.append(Goal(text, "<= 1.5", ratio.min, ratio.median))
    return goals


def _goal(text: str, wanted: str, times: dict[str, Any], one: str, other: str) -> Goal:
    ratio = Ratio.of(times[one], times[other])
    return Goal(text, wanted, ratio.min, ratio.median)


def _contender(
    view: Any, key: str, queries: Array, found: list[list[int]], world: World
) -> Contender:
    turn = itertools.count()

    def ask() -> None:
        query = queries[next(turn) % len(queries)]
        ids = view.sort_by_similarity(query, k=K, brain_key=key).values("id")
        found.append([world.row_of[i] for i in ids])

    return timed(ask)


def _other(world: World, backend: str, **kwargs: Any) -> str:
    import fiftyone.brain as fob

    fob.compute_similarity(
        world.dataset,
        embeddings=world.vectors,
        brain_key=backend,
        backend=backend,
        metric=METRIC,
        **kwargs,
    )
    return backend
