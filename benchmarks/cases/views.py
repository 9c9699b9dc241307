"""``view.sort_by_similarity(...).values("id")`` for each backend: time, and recall in the view."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from benchmarks.report import Goal, Table, ms
from benchmarks.timing import Contender, take_turns, timed
from benchmarks.vectors import Array, near, nearest, recall
from benchmarks.world import METRIC, World

K = 25
QUERIES = 15
SHARES = (0.001, 0.01, 0.1, 0.5, 0.9)


def run(world: World) -> list[Table]:
    from fiftyone import ViewField as F

    keys = {}
    for engine in world.engines:
        keys[f"ours, {engine.name}"] = engine.ours.key
        keys[f"built-in, {engine.name}"] = engine.built_in.key
    keys["sklearn"] = _sklearn(world)

    queries = near(world.vectors, QUERIES, seed=54)
    shares = np.array(world.dataset.values("share"))
    clusters = np.array(world.dataset.values("cluster"))
    views: dict[str, tuple[Any, Array]] = {"all": (world.dataset, np.full(world.rows, True))}
    for share in SHARES:
        view = world.dataset.match(F("share") < share)
        views[f"{share:.1%}".replace(".0", "")] = (view, shares < share)
    # A view that has none of the nearest: those of the clusters that the queries are not from
    foreign = ~np.isin(clusters, clusters[nearest(world.vectors, queries, 1)[:, 0]])
    foreign &= clusters % 10 == 3
    chosen = sorted({int(c) for c in clusters[foreign]})
    view = world.dataset.match(F("cluster").is_in(chosen))
    views[f"other clusters ({foreign.mean():.1%})"] = (view, foreign)

    rows, goals, raw = [], [], {}
    for title, (view, mask) in views.items():
        truth = nearest(world.vectors, queries, min(K, int(mask.sum())), mask)
        found: dict[str, list[list[int]]] = {name: [] for name in keys}
        contenders = {
            name: _contender(view, key, queries, found[name], world) for name, key in keys.items()
        }
        seconds = take_turns(contenders, QUERIES, warmup=0)
        recalls = {name: recall(found[name], truth) for name in keys}
        cells = [f"{ms(seconds[n].median)} ms, {recalls[n]:.3f}" for n in keys]
        rows.append((title, *cells))
        for name in keys:
            if name.startswith("ours"):
                short = [f for f in found[name] if len(f) != truth.shape[1]]
                if short:
                    raise RuntimeError(f"{name} found {len(short[0])} in {title}")
                if title != "all":
                    text = f"recall@25 in a view ({title}), {name}"
                    goals.append(Goal(text, ">= 0.99", recalls[name], recalls[name], unit=""))
        raw[title] = {n: {"seconds": seconds[n].seconds, "recall": recalls[n]} for n in keys}
    return [Table("views", ("view", *keys), rows, goals, raw)]


def _contender(
    view: Any, key: str, queries: Array, found: list[list[int]], world: World
) -> Contender:
    turn = itertools.count()

    def ask() -> None:
        query = queries[next(turn) % len(queries)]
        ids = view.sort_by_similarity(query, k=K, brain_key=key).values("id")
        found.append([world.row_of[i] for i in ids])

    return timed(ask)


def _sklearn(world: World) -> str:
    import fiftyone.brain as fob

    fob.compute_similarity(
        world.dataset, embeddings=world.vectors, brain_key="sklearn", backend="sklearn",
        metric=METRIC,
    )  # fmt: skip
    return "sklearn"
