"""The operators that bring an index, or its metadata fields, up to date."""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types

from fiftyone_milvus.plugin import forms
from fiftyone_milvus.plugin.operator import Info, MilvusOperator, Report

_COUNTS = ("added", "updated", "removed", "unchanged", "failed", "seconds")
_OPTIONS = ("prune", "refresh", "batch_size", "num_workers", "skip_failures")


class SyncIndex(MilvusOperator):
    """Bring an index up to date with the dataset."""

    info = Info(
        name="sync_index",
        title="sync an index",
        icon="sync",
        risk="MEDIUM",
        job="Syncing",
    )

    def form(self, ctx: Any, inputs: Any) -> None:
        forms.choose_index(ctx, inputs)
        forms.choose_target(ctx, inputs, verb="Sync")
        inputs.bool(
            "prune",
            default=True,
            label="Remove stale vectors",
            description="Vectors of samples that were deleted from the dataset",
        )
        inputs.bool(
            "refresh",
            default=False,
            label="Embed edited samples again",
            description="Samples that were edited, or whose file changed, since they were embedded",
        )

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        index = forms.index_of(ctx)
        samples = forms.target_of(ctx)
        report(None, "Comparing")
        options = {name: ctx.params[name] for name in _OPTIONS if name in ctx.params}
        done = index.sync(samples, progress=forms.bar(report), **options)
        counts = {name: getattr(done, name) for name in _COUNTS}
        return {"brain_key": index.key, **counts, "report": str(done)}

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        text = f"Index '{result['brain_key']}': {result['report']}"
        if result["failed"]:
            text += f"; for example: {next(iter(result['failed'].values()))}"
        return text, "warning" if result["failed"] else "success"


class SyncFields(MilvusOperator):
    """Bring the metadata fields of an index up to date with the dataset."""

    info = Info(
        name="sync_fields",
        title="sync the fields of an index",
        icon="view_column",
        risk="LOW",
        job="Syncing fields",
    )

    def form(self, ctx: Any, inputs: Any) -> None:
        key = forms.choose_index(ctx, inputs)
        if key is not None and not ctx.dataset.get_brain_info(key).config.fields:
            label = f"Index '{key}' has no metadata fields"
            inputs.view("no_fields", types.Warning(label=label))

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        index = forms.index_of(ctx)
        done = index.sync_fields(progress=forms.bar(report))
        return {"brain_key": index.key, "checked": done.checked, "updated": done.updated}

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        text = (
            f"Index '{result['brain_key']}': checked the metadata fields of "
            f"{result['checked']:,} vectors, updated {result['updated']:,}"
        )
        return text, "success"
