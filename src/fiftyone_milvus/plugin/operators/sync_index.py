"""Bring an index in step with its dataset."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types

from fiftyone_milvus.plugin import forms
from fiftyone_milvus.plugin.jobs import Job
from fiftyone_milvus.plugin.operator import MilvusOperator, Report


class SyncIndex(MilvusOperator):
    """Embeds what is missing, removes what is stale, updates fields."""

    @property
    def config(self) -> Any:
        return foo.OperatorConfig(
            name="sync_index",
            label="Milvus: sync an index",
            description="Bring an index in step with the dataset",
            icon="sync",
            dynamic=True,
            execute_as_generator=True,
            allow_delegated_execution=True,
            disable_schema_validation=True,
            view_target=False,
            risk_level="MEDIUM",
        )

    def resolve_input(self, ctx: Any) -> Any:
        inputs = types.Object()
        forms.choose_index(ctx, inputs)
        forms.choose_target(ctx, inputs, verb="Sync")
        inputs.bool(
            "prune",
            default=True,
            label="Remove what is gone",
            description="Remove vectors of samples that are no longer in the dataset",
        )
        inputs.bool(
            "refresh",
            default=False,
            label="Embed again what was edited",
            description="Also samples that were edited, or whose file was written, since",
        )
        return types.Property(inputs, view=types.View(label="Sync a Milvus index"))

    def job(self, ctx: Any) -> Job:
        return Job(ctx.dataset_name, ctx.params.get("brain_key"), "Syncing")

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        index = forms.index_of(ctx)
        params = ctx.params
        samples = forms.target_of(ctx)
        report(None, "Comparing")
        done = index.sync(
            samples,
            prune=params.get("prune", True),
            refresh=params.get("refresh", False),
            batch_size=params.get("batch_size"),
            num_workers=params.get("num_workers"),
            skip_failures=params.get("skip_failures", True),
            progress=forms.bar(report),
        )
        return {
            "brain_key": index.key,
            "added": done.added,
            "updated": done.updated,
            "removed": done.removed,
            "unchanged": done.unchanged,
            "failed": done.failed,
            "seconds": done.seconds,
            "report": str(done),
        }

    def told(self, result: dict[str, Any]) -> tuple[str, str]:
        text = f"Index '{result['brain_key']}': {result['report']}"
        if result["failed"]:
            text += f", eg: {next(iter(result['failed'].values()))}"
        return text, "warning" if result["failed"] else "success"
