"""The operator that compares a dataset with a reference: its drift, and what is new in it."""

from __future__ import annotations

from typing import Any

from fiftyone_milvus.curation.comparison import Comparison
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.inventory.stored_index import open_index
from fiftyone_milvus.numbers import check_integer
from fiftyone_milvus.plugin import forms, parts, pictures, preview
from fiftyone_milvus.plugin.kept import Kept
from fiftyone_milvus.plugin.operator import Info
from fiftyone_milvus.plugin.operators.finding import FindOperator, Found, choices
from fiftyone_milvus.search import stored_distances

_COUNT = 100
_shown: Kept[Comparison] = Kept()


class CompareDatasets(FindOperator):
    """Say how much samples differ from a reference, and show what is new."""

    info = Info(
        name="compare_datasets",
        title="compare datasets",
        icon="compare_arrows",
        risk="LOW",
        job="Comparing",
    )
    tag = "novel"
    results = choices("the most novel first", tag, "select")

    def form(self, ctx: Any, inputs: Any) -> None:
        key = forms.choose_index(ctx, inputs)
        parts.choose(ctx, inputs, "reference", "Reference", key=key or "")
        parts.choose(ctx, inputs, "samples", "Samples; by default, all", required=False)
        inputs.int("count", min=1, default=_COUNT, label="How many", description="Of the novel")
        inputs.str("field", label="Field", description="Store the novelty of each here")
        self.choose_result(ctx, inputs)
        given = [ctx.params.get(name) for name in ("reference", "samples")]
        if key is None or not given[0]:
            return
        with forms.problems(inputs):
            index = open_index(ctx.dataset, key)
            if not preview.due(ctx, inputs, index, "Compare with it"):
                return
            found = _shown.get(index, given, lambda: _compare(ctx, index))
            inputs.md(str(found), name="drift")
            title = "Distances to the nearest in the reference"
            inputs.view("novelty", pictures.histogram(found.distances, title))
            field, ids = index.config.patches_field, found.ids
            shown = [("most novel", ids), ("median", ids[len(ids) // 2 :]), ("least", ids[::-1])]
            inputs.view("novel", pictures.rows(ctx.dataset, field, shown, "By their novelty"))

    def find(self, ctx: Any, index: MilvusSimilarityIndex) -> Found:
        field, count = ctx.params.get("field") or None, ctx.params.get("count")
        count = check_integer("count", _COUNT if count is None else count)
        if field is not None:
            stored_distances.check(ctx.dataset, index.config.patches_field, field, "field")
        found = _compare(ctx, index)
        if field is not None:
            found.save(field)
        facts = {
            "drift": found.drift,
            "p_value": found.p_value,
            "distances": found.distances[:count].tolist(),
            "reference_ids": found.reference_ids[:count],
            "written": field is not None,
            "text": str(found),
        }
        return Found(found.ids[:count], facts)

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        return result["text"], "success"


def _compare(ctx: Any, index: Any) -> Comparison:
    samples = parts.part_of(ctx, "samples") if ctx.params.get("samples") else ctx.dataset
    reference = parts.part_of(ctx, "reference", index=True)
    own = index._restricted(samples)
    return own.compare_datasets(reference, progress=False)
