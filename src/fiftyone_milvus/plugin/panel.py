"""The Milvus panel: its events, and what it shows."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types
import numpy as np

from fiftyone_milvus import inventory
from fiftyone_milvus.dataset.availability import answering
from fiftyone_milvus.errors import FiftyOneMilvusError
from fiftyone_milvus.inventory.stored_index import open_index
from fiftyone_milvus.numbers import as_integer
from fiftyone_milvus.plugin import NAME
from fiftyone_milvus.plugin import panel_texts as texts
from fiftyone_milvus.plugin.jobs import jobs
from fiftyone_milvus.plugin.operator import one_line
from fiftyone_milvus.plugin.operators import leave

logger = logging.getLogger(__name__)

try:
    from fiftyone.operators.categories import Categories

    _CATEGORY: Any = Categories.CURATE
except ImportError:
    # Older Apps group panels by names
    _CATEGORY = "Curate"

_COMPARE_UP_TO = 200_000
"""Samples up to which the panel compares without a click: that takes a second at most."""

_BINS = 40
_QUERIES = 200
_BUTTONS = (
    ("create_index", "Create index", "add"),
    ("sync_index", "Sync", "sync"),
    ("search", "Search", "image_search"),
    ("find_duplicates", "Near-duplicates", "file_copy"),
    ("find_unique", "Unique", "auto_awesome"),
)
_ROW_ACTIONS = (
    ("details", "Details", "info"),
    ("sync_index", "Sync", "sync"),
    ("rename_index", "Rename", "edit"),
    ("delete_index", "Delete", "delete_outline"),
)
_UNCHOSEN = {"key": None, "details": "", "recall": None, "plotted": None}

_State = dict[str, Any]

_running: dict[object, tuple[str, _State]] = {}
"""For each running event, its panel's ID and the changes of events that ended meanwhile."""

_lock = threading.Lock()


def _event(handler: Callable[..., _State]) -> Callable[..., None]:
    """Makes an event of a handler that returns changes of the panel's state.

    The App sends the state as it is when the event begins. Without the changes of events that ended
    meanwhile, a slow event would draw the panel without them: a refresh would remove the details,
    with the button that the user is about to click. An error becomes a line in the panel.
    """

    @functools.wraps(handler)
    def handle(self: Any, ctx: Any) -> None:
        event, state = object(), ctx.panel.state
        with _lock:
            _running[event] = (ctx.panel.id, {})
        changes: _State = {"problem": ""}
        try:
            with answering():
                changes |= handler(self, ctx)
        except Exception as error:
            logger.debug("The Milvus panel failed", exc_info=True)
            changes["problem"] = str(one_line(error))
        finally:
            with _lock:
                panel_id, meanwhile = _running.pop(event)
                for other_id, missed in _running.values():
                    if other_id == panel_id:
                        missed |= changes
        # In one call, and only if there are any, as the App draws the panel for each call
        new = {n: v for n, v in changes.items() if meanwhile.get(n, state.get(n)) != v}
        if meanwhile or new:
            state.set({**meanwhile, **new})

    return handle


