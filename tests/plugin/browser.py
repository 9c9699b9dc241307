"""The App's browser side, as far as operators see it: what it shows, sends and is told."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import fiftyone as fo
from bson import json_util
from fiftyone.operators.executor import ExecutionContext, execute_or_delegate_operator
from fiftyone.operators.registry import OperatorRegistry

from fiftyone_milvus.plugin import NAME


class Browser:
    """A tab of the App on a dataset.

    Args:
        dataset: what it shows
        view: the view that it shows at first

    Attributes:
        stages: those of the view bar, as JSON
        filters: those of the sidebar
        selected: the selected samples: dicts with ``id`` and ``type``
        fields: those that thumbnails show
        said: the messages that were shown, with their variants
        form: the parameters of the form that is open, or None
    """

    def __init__(self, dataset: fo.Dataset, view: Any = None) -> None:
        self.dataset = dataset
        self.stages: list[Any] = (
            [] if view is None else json.loads(json_util.dumps(view._serialize()))
        )
        self.filters: dict[str, Any] = {}
        self.selected: list[dict[str, str]] = []
        self.labels: list[dict[str, str]] = []
        self.fields = ["number"]
        self.said: list[tuple[str, str]] = []
        self.form: dict[str, Any] | None = None

    def request(self, operator: str, params: dict[str, Any]) -> dict[str, Any]:
        return {
            "operator_uri": f"{NAME}/{operator}",
            "dataset_name": self.dataset.name,
            "params": params,
            "view": self.stages,
            "filters": self.filters,
            "extended": {},
            "selected": [one["id"] for one in self.selected],
            "selected_samples": self.selected,
            "selected_labels": self.labels,
            "active_fields": self.fields,
        }

    def inputs(self, operator: str, **params: Any) -> dict[str, Any]:
        """Returns the properties of a form, by name, as JSON."""
        ctx = ExecutionContext(self.request(operator, params))
        found = OperatorRegistry().get_operator(f"{NAME}/{operator}").resolve_input(ctx)
        return found.to_json()["type"]["properties"]

    def choices(self, operator: str, name: str, **params: Any) -> dict[str, str]:
        """Returns the labels of a choice in a form, by value."""
        view = self.inputs(operator, **params)[name]["view"]
        return {one["value"]: one["label"] for one in view["choices"]}

    def run(self, operator: str, **params: Any) -> Any:
        """Fills in a form as the App does, with its defaults, and executes it.

        Returns:
            the result
        """
        self.form = None
        for name, one in self.inputs(operator, **params).items():
            if one["default"] is not None and name not in params:
                params[name] = one["default"]
        uri = f"{NAME}/{operator}"
        done = asyncio.run(execute_or_delegate_operator(uri, self.request(operator, params)))
        messages = list(done.result) if done.is_generator else []
        for call in done.executor._requests if not messages else [m.body for m in messages]:
            self._follow(call.operator_uri.rpartition("/")[2], call.params or {})
        return done.result

    def shown(self) -> list[str]:
        """Returns the IDs that the grid shows, in its order."""
        view = ExecutionContext(self.request("search", {})).view
        return view.values("id")

    def select(self, *ids: str, negative: bool = False) -> None:
        kind = "alt" if negative else "default"
        self.selected += [{"id": _id, "type": kind} for _id in ids]

    def _follow(self, call: str, params: dict[str, Any]) -> None:
        if call == "set_view":
            self.stages, self.filters = params["view"], {}
        elif call == "clear_selected_samples":
            self.selected = []
        elif call == "set_active_fields":
            self.fields = params["fields"]
        elif call == "notify":
            self.said.append((params["variant"], params["message"]))
        elif call == "prompt_user_for_operation":
            self.form = params["params"]
