"""Delete an index."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types

from fiftyone_milvus.errors import FiftyOneMilvusError
from fiftyone_milvus.inventory import lifecycle
from fiftyone_milvus.plugin import forms
from fiftyone_milvus.plugin.operator import MilvusOperator, Report


class DeleteIndex(MilvusOperator):
    """Deletes the brain run, the Milvus collection, or both."""

    @property
    def config(self) -> Any:
        return foo.OperatorConfig(
            name="delete_index",
            label="Milvus: delete an index",
            description="Delete the brain run, its collection, or both",
            icon="delete_outline",
            dynamic=True,
            allow_delegated_execution=True,
            disable_schema_validation=True,
            view_target=False,
            risk_level="HIGH",
        )

    def resolve_input(self, ctx: Any) -> Any:
        inputs = types.Object()
        key = forms.choose_index(ctx, inputs)
        choices = types.RadioGroup()
        choices.add_choice("both", label="The brain run and the Milvus collection")
        choices.add_choice("run", label="The brain run only: the vectors stay in Milvus")
        choices.add_choice("collection", label="The collection only: the run stays, empty")
        inputs.enum(
            "what", lifecycle.PARTS, default="both", required=True, label="Delete", view=choices
        )
        if key is not None:
            inputs.view("loss", types.Warning(label=_loss(ctx, key)))
        forms.confirm(ctx, inputs, "Yes, delete it")
        return types.Property(inputs, view=types.View(label="Delete a Milvus index"))

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        key, what = forms.key_of(ctx), ctx.params.get("what", "both")
        forms.confirmed(ctx, f"Deleting index '{key}'")
        vectors = lifecycle.delete(ctx.dataset, key, what)
        return {"brain_key": key, "what": what, "vectors": vectors}

    def told(self, result: dict[str, Any]) -> tuple[str, str]:
        what = {"both": "Deleted index", "run": "Deleted the run", "collection": "Emptied index"}
        text = f"{what[result['what']]} '{result['brain_key']}'"
        if result["what"] != "run":
            text += f" with {result['vectors']:,} vectors"
        return text, "success"

    def then(self, ctx: Any, result: dict[str, Any]) -> Iterable[Any]:
        yield ctx.ops.reload_dataset()


def _loss(ctx: Any, key: str) -> str:
    """Returns what would be lost, as one line."""
    try:
        text = str(lifecycle.loss(ctx.dataset, key))
    except FiftyOneMilvusError as error:
        return f"Milvus does not answer: {error}"
    return text[0].upper() + text[1:]
