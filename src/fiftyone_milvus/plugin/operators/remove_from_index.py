"""Remove what is selected from an index."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.plugin import forms
from fiftyone_milvus.plugin.operator import MilvusOperator, Report


class RemoveFromIndex(MilvusOperator):
    """Removes the vectors of the selected samples or labels; the samples stay."""

    @property
    def config(self) -> Any:
        return foo.OperatorConfig(
            name="remove_from_index",
            label="Milvus: remove the selection from an index",
            description="Remove the vectors of what is selected; the samples stay",
            icon="remove_circle_outline",
            dynamic=True,
            allow_delegated_execution=True,
            disable_schema_validation=True,
            view_target=False,
            risk_level="MEDIUM",
        )

    def resolve_input(self, ctx: Any) -> Any:
        inputs = types.Object()
        forms.choose_index(ctx, inputs)
        samples, labels = _selected(ctx)
        if samples or labels:
            what = f"{len(labels)} labels" if labels else f"{len(samples)} samples"
            inputs.view("count", types.Notice(label=f"Removes the vectors of {what}"))
        else:
            inputs.view("nothing", types.Warning(label="Select samples or labels first"))
        return types.Property(inputs, view=types.View(label="Remove from a Milvus index"))

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        index = forms.index_of(ctx)
        samples, labels = _selected(ctx)
        patches = index.config.patches_field is not None
        if ctx.view._is_patches:
            # What is selected in the grid are patches
            samples, labels = [], [*samples, *labels]
        if samples and labels:
            raise InvalidInputError(
                f"{len(samples)} samples and {len(labels)} labels are selected; select either"
            )
        if labels and not patches:
            raise InvalidInputError(
                f"Index '{index.key}' holds samples, and labels are selected; select samples"
            )
        if not samples and not labels:
            raise InvalidInputError("Nothing is selected; select what is to be removed")
        before = index.total_index_size
        index.remove_from_index(sample_ids=samples or None, label_ids=labels or None)
        return {"brain_key": index.key, "removed": before - index.total_index_size}

    def told(self, result: dict[str, Any]) -> tuple[str, str]:
        text = f"Removed {result['removed']:,} vectors from index '{result['brain_key']}'"
        return text, "success"


def _selected(ctx: Any) -> tuple[list[str], list[str]]:
    """Returns the IDs of the selected samples, and of the selected labels."""
    return list(ctx.selected or ()), [label["label_id"] for label in ctx.selected_labels or ()]
