"""What the Milvus panel tells the App, on each engine."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import pytest
from fiftyone.operators.executor import ExecutionContext, Executor

from fiftyone_milvus.demo.model import NAME as MODEL
from fiftyone_milvus.plugin.panel import panel as module
from fiftyone_milvus.plugin.panel.panel import MilvusPanel
from tests.conftest import Engine
from tests.plugin.conftest import Run


class Shown:
    """The panel after an event: what it has set, as the App keeps it."""

    def __init__(self, dataset: fo.Dataset) -> None:
        self.state: dict[str, Any] = {}
        self.data: dict[str, Any] = {}
        self.prompts: list[dict[str, Any]] = []
        self._dataset = dataset

    def on(self, event: str, **params: Any) -> Shown:
        executor = Executor()
        request = {
            "dataset_name": self._dataset.name,
            "params": {"panel_id": "panel", "panel_state": {**self.state}, **params},
        }
        panel = MilvusPanel()
        panel.plugin_name = "@fiftyone-milvus/milvus"
        ctx = ExecutionContext(request, executor=executor, operator_uri=panel.uri)
        getattr(panel, event)(ctx)
        for call in executor._requests:
            if call.operator_uri == "patch_panel_state":
                self.state.update(call.params["state"])
            elif call.operator_uri == "patch_panel_data":
                self.data.update(call.params["data"])
            elif call.operator_uri == "prompt_user_for_operation":
                self.prompts.append(call.params)
        assert panel.render(ctx).to_json()
        return self


def test_a_dataset_without_an_index(digits: fo.Dataset, engine: Engine) -> None:
    shown = Shown(digits).on("on_load")
    assert shown.state["keys"] == []
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
    assert (row["brain_key"], row["vectors"], row["in_step"]) == ("mine", "60", "3 stale")
    assert row["index_type"] == {"embedded": "FLAT", "server": "HNSW"}[engine.name]
    name = digits.get_brain_info("mine").config.collection_name
    mine = next(one for one in shown.data["collections"] if one["name"] == name)
    assert mine["owner"] == "in use"
    assert digits.name in mine["why"]

    shown.on("on_sync", row=0)
    assert shown.prompts[-1]["operator_uri"] == "@fiftyone-milvus/milvus/sync_index"
    assert shown.prompts[-1]["params"] == {"brain_key": "mine"}
    run("sync_index", digits, brain_key="mine")
    assert shown.on("refresh").data["indexes"][0]["in_step"] == "in step"

    shown.on("on_details", row=0)
    assert MODEL in shown.state["details"]
    shown.on("evaluate")
    assert "recall@10 1.0000" in shown.state["recall"]
    shown.on("plot")
    (bars,) = shown.data["distances"]
    assert sum(bars["y"]) == 57
    shown.on("on_rename", row=7)
    assert "refresh the panel" in shown.state["problem"]

    # A large dataset is compared when one asks for it
    monkeypatch.setattr(module, "_COMPARE_UP_TO", 0)
    assert shown.on("refresh").data["indexes"][0]["in_step"] == "not compared"
    assert shown.on("compare").data["indexes"][0]["in_step"] == "in step"
