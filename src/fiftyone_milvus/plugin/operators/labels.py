"""The operators that predict labels from neighbors, and find those that are probably wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types

from fiftyone_milvus.curation.confusion import Confusion
from fiftyone_milvus.dataset import selected
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.inventory.stored_index import open_index
from fiftyone_milvus.numbers import check_integer
from fiftyone_milvus.plugin import forms, preview, searches
from fiftyone_milvus.plugin.kept import Kept
from fiftyone_milvus.plugin.operator import Info, MilvusOperator, Report, from_app
from fiftyone_milvus.schema.columns import label_root

_LABELS = 30
"""The most labels of a confusion table."""


class PredictLabels(MilvusOperator):
    """Fill the labels that are missing from those of the nearest neighbors."""

    info = Info(
        name="predict_labels",
        title="predict labels",
        icon="new_label",
        risk="MEDIUM",
        job="Predicting labels",
        reloads=True,
    )

    def form(self, ctx: Any, inputs: Any) -> None:
        key = forms.choose_index(ctx, inputs)
        index = None if key is None else open_index(ctx.dataset, key)
        by_text = False
        if index is not None and index.supports_prompts:
            inputs.bool(
                "by_text",
                default=False,
                label="From texts",
                description="Give each the label whose text is nearest; no labels are needed",
                view=types.SwitchView(),
            )
            by_text = bool(ctx.params.get("by_text"))
        _choose_field(ctx, inputs, index, new=by_text)
        if by_text:
            inputs.str(
                "prompts",
                required=True,
                label="Labels and texts",
                description="Separated by semicolons: cat = a photo of a cat; dog = a photo of ...",
            )
        else:
            inputs.int("k", default=10, min=1, label="Neighbors", description="How many vote")
        inputs.float(
            "min_confidence",
            default=0.0,
            min=0,
            max=1,
            label="Least confidence",
            description="Labels that are less sure are left out",
        )
        inputs.str(
            "into",
            label="Write to",
            description="By default, a new field NAME_predicted. No label is ever overwritten",
        )
        forms.choose_target(ctx, inputs, verb="Label")
        if index is not None and not by_text and ctx.params.get("field"):
            _preview(ctx, inputs, index, "Labels by what their neighbors say, each held out")

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        index, params = forms.index_of(ctx), ctx.params
        texts = _texts(params.get("prompts")) if params.get("prompts") else None
        own = index._restricted(forms.target_of(ctx))
        report(None, "Reading vectors and comparing")
        found = own.predict_labels(
            params.get("field"),
            None if texts is not None else params.get("k"),
            into=params.get("into") or None,
            min_confidence=params.get("min_confidence") or 0.0,
            prompts=texts,
            progress=False,
        )
        return {
            "brain_key": index.key,
            "into": found.into,
            "written": found.written,
            "unsure": found.unsure,
            "accuracy": found.accuracy,
            "text": str(found),
        }

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        return result["text"], "success" if result["written"] else "info"


class FindLabelErrors(MilvusOperator):
    """Show labels that their nearest neighbors contradict."""

    info = Info(
        name="find_label_errors",
        title="find label errors",
        icon="rule",
        risk="LOW",
        job="Finding label errors",
    )

    def form(self, ctx: Any, inputs: Any) -> None:
        key = forms.choose_index(ctx, inputs)
        index = None if key is None else open_index(ctx.dataset, key)
        _choose_field(ctx, inputs, index)
        inputs.int("k", default=10, min=1, label="Neighbors", description="How many vote")
        inputs.int(
            "count",
            min=1,
            label="How many",
            description="By default, those whose neighbors say another label",
        )
        inputs.bool(
            "save",
            default=False,
            label="Write scores",
            description="To the field label_error, and what is suggested beside it",
            view=types.CheckboxView(),
        )
        inputs.str("tag", label="Tag", description="Give what is shown a tag")
        forms.choose_target(ctx, inputs, verb="Search")
        if index is not None and ctx.params.get("field"):
            _preview(ctx, inputs, index, "Labels by what their neighbors say")

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        index, params = forms.index_of(ctx), ctx.params
        count, tag = params.get("count"), params.get("tag")
        count = None if count is None else check_integer("count", count)
        if tag is not None and not isinstance(tag, str):
            raise InvalidInputError(f"Invalid tag {tag!r}; expected a string")
        own = index._restricted(forms.target_of(ctx))
        report(None, "Reading vectors and comparing")
        found = own.find_label_errors(params.get("field"), params.get("k"), progress=False)
        ids = found.ids[: found.contradicted if count is None else count]
        saved = found.save() if params.get("save") else None
        if tag:
            selected.tag(ctx.dataset, index.config.patches_field, ids, tag)
        number = len(ids)
        return {
            "brain_key": index.key,
            "patches_field": index.config.patches_field,
            "ids": ids,
            "labels": found.labels[:number],
            "suggested": found.suggested[:number],
            "scores": found.scores[:number].tolist(),
            "contradicted": found.contradicted,
            "written": bool(saved or tag),
            "text": str(found),
        }

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        return result["text"], "success" if result["ids"] else "info"

    def follow_up(self, ctx: Any, result: dict[str, Any]) -> Iterable[Any]:
        if result["written"]:
            yield ctx.ops.reload_dataset()
        if result["ids"]:
            if from_app(ctx):
                searches.keep_result(ctx, result["ids"])
            view = selected.view_of(ctx.dataset, result["patches_field"], result["ids"])
            yield ctx.ops.set_view(view)


def _choose_field(ctx: Any, inputs: Any, index: Any, *, new: bool = False) -> None:
    """Adds the choice of a field that can hold labels, or of a name for a new one."""
    names = [] if index is None else _fields(ctx.dataset, index.config.patches_field)
    if new or not names:
        inputs.str("field", required=True, label="Field", description="Of the labels")
        return
    labels = {name: name for name in names}
    view = types.DropdownView()
    forms.choose(inputs, "field", labels, view, required=True, label="Field of the labels")


def _fields(dataset: Any, patches_field: str | None) -> list[str]:
    if patches_field is not None:
        root = f"{label_root(dataset, patches_field)[0]}."
        paths = dataset.get_field_schema(flat=True, ftype=fo.StringField)
        names = [path[len(root) :] for path in paths if path.startswith(root)]
        return sorted((n for n in names if "." not in n), key=lambda n: (n != "label", n))
    labels = dataset.get_field_schema(
        ftype=fo.EmbeddedDocumentField, embedded_doc_type=fo.Classification
    )
    strings = dataset.get_field_schema(ftype=fo.StringField)
    return [*labels, *(name for name in strings if name not in ("filepath",))]


def _texts(given: Any) -> Any:
    """Returns prompts as a dict; a form has them in one line."""
    if not isinstance(given, str):
        return given
    pairs = [part.partition("=") for part in given.split(";") if part.strip()]
    return {name.strip(): (text or name).strip() for name, _, text in pairs}


_shown: Kept[tuple[str, Confusion]] = Kept()


def _preview(ctx: Any, inputs: Any, index: Any, title: str) -> None:
    """Adds a confusion table of the whole dataset; of a large index, after a switch."""
    field, k = ctx.params.get("field"), ctx.params.get("k")

    def compute() -> tuple[str, Confusion]:
        own = index._restricted(ctx.dataset)
        found = own.find_label_errors(field, k, progress=False)
        return str(found), found.confusion

    with forms.problems(inputs):
        if not preview.due(ctx, inputs, index, "Compare the labels with their neighbors"):
            return
        text, confusion = _shown.get(index, [field, k], compute)
        inputs.md(text, name="counts")
        if len(confusion.labels) <= _LABELS:
            inputs.view("confusion", table(confusion, title))
        else:
            pairs = [f"| {a} | {b} | {n:,} |" for a, b, n in confusion.pairs()[:10]]
            head = ["| label | neighbors say | number |", "| --- | --- | --- |"]
            inputs.md("\n".join([*head, *pairs]), name="confusion")


def table(confusion: Confusion, title: str) -> Any:
    """Returns a confusion table as a view of a form; the diagonal is left out of its colors."""
    counts = confusion.counts
    colors = counts.astype(float)
    for i in range(len(colors)):
        colors[i, i] = 0
    return types.PlotlyView(
        data=[
            {
                "type": "heatmap",
                "x": confusion.labels,
                "y": confusion.labels,
                "z": colors.tolist(),
                "text": counts.tolist(),
                "texttemplate": "%{text}",
                "colorscale": [[0, "rgba(255,109,4,0)"], [1, "rgb(255,109,4)"]],
                "showscale": False,
                "hovertemplate": "%{text} have %{y}, their neighbors say %{x}<extra></extra>",
            }
        ],
        layout={
            "title": {"text": title, "font": {"size": 14}},
            "height": 120 + 26 * len(confusion.labels),
            "margin": {"t": 36, "b": 60, "l": 80, "r": 8},
            "xaxis": {"title": {"text": "neighbors say"}, "type": "category", "automargin": True},
            "yaxis": {
                "title": {"text": "label"},
                "type": "category",
                "autorange": "reversed",
                "automargin": True,
            },
        },
        config={"displayModeBar": False},
    )
