"""The operators that rename, delete and clean up indexes."""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types

from fiftyone_milvus import inventory
from fiftyone_milvus.errors import FiftyOneMilvusError, InvalidInputError
from fiftyone_milvus.inventory import lifecycle
from fiftyone_milvus.plugin import forms, silence
from fiftyone_milvus.plugin.operator import Info, MilvusOperator, Report


class RenameIndex(MilvusOperator):
    """Give an index another brain key."""

    info = Info(
        name="rename_index",
        title="rename an index",
        icon="edit",
        risk="LOW",
        reloads=True,
    )

    def form(self, ctx: Any, inputs: Any) -> None:
        key = forms.choose_index(ctx, inputs)
        if key is not None:
            forms.name_key(ctx, inputs, "new_key", default=f"{key}_2", label="New brain key")

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        key, new_key = forms.key_of(ctx), ctx.params.get("new_key")
        lifecycle.rename(ctx.dataset, key, new_key)
        return {"brain_key": new_key, "was": key}

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        return f"Index '{result['was']}' is now '{result['brain_key']}'", "success"


class DeleteIndex(MilvusOperator):
    """Delete the brain run, its collection, or both."""

    info = Info(
        name="delete_index",
        title="delete an index",
        icon="delete_outline",
        risk="HIGH",
        reloads=True,
    )

    def form(self, ctx: Any, inputs: Any) -> None:
        key = forms.choose_index(ctx, inputs)
        parts = {
            "both": "The brain run and the Milvus collection",
            "run": "Only the brain run: the vectors stay in Milvus",
            "collection": "Only the collection: the run stays, empty",
        }
        view = types.RadioGroup()
        forms.choose(inputs, "what", parts, view, default="both", required=True, label="Delete")
        if key is not None:
            try:
                text = str(lifecycle.loss(ctx.dataset, key))
                text = text[0].upper() + text[1:]
            except FiftyOneMilvusError as error:
                text = f"Milvus does not answer: {error}"
            inputs.view("loss", types.Warning(label=text))
            forms.confirm(ctx, inputs, "Yes, delete it")

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        key, what = forms.key_of(ctx), ctx.params.get("what", "both")
        forms.check_confirmed(ctx, f"Deleting index '{key}'")
        vectors = lifecycle.delete(ctx.dataset, key, what)
        return {"brain_key": key, "what": what, "vectors": vectors}

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        what = {"both": "index", "run": "the brain run", "collection": "the collection of index"}
        text = f"Deleted {what[result['what']]} '{result['brain_key']}'"
        if result["what"] != "run":
            text += f" with {result['vectors']:,} vectors"
        return text, "success"


class RemoveFromIndex(MilvusOperator):
    """Remove the vectors of the selected samples or labels; the samples stay."""

    info = Info(
        name="remove_from_index",
        title="remove the selection from an index",
        icon="remove_circle_outline",
        risk="MEDIUM",
    )

    def form(self, ctx: Any, inputs: Any) -> None:
        forms.choose_index(ctx, inputs)
        samples, labels = _selected(ctx)
        if samples or labels:
            what = f"{len(labels)} labels" if labels else f"{len(samples)} samples"
            inputs.view("count", types.Notice(label=f"Removes the vectors of {what}"))
        else:
            inputs.view("nothing", types.Warning(label="Select samples or labels first"))

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        index = forms.index_of(ctx)
        samples, labels = _selected(ctx)
        if ctx.view._is_patches:
            # In such a view, the selected IDs are those of patches
            samples, labels = [], [*samples, *labels]
        if samples and labels:
            raise InvalidInputError(
                f"{len(samples)} samples and {len(labels)} labels are selected; select either"
            )
        if labels and index.config.patches_field is None:
            raise InvalidInputError(
                f"Index '{index.key}' holds samples, and labels are selected; select samples"
            )
        if not samples and not labels:
            raise InvalidInputError("Nothing is selected; select samples or labels to remove")
        before = index.total_index_size
        index.remove_from_index(sample_ids=samples or None, label_ids=labels or None)
        return {"brain_key": index.key, "removed": before - index.total_index_size}

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        text = f"Removed {result['removed']:,} vectors from index '{result['brain_key']}'"
        return text, "success"


def _selected(ctx: Any) -> tuple[list[str], list[str]]:
    return list(ctx.selected or ()), [label["label_id"] for label in ctx.selected_labels or ()]


class CleanUp(MilvusOperator):
    """Drop orphaned collections: their dataset or brain run was deleted."""

    info = Info(
        name="clean_up",
        title="clean up collections",
        icon="cleaning_services",
        risk="HIGH",
    )

    def form(self, ctx: Any, inputs: Any) -> None:
        orphans = []
        with forms.problems(inputs):
            orphans = [c for c in silence.ask(inventory.collections) if c.owner == "orphan"]
            if not orphans:
                inputs.view("none", types.Notice(label="There are no orphaned collections"))
        choices = types.DropdownView(multiple=True)
        for one in orphans:
            choices.add_choice(one.name, label=f"{one.name} ({one.vectors:,} vectors): {one.why}")
        inputs.list(
            "collections",
            types.String(),
            required=True,
            label="Collections",
            description="Make sure that no other FiftyOne database uses them",
            view=choices,
        )
        forms.confirm(ctx, inputs, "Yes, drop them with all their vectors")

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        names = ctx.params.get("collections")
        if not names or isinstance(names, str):
            raise InvalidInputError("Give collections: a list of the names to drop")
        forms.check_confirmed(ctx, f"Dropping {', '.join(names)}")
        return {"dropped": inventory.clean_up(names)}

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        return f"Dropped {', '.join(result['dropped'])}", "success"
