"""A search in the real App: the operator that its browser side calls, and click to grid."""

from __future__ import annotations

import importlib.util
import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fiftyone.brain as fob
from tests.app.page import VIEWPORT, AppPage
from tests.app.search_form import SearchForm
from tests.app.server import AppServer

from benchmarks.images import make_images
from benchmarks.report import Goal, Table, ms, s, times
from benchmarks.timing import Contender, Ratio, Times, take_turns, timed
from benchmarks.vectors import nearest, recall
from benchmarks.world import METRIC, Engine, World

K = 25
OPERATOR = "@voxel51/panels/similarity_search"
OTHER = "sklearn"
TURNS, CLICKS = 5, 3


def run(world: World) -> list[Table]:
    if importlib.util.find_spec("plugins.panels.similarity_search") is None:
        raise RuntimeError("this FiftyOne has no Similarity Search panel")
    dataset = make_images(world.rows, world.root / "app")
    dataset.set_values("number", list(range(world.rows)), progress=False)
    fob.compute_similarity(
        dataset, embeddings=world.vectors, brain_key=OTHER, backend=OTHER, metric=METRIC
    )
    rows, goals, raw = [], [], {}
    for engine in world.engines:
        key = f"ours_{engine.name}"
        index = fob.compute_similarity(
            dataset, embeddings=world.vectors, brain_key=key, **engine.kwargs()
        )
        with _server(engine) as server:
            asked = _operator(world, server, dataset, key)
            clicked = _browser(server, dataset, key)
        index.cleanup()
        for what, found in (("operator", asked), ("click to grid", clicked)):
            ours, theirs = found[key], found[OTHER]
            ratio = Ratio.of(theirs, ours)
            shown = map(_shown, (ours.min, ours.median, theirs.min, theirs.median))
            rows.append((f"{what}, {engine.name}", *shown, times(ratio.median)))
            text = f"the App's search ({what}), {engine.name}: sklearn / ours"
            goals.append(Goal(text, ">= 1", ratio.min, ratio.median))
            raw[f"{what}, {engine.name}"] = {name: t.seconds for name, t in found.items()}
    dataset.delete()
    columns = ("search", "ours (min)", "(median)", "sklearn (min)", "(median)", "sklearn / ours")
    return [Table("app", columns, rows, goals, raw)]


@contextmanager
def _server(engine: Engine) -> Iterator[AppServer]:
    environment = {"FIFTYONE_BRAIN_SIMILARITY_MILVUS_URI": engine.uri}
    server = AppServer(environment, engine.world.root / f"app-{engine.name}.log")
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


def _operator(world: World, server: AppServer, dataset: Any, key: str) -> dict[str, Times]:
    """Asks as the browser does, with a sample; the first time, the server loads the index."""
    ids = dataset.values("id")
    at = {_id: i for i, _id in enumerate(ids)}
    store = "similarity_search_panel"
    rows = [world.rows * i // TURNS for i in range(TURNS)]
    truth = nearest(world.vectors, world.vectors[rows], K)
    found: dict[str, list[list[int]]] = {key: [], OTHER: []}

    def contender(name: str) -> Contender:
        turn = itertools.count()

        def ask() -> None:
            query = ids[rows[next(turn) % TURNS]]
            params = {"brain_key": name, "query": [query], "query_type": "image", "k": K}
            done = server.execute(OPERATOR, dataset.name, params)
            found[name].append([at[i] for i in _results(dataset, store, done["run_id"])])

        return timed(ask)

    measured = take_turns({name: contender(name) for name in found}, TURNS, warmup=0)
    for name, answers in found.items():
        share = recall(answers, truth)
        # FiftyOne's default subtracts the mean of all vectors, which is another cosine
        if share < (0.99 if name == key else 0.9):
            raise RuntimeError(f"{name} found {share:.3f} of the nearest in the App")
    # Without the first turn, in which the server loaded the indexes
    return {name: Times(t.seconds[1:]) for name, t in measured.items()}


def _shown(seconds: float) -> str:
    return f"{s(seconds)} s" if seconds >= 1 else f"{ms(seconds)} ms"


def _results(dataset: Any, store: str, run_id: str) -> list[str]:
    from fiftyone.operators.store import ExecutionStore

    found: Any = ExecutionStore.create(store, dataset._doc.id).get(f"run:{run_id}")
    return list(found["result_ids"])


def _browser(server: AppServer, dataset: Any, key: str) -> dict[str, Times]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        context = browser.new_context(viewport=VIEWPORT)
        context.add_init_script("window.IS_PLAYWRIGHT = true")
        app = AppPage(context.new_page(), server.url, dataset)
        # Without a model, the App offers its panel for what is selected only; then not any more
        app.select(0)
        form = SearchForm(app, patience=300)
        app.select(0)
        turn = itertools.count()

        def contender(name: str) -> Contender:
            def search() -> float:
                app.select(next(turn) % 8)
                form.search(index=name, k=K)
                app.clear()
                return form.seconds

            return search

        try:
            return take_turns({name: contender(name) for name in (key, OTHER)}, CLICKS)
        finally:
            browser.close()
