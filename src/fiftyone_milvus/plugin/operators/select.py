"""The operator that selects samples, for example to label."""

from __future__ import annotations

from typing import Any

from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.plugin import forms, preview, selecting
from fiftyone_milvus.plugin.operator import Info
from fiftyone_milvus.plugin.operators.finding import FindOperator, Found, choices
from fiftyone_milvus.search import stored_distances


class SelectSamples(FindOperator):
    """Select samples that are diverse, typical, balanced, similar or novel."""

    info = Info(
        name="select_samples",
        title="select samples",
        icon="checklist",
        risk="LOW",
        job="Selecting samples",
    )
    tag = "selected"
    results = choices("in their order", tag, "select")

    def form(self, ctx: Any, inputs: Any) -> None:
        key = forms.choose_index(ctx, inputs)
        inputs.int("n", min=1, default=selecting.DEFAULT, required=True, label="How many")
        for name, label in selecting.STRENGTHS.items():
            default = selecting.DEFAULTS[name]
            inputs.float(name, min=0, default=default, label=label, description="Strength")
        if ctx.params.get("novel"):
            inputs.enum(
                "novel_tag", ctx.dataset.distinct("tags"), required=True, label="Known samples",
                description="Their tag",
            )  # fmt: skip
        if ctx.params.get("balance"):
            inputs.str(
                "balanced",
                required=True,
                label="Field",
                description="Such as ground_truth.label; of patches, an attribute such as label",
            )
        inputs.int("seed", min=0, default=0, label="Seed")
        self.choose_result(ctx, inputs)
        inputs.str("field", label="Field of ranks", description="Store the rank of each here")
        forms.choose_target(ctx, inputs, verb="Select")
        if key is not None:
            with forms.problems(inputs):
                index = ctx.dataset.load_brain_results(key)
                if preview.due(ctx, inputs, index, "Select now, to look at it"):
                    selecting.draw(inputs, selecting.previewed(ctx, index))

    def find(self, ctx: Any, index: MilvusSimilarityIndex) -> Found:
        field = ctx.params.get("field") or None
        if field is not None:
            stored_distances.check(ctx.dataset, index.config.patches_field, field, "field")
        found = selecting.select(ctx, index)
        if field is not None and len(found):
            found.store(field)
        counts = {
            field: {name: list(pair) for name, pair in counts.items()}
            for field, counts in found.counts.items()
        }
        facts = {
            "reasons": [dict(reasons) for reasons in found.reasons],
            "radius": found.radius,
            "counts": counts,
            "of": found.candidates,
            "written": field is not None,
        }
        return Found(found.ids, facts)

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        count = len(result["ids"])
        if not count:
            return "Nothing was selected: there is nothing to select from", "warning"
        text = f"{count:,} of {result['of']:,}, all within {result['radius']:.3g} of one of them"
        return text, "success"
