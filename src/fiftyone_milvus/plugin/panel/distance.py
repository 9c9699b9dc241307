"""The panel's page on which a distance is chosen, on a histogram, to search for duplicates."""

from __future__ import annotations

import itertools
from typing import Any

import fiftyone.operators.types as types

from fiftyone_milvus.curation.notes import noted
from fiftyone_milvus.inventory.stored_index import open_index
from fiftyone_milvus.numbers import as_number, check_distance
from fiftyone_milvus.plugin import preview, review
from fiftyone_milvus.plugin.jobs import Job, Outcome
from fiftyone_milvus.plugin.panel import layout, plots
from fiftyone_milvus.plugin.panel.events import State, event, is_view, work
from fiftyone_milvus.plugin.panel.home import Home
from fiftyone_milvus.plugin.panel.shown_group import shown_group

CLOSED: State = {"page": None, "duplicates": None, "group": None}
_BINS = 30
_boxes = itertools.count()


class Distance(Home):
    """The events of the page, and how it is drawn."""

    @event
    def on_choose(self, ctx: Any) -> State:
        """Shows the histogram, for another distance."""
        return self._choose(ctx, ctx.panel.state.duplicates["key"])

    @event
    def on_histogram(self, ctx: Any) -> State:
        """Reads the vectors of a large index."""
        known = ctx.panel.state.duplicates
        return self._read_distances(ctx, known["key"], known)

    @event
    def on_bar(self, ctx: Any) -> State:
        """Takes the upper end of the bar that was clicked."""
        known, x = ctx.panel.state.duplicates, as_number(ctx.params.get("x"))
        if x is None:
            return {}
        above = [edge for edge in known["edges"][1:] if edge > x]
        return self._within(ctx, above[0] if above else known["edges"][-1])

    @event
    def on_row(self, ctx: Any) -> State:
        """Takes the distance of the row that was clicked."""
        rows, row = ctx.panel.state.duplicates["rows"], ctx.params.get("row")
        if not isinstance(row, int) or not 0 <= row < len(rows):
            return {}
        return self._within(ctx, rows[row]["thresh"])

    @event
    def on_thresh(self, ctx: Any) -> State:
        """Counts for the distance that was typed."""
        known, value = ctx.panel.state.duplicates or {}, as_number(ctx.params.get("value"))
        # A box that was replaced may still tell what it had
        is_old = ctx.params["path"].rpartition(".")[2] != known.get("box")
        if value is None or is_old or value == known["thresh"]:
            return {}
        return {"duplicates": self._counted(ctx, value)}

    @event
    def on_scope(self, ctx: Any) -> State:
        """Compares the samples of the current view, or of the dataset."""
        known = ctx.panel.state.duplicates
        return {"duplicates": {**known, "in_view": not known["in_view"]}}

    @event
    def on_find(self, ctx: Any) -> State:
        """Finds the groups, as ``find_groups()`` does, writes them and shows the first."""
        known = ctx.panel.state.duplicates
        key, thresh = known["key"], check_distance(_shown(ctx))
        samples = ctx.view if known["in_view"] else ctx.dataset
        index = open_index(ctx.dataset, key)
        field = index.config.patches_field
        review.check(ctx.dataset, field)

        def find(job: Job) -> Outcome:
            job.report(None, "Reading vectors and comparing")
            groups = index._restricted(samples).find_groups(thresh, progress=False)
            if not len(groups):
                return Outcome(f"No duplicates within {thresh:.4g}; try a larger distance", "info")
            job.report(None, "Writing the groups")
            groups.save()
            review.forget(ctx.dataset)
            found = review.loaded(ctx.dataset, key)
            shown = shown_group(found, found.next_undecided(0))
            text = noted("", stale=groups.stale)
            return Outcome(text, "warning", {"page": "review", **shown}, follow_up=_reload)

        return work(ctx, key, "Finding duplicates", find)

    @event
    def on_back(self, ctx: Any) -> State:
        """Shows the first page."""
        return {**CLOSED, **self.read(ctx)}

    def _choose(self, ctx: Any, key: str) -> State:
        in_view = is_view(ctx)
        size = open_index(ctx.dataset, key).total_index_size
        known: State = {"key": key, "rows": [], "edges": [], "size": size, **_box(None)}
        known["in_view"] = in_view
        state: State = {"page": "distance", "duplicates": known, "group": None}
        if size <= preview.AT_ONCE:
            self._read_distances(ctx, key, known)
        return state

    def _read_distances(self, ctx: Any, key: str, known: State) -> State:

        def read(job: Job) -> Outcome:
            job.report(None, "the distances of samples to their nearest neighbors")
            found = preview.of(ctx.dataset, key)
            edges, counts = plots.histogram(found.distances, _BINS)
            thresh = found.suggestion
            read = {**known, **_box(thresh), "edges": edges, "counts": counts}
            read["rows"] = _rows(found, thresh)
            return Outcome(state={"duplicates": read}, data={"counts": read["rows"]})

        return work(ctx, key, "Reading", read)

    def _within(self, ctx: Any, thresh: float) -> State:
        return {"duplicates": {**self._counted(ctx, thresh), **_box(thresh)}}

    def _counted(self, ctx: Any, thresh: float) -> State:
        known = {**ctx.panel.state.duplicates, "thresh": thresh}
        if known["edges"]:
            known["rows"] = _rows(preview.of(ctx.dataset, known["key"]), thresh)
            ctx.panel.data.set("counts", known["rows"])
        return known

    def draw_distance(self, panel: Any, state: Any) -> None:
        """Draws the histogram, the counts and the button that finds the groups."""
        known = state.duplicates
        layout.head(panel, f"**Duplicates in {known['key']}**", self.on_back)
        self.draw_messages(panel, state)
        if known["edges"]:
            text = "Samples by the distance to their nearest neighbor: click the largest distance "
            panel.md(text + "at which two are duplicates.", name="how")
            shape = plots.histogram_layout("samples")
            bars = plots.bars(known["edges"], known["counts"], known["thresh"])
            layout.plot(panel, "histogram", 220, shape, data=[bars], on_click=self.on_bar)
        elif known["size"] > preview.AT_ONCE and not state.jobs:
            buttons = layout.row(panel, "histogram_buttons")
            label = f"Show distances (reads all {known['size']:,} vectors once)"
            layout.button(buttons, "read", label, "bar_chart", self.on_histogram)
        below = layout.row(panel, "find_row", gap=2)
        below.float(
            known["box"],
            label="Distance",
            default=known["thresh"],
            on_change=self.on_thresh,
            view=types.LazyFieldView(componentsProps={"item": {"sx": {"width": 150}}}),
        )
        if known["in_view"] or state.view_active:
            label = "In the current view" if known["in_view"] else "In the whole dataset"
            layout.button(below, "scope", label, "filter_alt", self.on_scope)
        layout.button(
            below, "find", "Find groups", "file_copy", self.on_find,
            primary=True, disabled=known["thresh"] is None,
        )  # fmt: skip
        if known["rows"]:
            table = types.TableView(
                on_click_row=self.on_row,
                size="small",
                componentsProps={
                    "table": {"sx": {"minWidth": 0}},
                    "tableBodyRow": {"sx": {"cursor": "pointer"}},
                },
            )
            table.add_column("distance", label="Up to distance")
            table.add_column("samples", label="Samples with a neighbor (cumulative)")
            panel.list("counts", types.Object(), view=table)


def _box(thresh: float | None) -> State:
    """Returns the state of a new box for the distance.

    A box that stays would keep what it shows, and write it back to the state: the App cannot change
    what is in it.
    """
    return {"thresh": thresh, "box": f"thresh_{next(_boxes)}"}


def _shown(ctx: Any) -> Any:
    """Returns the distance that the box shows: what the user sees is what is searched for."""
    known, typed = ctx.panel.state.duplicates, ctx.panel.state.find_row or {}
    return typed.get(known["box"], known["thresh"])


def _reload(ctx: Any) -> None:
    ctx.ops.reload_dataset()


def _rows(found: preview.Preview, thresh: float) -> list[dict[str, Any]]:
    """Returns the rows of the table: cumulative counts, also for the chosen distance."""
    return [
        {
            "thresh": value,
            "distance": f"{value:.4g}" + (" ◀" if value == thresh else ""),
            "samples": samples,
        }
        for value, samples in found.table(thresh)
    ]
