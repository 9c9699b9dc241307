"""Rename an index."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types

from fiftyone_milvus.plugin import forms
from fiftyone_milvus.plugin.operator import MilvusOperator, Report


class RenameIndex(MilvusOperator):
    """Gives an index another brain key."""

    @property
    def config(self) -> Any:
        return foo.OperatorConfig(
            name="rename_index",
            label="Milvus: rename an index",
            description="Give an index another brain key",
            icon="edit",
            dynamic=True,
            allow_delegated_execution=True,
            disable_schema_validation=True,
            view_target=False,
            risk_level="LOW",
        )

    def resolve_input(self, ctx: Any) -> Any:
        inputs = types.Object()
        key = forms.choose_index(ctx, inputs)
        if key is not None:
            forms.name_key(ctx, inputs, "new_key", default=f"{key}_2", label="New brain key")
        return types.Property(inputs, view=types.View(label="Rename a Milvus index"))

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        key, new_key = forms.key_of(ctx), forms.new_key(ctx, "new_key")
        ctx.dataset.rename_brain_run(key, new_key)
        return {"brain_key": new_key, "was": key}

    def told(self, result: dict[str, Any]) -> tuple[str, str]:
        text = f"Index '{result['was']}' is now '{result['brain_key']}'"
        return text, "success"

    def then(self, ctx: Any, result: dict[str, Any]) -> Iterable[Any]:
        yield ctx.ops.reload_dataset()
