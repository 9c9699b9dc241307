"""Bring the fields beside the vectors up to date."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types

from fiftyone_milvus.plugin import forms
from fiftyone_milvus.plugin.jobs import Job
from fiftyone_milvus.plugin.operator import MilvusOperator, Report


class SyncFields(MilvusOperator):
    """Copies edited values of the fields that an index stores beside its vectors."""

    @property
    def config(self) -> Any:
        return foo.OperatorConfig(
            name="sync_fields",
            label="Milvus: sync the fields of an index",
            description="Bring the fields beside the vectors up to date with the dataset",
            icon="view_column",
            dynamic=True,
            execute_as_generator=True,
            allow_delegated_execution=True,
            disable_schema_validation=True,
            view_target=False,
            risk_level="LOW",
        )

    def resolve_input(self, ctx: Any) -> Any:
        inputs = types.Object()
        key = forms.choose_index(ctx, inputs)
        config = None if key is None else ctx.dataset.get_brain_info(key).config
        if config is not None and not config.fields:
            label = f"Index '{key}' has no fields beside its vectors"
            inputs.view("no_fields", types.Warning(label=label))
        return types.Property(inputs, view=types.View(label="Sync fields"))

    def job(self, ctx: Any) -> Job:
        return Job(ctx.dataset_name, ctx.params.get("brain_key"), "Syncing fields")

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        index = forms.index_of(ctx)
        done = index.sync_fields(progress=forms.bar(report))
        return {"brain_key": index.key, "checked": done.checked, "updated": done.updated}

    def told(self, result: dict[str, Any]) -> tuple[str, str]:
        text = (
            f"Fields of index '{result['brain_key']}': updated {result['updated']:,} of "
            f"{result['checked']:,} that were checked"
        )
        return text, "success"
