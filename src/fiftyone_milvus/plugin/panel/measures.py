"""What the panel measures of an index, under *More*, and draws."""

from __future__ import annotations

from typing import Any

from fiftyone_milvus.inventory.stored_index import open_index
from fiftyone_milvus.measuring.comparison import Comparison
from fiftyone_milvus.measuring.tuning import Tuning, as_text
from fiftyone_milvus.plugin import forms
from fiftyone_milvus.plugin.jobs import Job, Outcome
from fiftyone_milvus.plugin.panel import layout, plots, texts
from fiftyone_milvus.plugin.panel.events import State, event, work

_BINS = 40
_QUERIES = 200
_TARGET = 0.99
_HEIGHT = 300


class Measures:
    """The events of the buttons that measure, and the plots below them."""

    @event
    def plot(self, ctx: Any) -> State:
        """Plots the distances of vectors to their nearest neighbor."""
        key = ctx.panel.state.key

        def measure(job: Job) -> Outcome:
            index = open_index(ctx.dataset, key)
            distances = index.nearest_distances(progress=forms.bar(job.report))
            bars = plots.bars(*plots.histogram(distances, _BINS))
            return Outcome(state={"plotted": [key, [bars]]})

        return work(ctx, key, "Reading distances", measure)

    @event
    def evaluate(self, ctx: Any) -> State:
        """Measures the recall of searches."""
        key = ctx.panel.state.key

        def measure(job: Job) -> Outcome:
            index = open_index(ctx.dataset, key)
            found = index.evaluate(queries=_QUERIES, progress=forms.bar(job.report))
            return Outcome(state={"recall": [key, texts.recall(found)]})

        return work(ctx, key, "Measuring recall", measure)

    @event
    def tune(self, ctx: Any) -> State:
        """Finds the cheapest search parameters that reach a recall, and draws what it tried."""
        key = ctx.panel.state.key

        def measure(job: Job) -> Outcome:
            found = open_index(ctx.dataset, key).tune(_TARGET, progress=forms.bar(job.report))
            return _drawn(key, found.note, found.k, _tried(found), _TARGET)

        return work(ctx, key, "Tuning", measure)

    @event
    def compare_types(self, ctx: Any) -> State:
        """Builds each index type on the vectors of an index, and draws what they find."""
        key = ctx.panel.state.key

        def measure(job: Job) -> Outcome:
            index = open_index(ctx.dataset, key)
            found = index.compare(queries=_QUERIES, progress=forms.bar(job.report))
            own = index._collection.layout.index_type
            return _drawn(key, _said(found, own), found.k, _compared(found, own), None)

        return work(ctx, key, "Comparing index types", measure)

    def draw_measures(self, box: Any, state: Any) -> None:
        """Draws the buttons, and what was measured of the index whose card it is."""
        buttons = layout.row(box, "measures")
        for name, label, icon, title, handler in (
            ("evaluate", "Measure recall", "speed", "The share that searches find", self.evaluate),
            ("plot", "Nearest distances", "bar_chart", "A histogram", self.plot),
            ("tune", "Tune", "tune", f"Recall of at least {_TARGET}, stored", self.tune),
            ("compare_types", "Compare", "compare", "All index types", self.compare_types),
        ):
            layout.button(buttons, name, label, icon, handler, title=title)
        key = state.key
        # Not of an index that was chosen before
        if state.recall and state.recall[0] == key:
            box.md(state.recall[1], name="recall")
        if state.drawn and state.drawn["key"] == key:
            box.md(state.drawn["note"], name="recall_note")
            if state.drawn["traces"]:
                shape = plots.recall_layout(state.drawn["k"])
                traces = state.drawn["traces"]
                layout.plot(box, "recall_plot", _HEIGHT, shape, data=traces)
        if state.plotted and state.plotted[0] == key:
            box.md("**Distance to the nearest neighbor**", name="distances_title")
            shape = plots.histogram_layout("vectors")
            layout.plot(box, "distances", _HEIGHT, shape, data=state.plotted[1])


def _drawn(key: str, note: str, k: int, points: list[plots.Point], target: float | None) -> Outcome:
    traces = plots.recall_over_latency(points, target) if points else []
    drawn = {"key": key, "note": note, "k": k, "traces": traces}
    return Outcome(state={"drawn": drawn})


def _tried(found: Tuning) -> list[plots.Point]:
    """The trials with the queries that had no part in the choice, or all if there are none."""
    return [
        plots.Point(
            as_text(trial.params), trial.recall, trial.p50 * 1e3, _is_chosen(trial.params, found)
        )
        for trial in found.trials
        if trial.held_out or not any(one.held_out for one in found.trials)
    ]


def _is_chosen(params: Any, found: Tuning) -> bool:
    return bool(found.params) and all(found.params.get(n) == v for n, v in params.items())


def _compared(found: Comparison, own: str | None) -> list[plots.Point]:
    return [
        plots.Point(one.index_type, one.recall, one.p50 * 1e3, one.index_type == own)
        for one in found
        if one.recall is not None and one.p50 is not None
    ]


def _said(found: Comparison, own: str | None) -> str:
    lines = [f"{len(found)} index types on {found.vectors:,} vectors; the star is {own}"]
    lines += [f"- {one.label}: {one.error}" for one in found if one.error is not None]
    return "\n".join(lines)