class MilvusPanel(foo.Panel):
    """Where Milvus is, the dataset's indexes, and the collections of this Milvus."""

    @property
    def config(self) -> Any:
        return foo.PanelConfig(
            name="milvus_panel",
            label="Milvus",
            icon="hub",
            surfaces="grid",
            category=_CATEGORY,
            help_markdown="Milvus indexes of this dataset, and the Milvus that holds them",
        )

    # -- events -----------------------------------------------------------------------------------

    @_event
    def on_load(self, ctx: Any) -> _State:
        return self._read(ctx)

    @_event
    def on_change_dataset(self, ctx: Any) -> _State:
        return {**_UNCHOSEN, **self._read(ctx)}

    @_event
    def on_change_view(self, ctx: Any) -> _State:
        """Draws the panel again, with or without the button that leaves a result."""
        return {}

    @_event
    def refresh(self, ctx: Any) -> _State:
        """Asks Milvus and the dataset again."""
        return self._read(ctx)

    @_event
    def compare(self, ctx: Any) -> _State:
        """Compares the IDs of each index with the dataset's."""
        return self._read(ctx, compare=True)

    @_event
    def on_button(self, ctx: Any) -> _State:
        """Opens the form of an operator."""
        return self._prompt(ctx, ctx.params["operator"])

    @_event
    def on_clean_up(self, ctx: Any) -> _State:
        return self._prompt(ctx, "clean_up")

    @_event
    def on_row(self, ctx: Any) -> _State:
        """Opens the form of an operator for the index of a row, or shows its details."""
        keys, row = ctx.panel.state.brain_keys or [], as_integer(ctx.params.get("row"))
        if row is None or not 0 <= row < len(keys):
            raise FiftyOneMilvusError("The list of indexes has changed; refresh the panel")
        key = keys[row]
        if ctx.params["event"] != "details":
            return self._prompt(ctx, ctx.params["event"], brain_key=key)
        info = inventory.index_info(ctx.dataset, key, compare=False)
        return {**_UNCHOSEN, "key": key, "details": texts.details(info)}

    @_event
    def plot(self, ctx: Any) -> _State:
        """Plots the distances of vectors to their nearest neighbor."""
        key = ctx.panel.state.key
        index = open_index(ctx.dataset, key)
        counts, edges = np.histogram(index.nearest_distances(progress=False), bins=_BINS)
        bars = {
            "type": "bar",
            "x": [float(f"{x:.4g}") for x in (edges[:-1] + edges[1:]) / 2],
            "y": counts.tolist(),
            "marker": {"color": "rgb(255, 109, 4)"},
            "hovertemplate": "%{y} at about %{x}<extra></extra>",
        }
        ctx.panel.data.set("distances", [bars])
        return {"plotted": key}

    @_event
    def evaluate(self, ctx: Any) -> _State:
        """Measures the recall of searches."""
        key = ctx.panel.state.key
        found = open_index(ctx.dataset, key).evaluate(queries=_QUERIES, progress=False)
        return {"recall": [key, texts.recall(found)]}

    def _read(self, ctx: Any, *, compare: bool | None = None) -> _State:
        """Returns the state that Milvus and the dataset have now."""
        dataset = ctx.dataset
        if compare is None:
            compare = dataset.count() <= _COMPARE_UP_TO
        found = inventory.indexes(dataset, compare=compare)
        status = inventory.milvus_status()
        there = inventory.collections() if status.error is None else []
        keys = [info.brain_key for info in found]
        # An index may be in another Milvus than the configured one
        problems = [i.error for i in found if i.error is not None and i.error != status.error]
        indexes, collections = map(texts.index_row, found), map(texts.collection_row, there)
        ctx.panel.data.set({"indexes": [*indexes], "collections": [*collections]})
        state = {
            "brain_keys": keys,
            "compared": compare,
            "jobs": texts.jobs(jobs(dataset.name)),
            "status": texts.status(status),
            "has_collections": bool(there),
            "orphans": sum(info.owner == "orphan" for info in there),
            "problem": problems[0] if problems else "",
        }
        gone = ctx.panel.state.key is not None and ctx.panel.state.key not in keys
        return {**state, **_UNCHOSEN} if gone else state

    def _prompt(self, ctx: Any, operator: str, **params: Any) -> _State:
        ctx.prompt(f"{NAME}/{operator}", params=params, on_success=self.refresh)
        return {}

    # -- what it shows ----------------------------------------------------------------------------

    def render(self, ctx: Any) -> Any:
        panel = types.Object()
        state = ctx.panel.state
        head = panel.h_stack("head", gap=2, align_y="center")
        head.md(state.status or "Asking Milvus ...", name="status")
        head.btn("refresh", label="Refresh", icon="refresh", on_click=self.refresh)
        if state.problem:
            panel.view("problem", types.AlertView(severity="error", label=state.problem))
        leave.draw(ctx, panel)
        if state.jobs:
            panel.md(state.jobs, name="jobs")
        buttons = panel.h_stack("buttons", gap=1)
        for name, label, icon in _BUTTONS:
            if name == "create_index" or state.brain_keys:
                buttons.btn(
                    name,
                    label=label,
                    icon=icon,
                    variant="contained" if name == "create_index" else "outlined",
                    on_click=self.on_button,
                    params={"operator": name},
                )
        if state.brain_keys and not state.compared:
            _button(buttons, "compare", "Compare with the dataset", "difference", self.compare)
        if state.brain_keys:
            panel.md("**Indexes of this dataset**", name="indexes_title")
            table = _table(texts.INDEX_COLUMNS)
            for name, label, icon in _ROW_ACTIONS:
                table.add_row_action(name, self.on_row, label=label, icon=icon, tooltip=label)
            panel.list("indexes", types.Object(), view=table)
        else:
            text = "This dataset has no Milvus index. Create one to search it by similarity."
            panel.md(text, name="no_index")
        if state.key:
            self._show_details(panel, state)
        if state.has_collections:
            panel.md("**Collections of this Milvus**", name="collections_title")
            panel.list("collections", types.Object(), view=_table(texts.COLLECTION_COLUMNS))
        if state.orphans:
            label = texts.orphans(state.orphans)
            _button(panel, "clean_up", label, "cleaning_services", self.on_clean_up)
        spaced = {"container": {"sx": {"p": 2}}}
        view = types.GridView(orientation="vertical", gap=2, componentsProps=spaced)
        return types.Property(panel, view=view)

    def _show_details(self, panel: Any, state: Any) -> None:
        box = panel.v_stack("box", gap=1)
        box.md(f"**Index {state.key}**", name="details_title")
        box.md(state.details, name="details")
        buttons = box.h_stack("measures", gap=1)
        _button(buttons, "plot", "Nearest distances", "bar_chart", self.plot)
        _button(buttons, "evaluate", "Measure recall", "speed", self.evaluate)
        # Not of an index that was chosen before
        if state.recall and state.recall[0] == state.key:
            box.md(state.recall[1], name="recall")
        if state.plotted == state.key:
            panel.plot(
                "distances",
                height=260,
                layout={
                    "title": {"text": "Distance to the nearest neighbor"},
                    "margin": {"t": 40, "b": 40, "l": 50, "r": 20},
                    "bargap": 0.05,
                },
                config={"displayModeBar": False},
            )


def _button(parent: Any, name: str, label: str, icon: str, on_click: Any) -> None:
    parent.btn(name, label=label, icon=icon, variant="outlined", on_click=on_click)


def _table(columns: dict[str, str]) -> Any:
    table = types.TableView()
    for key, label in columns.items():
        table.add_column(key, label=label)
    return table
