"""The panel: its events, and what it shows."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types
import numpy as np

from fiftyone_milvus import inventory
from fiftyone_milvus.errors import FiftyOneMilvusError
from fiftyone_milvus.inventory.stored_index import open_index
from fiftyone_milvus.numbers import as_integer
from fiftyone_milvus.plugin.jobs import jobs
from fiftyone_milvus.plugin.operator import one_line
from fiftyone_milvus.plugin.panel import texts

logger = logging.getLogger(__name__)

_URI = "@fiftyone-milvus/milvus"

try:
    from fiftyone.operators.categories import Categories

    _CATEGORY: Any = Categories.CURATE
except ImportError:
    # Older Apps group panels by names
    _CATEGORY = "Curate"

_COMPARE_UP_TO = 200_000
"""Samples and vectors up to which a panel compares without being asked to: a second at most."""

_BINS = 40
_QUERIES = 200
_BUTTONS = (
    ("create_index", "Create index", "add"),
    ("sync_index", "Sync", "sync"),
    ("search", "Search", "image_search"),
    ("find_duplicates", "Near-duplicates", "file_copy"),
    ("find_unique", "Unique", "auto_awesome"),
)
_INDEX_COLUMNS = (
    ("brain_key", "Index"), ("of", "Of"), ("vectors", "Vectors"), ("in_step", "Dataset"),
    ("metric", "Metric"), ("index_type", "Index type"), ("built", "Built"), ("size", "Size"),
)  # fmt: skip
_COLLECTION_COLUMNS = (
    ("name", "Collection"), ("vectors", "Vectors"), ("owner", "Owner"), ("why", "Why"),
)  # fmt: skip
_ROW_ACTIONS = (
    ("details", "Details", "info"),
    ("sync_index", "Sync", "sync"),
    ("rename_index", "Rename", "edit"),
    ("delete_index", "Delete", "delete_outline"),
)


def _safe(handler: Callable[..., None]) -> Callable[..., None]:
    """Shows what goes wrong in an event's handler as a line in the panel."""

    @functools.wraps(handler)
    def handle(self: Any, ctx: Any) -> None:
        ctx.panel.state.set("problem", "")
        try:
            handler(self, ctx)
        except Exception as error:
            logger.debug("The Milvus panel failed", exc_info=True)
            ctx.panel.state.set("problem", str(one_line(error)))

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

    def on_load(self, ctx: Any) -> None:
        self.refresh(ctx)

    def on_change_dataset(self, ctx: Any) -> None:
        ctx.panel.state.set({"key": None, "recall": "", "plotted": False})
        self.refresh(ctx)

    @_safe
    def refresh(self, ctx: Any) -> None:
        """Asks Milvus and the dataset again."""
        self._read(ctx, compare=ctx.dataset.count() <= _COMPARE_UP_TO)

    @_safe
    def compare(self, ctx: Any) -> None:
        """Compares the IDs of each index with the dataset's."""
        self._read(ctx, compare=True)

    @_safe
    def on_details(self, ctx: Any) -> None:
        self._choose(ctx, self._row(ctx))

    @_safe
    def on_sync(self, ctx: Any) -> None:
        self._prompt(ctx, "sync_index", {"brain_key": self._row(ctx)})

    @_safe
    def on_rename(self, ctx: Any) -> None:
        self._prompt(ctx, "rename_index", {"brain_key": self._row(ctx)})

    @_safe
    def on_delete(self, ctx: Any) -> None:
        self._prompt(ctx, "delete_index", {"brain_key": self._row(ctx)})

    @_safe
    def on_button(self, ctx: Any) -> None:
        """Opens the form of an operator."""
        self._prompt(ctx, ctx.params["operator"], {})

    @_safe
    def on_clean_up(self, ctx: Any) -> None:
        self._prompt(ctx, "clean_up", {})

    @_safe
    def plot(self, ctx: Any) -> None:
        """Plots how far vectors are from their nearest other."""
        index = open_index(ctx.dataset, ctx.panel.state.key)
        distances = index.nearest_distances(progress=False)
        counts, edges = np.histogram(distances, bins=_BINS)
        centers = (edges[:-1] + edges[1:]) / 2
        bars = {
            "type": "bar",
            "x": [float(f"{x:.4g}") for x in centers],
            "y": counts.tolist(),
            "marker": {"color": "rgb(255, 109, 4)"},
            "hovertemplate": "%{y} within %{x}<extra></extra>",
        }
        ctx.panel.data.set("distances", [bars])
        ctx.panel.state.set("plotted", True)

    @_safe
    def evaluate(self, ctx: Any) -> None:
        """Measures the recall of searches."""
        index = open_index(ctx.dataset, ctx.panel.state.key)
        found = index.evaluate(queries=_QUERIES, progress=False)
        ctx.panel.state.set("recall", texts.recall(found))

    # -- what they do -----------------------------------------------------------------------------

    def _read(self, ctx: Any, *, compare: bool) -> None:
        state, data = ctx.panel.state, ctx.panel.data
        found = inventory.indexes(ctx.dataset, compare=compare)
        keys = [info.brain_key for info in found]
        data.set("indexes", [texts.index_row(info) for info in found])
        state.set({"keys": keys, "compared": compare, "jobs": texts.jobs(jobs(ctx.dataset.name))})
        if state.key not in keys:
            state.set({"key": None, "recall": "", "plotted": False})
        problems = [info.error for info in found if info.error is not None]
        status = inventory.milvus_status()
        state.set({"status": texts.status(status), "answers": status.error is None})
        if status.error is None:
            there = inventory.collections()
            data.set("collections", [texts.collection_row(info) for info in there])
            orphans = sum(info.owner == "orphan" for info in there)
            state.set({"orphans": orphans, "collection_count": len(there)})
        else:
            state.set({"orphans": 0, "collection_count": 0})
        # Of an index that is in another Milvus than the configured one
        others = [problem for problem in problems if problem != status.error]
        if others:
            state.set("problem", others[0])

    def _choose(self, ctx: Any, key: Any) -> None:
        info = inventory.index_info(ctx.dataset, key, compare=False)
        state = {"key": key, "details": texts.details(info), "recall": "", "plotted": False}
        ctx.panel.state.set(state)

    def _row(self, ctx: Any) -> str:
        keys = ctx.panel.state.keys or []
        row = as_integer(ctx.params.get("row"))
        if row is None or not 0 <= row < len(keys):
            raise FiftyOneMilvusError("The list of indexes has changed; refresh the panel")
        return str(keys[row])

    def _prompt(self, ctx: Any, operator: str, params: dict[str, Any]) -> None:
        ctx.prompt(f"{_URI}/{operator}", params=params, on_success=self.refresh)

    # -- what it shows ----------------------------------------------------------------------------

    def render(self, ctx: Any) -> Any:
        panel = types.Object()
        state = ctx.panel.state
        head = panel.h_stack("head", gap=2, align_y="center")
        head.md(state.status or "Asking Milvus ...", name="status")
        head.btn("refresh", label="Refresh", icon="refresh", on_click=self.refresh)
        if state.problem:
            panel.view("problem", types.AlertView(severity="error", label=state.problem))
        if state.jobs:
            panel.md(state.jobs, name="jobs")
        buttons = panel.h_stack("buttons", gap=1)
        for name, label, icon in _BUTTONS:
            if name == "create_index" or state.get("keys"):
                buttons.btn(
                    name,
                    label=label,
                    icon=icon,
                    variant="contained" if name == "create_index" else "outlined",
                    on_click=self.on_button,
                    params={"operator": name},
                )
        if state.get("keys") and not state.compared:
            buttons.btn(
                "compare",
                label="Compare with the dataset",
                icon="difference",
                variant="outlined",
                on_click=self.compare,
            )
        self._show_indexes(panel, state)
        if state.key:
            self._show_details(panel, state)
        self._show_collections(panel, state)
        spaced = {"container": {"sx": {"p": 2}}}
        view = types.GridView(orientation="vertical", gap=2, componentsProps=spaced)
        return types.Property(panel, view=view)

    def _show_indexes(self, panel: Any, state: Any) -> None:
        if not state.get("keys"):
            text = "This dataset has no Milvus index. Create one to search it by similarity."
            panel.md(text, name="no_index")
            return
        panel.md("**Indexes of this dataset**", name="indexes_title")
        table = types.TableView()
        for key, label in _INDEX_COLUMNS:
            table.add_column(key, label=label)
        handlers = {
            "details": self.on_details,
            "sync_index": self.on_sync,
            "rename_index": self.on_rename,
            "delete_index": self.on_delete,
        }
        for name, label, icon in _ROW_ACTIONS:
            table.add_row_action(name, handlers[name], label=label, icon=icon, tooltip=label)
        panel.list("indexes", types.Object(), view=table)

    def _show_details(self, panel: Any, state: Any) -> None:
        box = panel.v_stack("box", gap=1)
        box.md(f"**Index {state.key}**", name="details_title")
        box.md(state.details or "", name="details")
        buttons = box.h_stack("measures", gap=1)
        buttons.btn(
            "plot", label="Nearest distances", icon="bar_chart", variant="outlined",
            on_click=self.plot,
        )  # fmt: skip
        buttons.btn(
            "evaluate", label="Measure recall", icon="speed", variant="outlined",
            on_click=self.evaluate,
        )  # fmt: skip
        if state.recall:
            box.md(state.recall, name="recall")
        if state.plotted:
            panel.plot(
                "distances",
                height=260,
                layout={
                    "title": {"text": "Distance to the nearest other"},
                    "margin": {"t": 40, "b": 40, "l": 50, "r": 20},
                    "bargap": 0.05,
                },
                config={"displayModeBar": False},
            )

    def _show_collections(self, panel: Any, state: Any) -> None:
        if not state.collection_count:
            return
        panel.md("**Collections of this Milvus**", name="collections_title")
        table = types.TableView()
        for key, label in _COLLECTION_COLUMNS:
            table.add_column(key, label=label)
        panel.list("collections", types.Object(), view=table)
        if state.orphans:
            panel.btn(
                "clean_up",
                label=f"Clean up {state.orphans} of which the dataset or run is gone",
                icon="cleaning_services",
                variant="outlined",
                on_click=self.on_clean_up,
            )
