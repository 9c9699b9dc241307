"""The Milvus panel as the App's server and browser run it, without a browser."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import fiftyone as fo
from fiftyone.operators.executor import ExecutionContext, Executor

from fiftyone_milvus.plugin import jobs
from fiftyone_milvus.plugin.panel import MilvusPanel
from tests.support.waiting import wait_until


class Shown:
    """The panel in the App: its state, its data and what it draws."""

    def __init__(self, dataset: fo.Dataset) -> None:
        self.state: dict[str, Any] = {}
        self.data: dict[str, Any] = {}
        self.prompts: list[dict[str, Any]] = []
        self.calls: dict[str, Any] = {}
        self.patches: list[dict[str, Any]] = []
        self.drawn = ""
        self.view: Any = None
        self.id = f"panel-{uuid.uuid4()}"
        self._dataset = dataset

    def on(self, event: str, /, **params: Any) -> Shown:
        self.send(event, **params)()
        return self

    def done(self) -> Shown:
        """Lets the panel look until nothing is being done; returns itself."""
        wait_until(lambda: not jobs.jobs(self._dataset.name))
        return self.on("tick")

    def buttons(self, label: str) -> list[dict[str, Any]]:
        """Returns the buttons with a label in what is drawn."""
        found, parts = [], [json.loads(self.drawn)]
        while parts:
            part = parts.pop()
            if isinstance(part, dict) and part.get("label") == label and "params" in part:
                found.append(part)
            parts += part.values() if isinstance(part, dict) else part
            parts = [one for one in parts if isinstance(one, dict | list)]
        return found

    def send(self, event: str, /, **params: Any) -> Callable[[], None]:
        """Lets an event happen; returns what takes its answer, and with it its changes."""
        executor = Executor()
        request = {
            "dataset_name": self._dataset.name,
            "view": self.view,
            "params": {
                "panel_id": self.id,
                "panel_state": {**self.state},
                "__method__": event,
                **params,
            },
        }
        panel = MilvusPanel()
        panel.plugin_name = "@fiftyone-milvus/milvus"
        ctx = ExecutionContext(request, executor=executor, operator_uri=panel.uri)
        panel.execute(ctx)

        def answer() -> None:
            self.patches = []
            for call in executor._requests:
                if call.operator_uri == "show_panel_output":
                    self.drawn = json.dumps(call.params["output"])
                elif call.operator_uri == "patch_panel_state":
                    self.patches.append(call.params["state"])
                    self.state.update(call.params["state"])
                elif call.operator_uri == "patch_panel_data":
                    self.data.update(call.params["data"])
                elif call.operator_uri == "prompt_user_for_operation":
                    self.prompts.append(call.params)
                else:
                    self.calls[call.operator_uri] = call.params

        return answer
