"""What the Milvus panel tells the App, on each engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fiftyone as fo
import pytest
from fiftyone.operators.executor import ExecutionContext, Executor

from fiftyone_milvus.demo.model import NAME as MODEL
from fiftyone_milvus.plugin import panel as module
from fiftyone_milvus.plugin.panel import MilvusPanel
from tests.conftest import Engine
from tests.plugin.conftest import Run


class Shown:
    """The panel in the App: its state, its data and what it draws."""

    def __init__(self, dataset: fo.Dataset) -> None:
        self.state: dict[str, Any] = {}
        self.data: dict[str, Any] = {}
        self.prompts: list[dict[str, Any]] = []
        self.patches: list[dict[str, Any]] = []
        self.drawn = ""
        self._dataset = dataset

    def on(self, event: str, /, **params: Any) -> Shown:
        self.send(event, **params)()
        return self

    def send(self, event: str, /, **params: Any) -> Callable[[], None]:
        """Lets an event happen; returns what takes its answer, and with it its changes."""
        executor = Executor()
        request = {
            "dataset_name": self._dataset.name,
            "params": {"panel_id": "panel", "panel_state": {**self.state}, **params},
        }
        panel = MilvusPanel()
        panel.plugin_name = "@fiftyone-milvus/milvus"
        ctx = ExecutionContext(request, executor=executor, operator_uri=panel.uri)
        getattr(panel, event)(ctx)
        drawn = json.dumps(panel.render(ctx).to_json())

        def answer() -> None:
            self.drawn, self.patches = drawn, []
            for call in executor._requests:
                if call.operator_uri == "patch_panel_state":
                    self.patches.append(call.params["state"])
                    self.state.update(call.params["state"])
                elif call.operator_uri == "patch_panel_data":
                    self.data.update(call.params["data"])
                elif call.operator_uri == "prompt_user_for_operation":
                    self.prompts.append(call.params)

        return answer


def test_a_dataset_without_an_index(digits: fo.Dataset, engine: Engine) -> None:
    shown = Shown(digits).on("on_load")
    assert shown.state["brain_keys"] == []
    assert shown.data["indexes"] == []
    assert "answers in" in shown.state["status"]
    assert engine.kwargs["uri"].removeprefix("http://") in shown.state["status"]
    assert not shown.state["problem"]


def test_an_index(
    digits: fo.Dataset, engine: Engine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("create_index", digits, brain_key="mine", model=MODEL, metric="cosine")
    digits.delete_samples(digits.limit(3))
    shown = Shown(digits).on("on_load")
    (row,) = shown.data["indexes"]
    assert (row["brain_key"], row["vectors"], row["status"]) == ("mine", "60", "3 stale")
    assert row["index_type"] == {"embedded": "AUTOINDEX", "server": "HNSW"}[engine.name]
    name = digits.get_brain_info("mine").config.collection_name
    mine = next(one for one in shown.data["collections"] if one["name"] == name)
    assert mine["owner"] == "in use"
    assert digits.name in mine["why"]

    shown.on("on_row", event="sync_index", row=0)
    assert shown.prompts[-1]["operator_uri"] == "@fiftyone-milvus/milvus/sync_index"
    assert shown.prompts[-1]["params"] == {"brain_key": "mine"}
    run("sync_index", digits, brain_key="mine")
    assert shown.on("refresh").data["indexes"][0]["status"] == "up to date"

    shown.on("on_row", event="details", row=0)
    assert MODEL in shown.state["details"]
    shown.on("evaluate")
    # FLAT is exact, and 57 queries prove less of a graph
    bound = "1.0000" if engine.name == "embedded" else "0.9539"
    expected = f"recall@10 1.0000**, at least {bound} with 95 % confidence"
    assert expected in shown.state["recall"][1]
    shown.on("plot")
    (bars,) = shown.data["distances"]
    assert sum(bars["y"]) == 57
    assert "recall@10" in shown.drawn
    assert "Distance to the nearest neighbor" in shown.drawn
    shown.on("on_row", event="rename_index", row=7)
    assert "refresh the panel" in shown.state["problem"]

    # A large dataset is compared when one asks for it
    monkeypatch.setattr(module, "_COMPARE_UP_TO", 0)
    assert shown.on("refresh").data["indexes"][0]["status"] == "not compared"
    assert shown.on("compare").data["indexes"][0]["status"] == "up to date"


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_a_slow_refresh_keeps_what_a_click_has_shown(
    digits: fo.Dataset, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("create_index", digits, brain_key="mine", model=MODEL)
    shown = Shown(digits).on("on_load")
    asked, answers = threading.Event(), threading.Event()
    ask = module.inventory.milvus_status

    def slow() -> Any:
        asked.set()
        assert answers.wait(60)
        return ask()

    with ThreadPoolExecutor() as pool, monkeypatch.context() as context:
        context.setattr(module.inventory, "milvus_status", slow)
        refresh = pool.submit(shown.send, "refresh")
        assert asked.wait(60)
        shown.on("on_row", event="details", row=0)
        assert "Measure recall" in shown.drawn
        answers.set()
        refresh.result(60)()
    assert shown.state["key"] == "mine"
    assert "Measure recall" in shown.drawn
    assert module._running == {}
    # Another panel is another matter
    assert "Measure recall" not in Shown(digits).on("on_load").drawn


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_nothing_is_drawn_again_without_a_change(
    digits: fo.Dataset, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.texts, "status", lambda found: found.address)
    run("create_index", digits, brain_key="mine", model=MODEL)
    shown = Shown(digits).on("on_load")
    assert len(shown.patches) == 1
    drawn = shown.drawn
    assert shown.on("refresh").patches == []
    assert shown.drawn == drawn
    (changes,) = shown.on("on_row", event="details", row=0).patches
    assert changes["key"] == "mine"
    assert "problem" not in changes
