"""Find near-duplicates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types

from fiftyone_milvus.errors import FiftyOneMilvusError, InvalidInputError
from fiftyone_milvus.plugin import forms, preview, results, scope
from fiftyone_milvus.plugin.jobs import Job
from fiftyone_milvus.plugin.operator import MilvusOperator, Report, from_app

RESULTS = ("view", "tag", "select")


class FindDuplicates(MilvusOperator):
    """Finds samples or patches that are within a distance of another one."""

    @property
    def config(self) -> Any:
        return foo.OperatorConfig(
            name="find_duplicates",
            label="Milvus: find near-duplicates",
            description="Find what is nearly the same as something else",
            icon="file_copy",
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
        near = None if key is None else _preview(ctx, inputs, key)
        default = None if near is None else near.suggestion
        inputs.float(
            "thresh",
            required=True,
            default=default,
            label="Distance",
            description="Within it, two samples are duplicates",
        )
        if near is not None:
            inputs.md(near.markdown(ctx.params.get("thresh", default)), name="preview")
        choose_result(ctx, inputs, "duplicate", "with their originals")
        forms.choose_target(ctx, inputs, verb="Look at", default="dataset")
        return types.Property(inputs, view=types.View(label="Find near-duplicates"))

    def job(self, ctx: Any) -> Job:
        return Job(ctx.dataset_name, ctx.params.get("brain_key"), "Finding near-duplicates")

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        index = forms.index_of(ctx)
        params = ctx.params
        thresh, fraction = params.get("thresh"), params.get("fraction")
        result = result_of(params)
        samples = forms.target_of(ctx)
        tag = tag_of(params, "duplicate")
        report(None, "Reading vectors and comparing")
        own = scope.restricted(index, samples)
        own.find_duplicates(thresh=thresh, fraction=fraction)
        found = [str(i) for i in own.duplicate_ids]
        # The closest first, as in FiftyOne's duplicates_view()
        groups = sorted((own.neighbors_map or {}).items(), key=lambda group: group[1][0][1])
        shown = [i for one, others in groups for i in (one, *(o for o, _ in others))]
        field = index.config.patches_field
        if result == "tag":
            results.tag(ctx.dataset, field, found, tag)
        return {
            "brain_key": index.key,
            "patches_field": field,
            "ids": found,
            "shown": [str(i) for i in shown],
            "thresh": None if own.thresh is None else float(own.thresh),
            "result": result,
        }

    def told(self, result: dict[str, Any]) -> tuple[str, str]:
        text = f"{len(result['ids']):,} near-duplicates"
        if result["thresh"] is not None:
            text += f" within {result['thresh']:.3g}"
        return text, "success" if result["ids"] else "info"

    def then(self, ctx: Any, result: dict[str, Any]) -> Iterable[Any]:
        yield from show(ctx, result)


def _preview(ctx: Any, inputs: Any, key: str) -> preview.Preview | None:
    """Adds a switch for the preview of a large index; returns the preview if it is wanted."""
    # FiftyOne resolves forms before it executes, for Python and the delegate too
    if not from_app(ctx):
        return None
    try:
        size = preview.size_of(ctx.dataset, key)
        if size > preview.AT_ONCE:
            inputs.bool(
                "preview",
                default=False,
                label="Preview",
                description=f"Count what is within a distance; reads all {size:,} vectors once",
                view=types.SwitchView(),
            )
            if not ctx.params.get("preview"):
                return None
        return preview.of(ctx.dataset, key)
    except FiftyOneMilvusError as error:
        inputs.view("no_preview", types.Error(label=str(error)))
    return None


def choose_result(ctx: Any, inputs: Any, tag: str, how: str) -> None:
    """Adds the choice of what becomes of what is found."""
    choices = types.RadioGroup(orientation="horizontal")
    choices.add_choice("view", label="Show", description=f"Show them {how}")
    choices.add_choice("tag", label="Tag", description="Give them a tag")
    choices.add_choice("select", label="Select", description="Select them in the grid")
    inputs.enum("result", RESULTS, default="view", label="Then", view=choices)
    if ctx.params.get("result") == "tag":
        inputs.str("tag", default=tag, required=True, label="Tag")


def result_of(params: Any) -> str:
    """Returns what the caller wants with what is found."""
    result = params.get("result") or "view"
    if result not in RESULTS:
        raise InvalidInputError(f"Unknown result {result!r}; expected one of {RESULTS}")
    return str(result)


def tag_of(params: Any, default: str) -> str:
    """Returns the tag that the caller wants."""
    tag = params.get("tag") or default
    if not isinstance(tag, str):
        raise InvalidInputError(f"Invalid tag {tag!r}; expected a string")
    return tag


def show(ctx: Any, result: dict[str, Any]) -> Iterable[Any]:
    """Yields what the App is to do about what was found."""
    ids, what = result["ids"], result["result"]
    if not ids:
        return
    if what == "tag":
        yield ctx.ops.reload_dataset()
        return
    shown = result["shown"] if what == "view" else ids
    if what == "view" or result["patches_field"] is not None:
        yield ctx.ops.set_view(results.view_of(ctx.dataset, result["patches_field"], shown))
    if what == "select":
        yield ctx.ops.set_selected_samples(ids)
