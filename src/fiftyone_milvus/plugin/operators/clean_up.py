"""Drop collections that nothing uses any more."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types

from fiftyone_milvus import inventory
from fiftyone_milvus.errors import FiftyOneMilvusError, InvalidInputError
from fiftyone_milvus.plugin import forms
from fiftyone_milvus.plugin.operator import MilvusOperator, Report


class CleanUp(MilvusOperator):
    """Drops collections whose dataset or brain run is gone."""

    @property
    def config(self) -> Any:
        return foo.OperatorConfig(
            name="clean_up",
            label="Milvus: clean up collections",
            description="Drop collections whose dataset or brain run is gone",
            icon="cleaning_services",
            dynamic=True,
            allow_delegated_execution=True,
            disable_schema_validation=True,
            view_target=False,
            risk_level="HIGH",
        )

    def resolve_input(self, ctx: Any) -> Any:
        inputs = types.Object()
        try:
            orphans = [c for c in inventory.collections() if c.owner == "orphan"]
        except FiftyOneMilvusError as error:
            inputs.view("no_milvus", types.Error(label=str(error)))
            orphans = []
        else:
            if not orphans:
                inputs.view("none", types.Notice(label="Every collection is in use"))
        choices = types.DropdownView(multiple=True)
        for one in orphans:
            choices.add_choice(one.name, label=f"{one.name} ({one.vectors:,} vectors): {one.why}")
        inputs.list(
            "collections",
            types.String(),
            required=True,
            label="Collections",
            description="Another FiftyOne database that uses this Milvus may need them",
            view=choices,
        )
        forms.confirm(ctx, inputs, "Yes, drop them with all their vectors")
        return types.Property(inputs, view=types.View(label="Clean up Milvus collections"))

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        names = ctx.params.get("collections")
        if not names or isinstance(names, str):
            raise InvalidInputError("Give collections: a list of the names of those to drop")
        forms.confirmed(ctx, f"Dropping {', '.join(names)}")
        return {"dropped": inventory.clean_up(names)}

    def told(self, result: dict[str, Any]) -> tuple[str, str]:
        return f"Dropped {', '.join(result['dropped'])}", "success"
