"""What the Milvus panel tells the App, on each engine."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import fiftyone as fo
import pytest
from fiftyone.operators.executor import ExecutionContext, Executor
from fiftyone.operators.registry import OperatorRegistry

from fiftyone_milvus.demo.model import NAME as MODEL
from fiftyone_milvus.measuring.tuning import Trial, Tuning
from fiftyone_milvus.plugin import NAME
from fiftyone_milvus.plugin.panel import events, home, measures, plots
from tests.conftest import Engine
from tests.plugin.conftest import Run
from tests.plugin.shown import Shown
from tests.support.once import one_engine


def streamed(dataset: fo.Dataset, params: dict[str, Any]) -> Iterator[Any]:
    """Yields what the App gets of the operator that creates an index."""
    uri = f"{NAME}/create_index"
    request = {"dataset_name": dataset.name, "operator_uri": uri, "params": params}
    context = ExecutionContext(request, executor=Executor(), operator_uri=uri)
    yield from OperatorRegistry().get_operator(uri).execute(context)


def test_a_dataset_without_an_index(digits: fo.Dataset, engine: Engine) -> None:
    shown = Shown(digits).on("on_load")
    assert shown.state["cards"] == []
    assert "has no Milvus index" in shown.drawn
    assert "answers in" in shown.state["status"]
    assert engine.kwargs["uri"].removeprefix("http://") in shown.state["status"]
    assert not shown.state["problem"]


def test_an_index(
    digits: fo.Dataset, engine: Engine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("create_index", digits, brain_key="mine", model=MODEL, metric="cosine")
    digits.delete_samples(digits.limit(3))
    shown = Shown(digits).on("on_load")
    (card,) = shown.state["cards"]
    assert (card["brain_key"], card["vectors"], card["status"]) == ("mine", "60", "3 stale")
    assert card["index_type"] == {"embedded": "AUTOINDEX", "server": "HNSW"}[engine.name]
    # What uses the collections of this Milvus is folded away
    name = digits.get_brain_info("mine").config.collection_name
    assert name not in shown.drawn
    assert f"`{name}`: 60 vectors, in use: used by" in shown.on("on_others", opens=True).drawn
    assert name not in shown.on("on_others", opens=False).drawn

    shown.on("on_button", operator="sync_index", brain_key="mine")
    assert shown.prompts[-1]["operator_uri"] == f"{NAME}/sync_index"
    assert shown.prompts[-1]["params"] == {"brain_key": "mine", "panel": shown.id}
    run("sync_index", digits, brain_key="mine")
    assert shown.on("refresh").state["cards"][0]["status"] == "up to date"

    shown.on("on_more", brain_key="mine", opens=True)
    assert MODEL in shown.state["details"]
    shown.on("evaluate").done()
    # FLAT is exact, and 57 queries prove less of a graph
    bound = "1.0000" if engine.name == "embedded" else "0.9539"
    expected = f"recall@10 1.0000**, at least {bound} with 95 % confidence"
    assert expected in shown.state["recall"][1]
    shown.on("plot").done()
    (bars,) = shown.state["plotted"][1]
    assert sum(bars["y"]) == 57
    assert "recall@10" in shown.drawn
    assert "Distance to the nearest neighbor" in shown.drawn
    assert "Measure recall" not in shown.on("on_more", brain_key="mine", opens=False).drawn
    shown.on("on_more", brain_key="gone", opens=True)
    assert "no brain run 'gone'" in shown.state["problem"]

    # A large dataset is compared when one asks for it
    monkeypatch.setattr(home, "COMPARE_UP_TO", 0)
    assert shown.on("refresh").state["cards"][0]["status"] == "not compared"
    assert shown.on("compare").state["cards"][0]["status"] == "up to date"


def test_the_form_closes_and_the_panel_shows_the_work(digits: fo.Dataset, run: Run) -> None:
    shown = Shown(digits).on("on_load").on("on_button", operator="create_index")
    params = {**shown.prompts[-1]["params"], "brain_key": "mine", "model": MODEL}
    # A message would open a progress bar, which only a click closes
    assert list(streamed(digits, params)) == []
    shown.on("refresh")
    if shown.state["jobs"]:
        assert "Creating **mine**" in shown.state["jobs"]
        assert "TimerView" in shown.drawn
    shown.done()
    assert shown.state["message"] == ["success", "Index 'mine' has 60 vectors"]
    assert [card["brain_key"] for card in shown.state["cards"]] == ["mine"]
    assert "reload_dataset" in shown.calls
    assert not shown.state["jobs"]
    assert not shown.on("refresh").state["message"]

    # What failed can be corrected
    assert list(streamed(digits, params)) == []
    shown.done()
    assert shown.state["message"][0] == "error"
    assert "Brain run 'mine' already exists" in shown.state["message"][1]
    shown.on("on_again")
    problem = shown.prompts[-1]["params"].pop("problem")
    assert "already exists" in problem
    assert shown.prompts[-1]["params"] == params
    assert not shown.state["again"]


@one_engine
def test_each_button_of_an_index_opens_its_form(digits: fo.Dataset, run: Run) -> None:
    run("create_index", digits, brain_key="mine", model=MODEL)
    shown = Shown(digits).on("on_load")
    for label, name, field in (
        ("Unique", "find_unique", "How many"),
        ("Labels", "predict_labels", "Field of the labels"),
        ("Label errors", "find_label_errors", "Field of the labels"),
        ("Select", "select_samples", "Diverse"),
    ):
        (params,) = [b["params"] for b in shown.buttons(label) if b["params"]]
        prompt = shown.on("on_button", **params).prompts[-1]
        assert prompt["operator_uri"] == f"{NAME}/{name}"
        request = {"dataset_name": digits.name, "params": prompt["params"]}
        context = ExecutionContext(request, operator_uri=prompt["operator_uri"])
        form = OperatorRegistry().get_operator(prompt["operator_uri"]).resolve_input(context)
        assert field in str(form.to_json())


@one_engine
def test_an_index_that_is_being_built_refreshes_itself(
    digits: fo.Dataset, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("create_index", digits, brain_key="mine", model=MODEL)
    built = {"share": 0.45}
    ask = home.inventory.index_info

    def index_info(*args: Any, **kwargs: Any) -> Any:
        return replace(ask(*args, **kwargs), built=built["share"])

    # Rows that are in no file yet wait for no index
    assert "TimerView" not in Shown(digits).on("on_load").on("tick").drawn
    monkeypatch.setattr(home.inventory, "index_info", index_info)
    # The package has a function of the same name
    module = sys.modules["fiftyone_milvus.inventory.indexes"]
    monkeypatch.setattr(module, "index_info", index_info)
    shown = Shown(digits).on("on_load").on("tick")
    assert shown.state["cards"][0]["built"] == "45%"
    assert "TimerView" in shown.drawn
    built["share"] = 1.0
    shown.on("tick")
    assert shown.state["cards"][0]["built"] == "100%"
    assert shown.state["cards"][0]["status"] == "up to date"
    assert "TimerView" not in shown.drawn

    # A server may build nothing for so few rows: then the panel stops looking
    built["share"] = 0.0
    shown.on("refresh").on("tick")
    assert "TimerView" in shown.drawn
    for _ in range(home._LOOKS):
        shown.on("tick")
    assert "TimerView" not in shown.drawn
    assert "TimerView" in shown.on("refresh").drawn


@one_engine
def test_orphans_are_chosen_for_the_clean_up(
    digits: fo.Dataset, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("create_index", digits, brain_key="mine", model=MODEL)
    name = digits.get_brain_info("mine").config.collection_name
    monkeypatch.setattr(sys.modules["fiftyone_milvus.inventory.collections"], "UNDER_WAY", 0)
    run("delete_index", digits, brain_key="mine", what="run", confirmed=True)
    shown = Shown(digits).on("on_load").on("on_clean_up")
    assert shown.prompts[-1]["operator_uri"] == f"{NAME}/clean_up"
    assert name in shown.prompts[-1]["params"]["collections"]
    # Other tests may have left some
    count = len(shown.prompts[-1]["params"]["collections"])
    assert shown.state["orphans_text"].startswith(f"{count:,} orphaned collection")
    assert f"Clean up {count:,} ..." in shown.drawn
    run("clean_up", digits, collections=[name], confirmed=True)


def test_recall_over_latency_is_drawn(digits: fo.Dataset, engine: Engine, run: Run) -> None:
    run("create_index", digits, brain_key="mine", model=MODEL, metric="cosine")
    shown = Shown(digits).on("on_load").on("on_more", brain_key="mine", opens=True)
    shown.on("tune").done()
    assert "nothing to tune" in shown.state["drawn"]["note"]
    shown.on("compare_types").done()
    if engine.name == "server":
        # No server builds an index for 60 vectors
        assert "Only 60 vectors to compare with" in shown.state["message"][1]
        return
    traces = shown.state["drawn"]["traces"]
    assert {"FLAT", "HNSW", "IVF_FLAT"} <= {trace["name"] for trace in traces}
    (own,) = [trace for trace in traces if trace["marker"]["symbol"] == "star"]
    assert own["name"] == digits.load_brain_results("mine")._collection.layout.index_type
    assert own["y"] == [1.0]
    assert own["x"][0] > 0
    assert "PlotlyView" in shown.drawn


@one_engine
def test_the_trials_of_tune_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = [
        Trial({"ef": ef}, recall, recall - 0.01, 100, ms / 1e3, ms / 1e3, held_out=held_out)
        for ef, recall, ms, held_out in ((16, 0.9, 1, False), (32, 0.98, 2, True), (64, 1, 3, True))
    ]
    chosen = {"ef": 64, "k": 10}
    found = Tuning(0.99, 10, True, chosen, True, 1, 0.99, 3e-3, 3e-3, "HNSW", 9, 9, trials, "64")
    points = measures._tried(found)
    assert points == [("ef=32", 0.98, 2.0, False), ("ef=64", 1, 3.0, True)]
    *dots, line = plots.recall_over_latency(points, found.target)
    assert [dot["marker"]["symbol"] for dot in dots] == ["circle", "star"]
    assert line["y"] == [0.99, 0.99]


def test_the_map(digits: fo.Dataset, run: Run) -> None:
    run("create_index", digits, brain_key="mine", model=MODEL, metric="cosine")
    shown = Shown(digits).on("on_load").on("on_map", brain_key="mine").done()
    digits.reload()
    points = digits.load_brain_results("mine_map")
    assert {*points.sample_ids} == {*digits.values("id")}
    assert shown.calls["open_panel"]["name"] == "Embeddings"
    assert "60 points" in shown.state["message"][1]


@one_engine
def test_a_slow_refresh_keeps_what_a_click_has_shown(
    digits: fo.Dataset, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("create_index", digits, brain_key="mine", model=MODEL)
    shown = Shown(digits).on("on_load")
    asked, answers = threading.Event(), threading.Event()
    ask = home.inventory.milvus_status

    def slow() -> Any:
        asked.set()
        assert answers.wait(60)
        return ask()

    with ThreadPoolExecutor() as pool, monkeypatch.context() as context:
        context.setattr(home.inventory, "milvus_status", slow)
        refresh = pool.submit(shown.send, "refresh")
        assert asked.wait(60)
        shown.on("on_more", brain_key="mine", opens=True)
        assert "Measure recall" in shown.drawn
        # The browser may get the two answers in another order: either way the panel looks again
        assert "TimerView" in shown.drawn
        answers.set()
        refresh.result(60)()
    assert shown.state["key"] == "mine"
    assert "Measure recall" in shown.drawn
    assert "TimerView" in shown.drawn
    assert "TimerView" not in shown.on("tick").drawn
    assert "Measure recall" in shown.drawn
    assert events._running == {}
    # Another panel is another matter
    assert "Measure recall" not in Shown(digits).on("on_load").drawn


@one_engine
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first", "last"])
def test_an_event_that_is_sent_before_an_answer_arrives(
    digits: fo.Dataset, run: Run, order: tuple[int, int]
) -> None:
    run("create_index", digits, brain_key="mine", model=MODEL)
    shown = Shown(digits).on("on_load")
    answers = shown.send("on_more", brain_key="mine", opens=True), shown.send("refresh")
    for number in order:
        answers[number]()
        assert shown.state["key"] == "mine"
        assert "Measure recall" in shown.drawn
    assert "TimerView" in shown.drawn
    assert "TimerView" not in shown.on("tick").drawn
    assert "Measure recall" in shown.drawn


@one_engine
def test_nothing_is_drawn_again_without_a_change(
    digits: fo.Dataset, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home.texts, "status", lambda found: found.address)
    run("create_index", digits, brain_key="mine", model=MODEL)
    shown = Shown(digits).on("on_load")
    assert len(shown.patches) == 1
    drawn = shown.drawn
    assert shown.on("refresh").patches == []
    assert shown.drawn == drawn
    (changes,) = shown.on("on_more", brain_key="mine", opens=True).patches
    assert changes["key"] == "mine"
    assert "problem" not in changes
