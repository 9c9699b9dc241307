"""The operator that searches an index."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fiftyone.operators.types as types

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.plugin import distance_field, forms, queries, results
from fiftyone_milvus.plugin.operator import Info, MilvusOperator, Report

_QUERIES = ("selection", "text", "image")


class Search(MilvusOperator):
    """Searches by selection, text or image, with filters and distances."""

    info = Info(
        name="search",
        title="search",
        description="Search by selection, text or image, with filters and distances",
        icon="image_search",
        risk="LOW",
    )

    def form(self, ctx: Any, inputs: Any) -> None:
        key = forms.choose_index(ctx, inputs)
        config = None if key is None else ctx.dataset.get_brain_info(key).config
        _choose_query(ctx, inputs, config)
        inputs.int(
            "k", min=1, label="How many", description="By default 25, unless you give a distance"
        )
        inputs.float(
            "max_distance",
            label="Largest distance",
            description="Leave out results that are farther; without a number, show all others",
        )
        inputs.bool("advanced", default=False, label="Advanced", view=types.SwitchView())
        if ctx.params.get("advanced"):
            inputs.str(
                "filter",
                label="Filter",
                description="A Milvus expression over the metadata fields of the index, such as "
                'split == "test"',
            )
            if config is not None and config.patches_field is not None:
                inputs.bool(
                    "best_only",
                    label="Best of each sample",
                    description="Only the closest patch of each sample",
                )
            inputs.bool("reverse", label="Least similar", description="The farthest first")
            inputs.str(
                "dist_field", label="Distance field", description="Store distances in this field"
            )
        forms.choose_target(ctx, inputs, verb="Search", default="view")

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        index, params = forms.index_of(ctx), ctx.params
        query = _query(ctx, index)
        samples = forms.target_of(ctx, "view")
        field = params.get("dist_field") or None
        if field is not None:
            distance_field.check(samples, index.config.patches_field, field)
        found = results.restricted(index, samples).search(
            query,
            k=params.get("k"),
            filter=params.get("filter") or None,
            max_distance=params.get("max_distance"),
            group_by="sample_id" if params.get("best_only") else None,
            reverse=bool(params.get("reverse")),
        )
        if field is not None:
            found.view(dist_field=field)
        return {
            "brain_key": index.key,
            "patches_field": index.config.patches_field,
            "ids": found.ids,
            "sample_ids": found.sample_ids,
            "distances": found.distances.tolist(),
        }

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        ids, distances = result["ids"], result["distances"]
        if not ids:
            return "No results; try a larger distance, another filter or more samples", "warning"
        what = "samples" if result["patches_field"] is None else "patches"
        text = f"{len(ids):,} {what}, distances {distances[0]:.3g} to {distances[-1]:.3g}"
        return text, "success"

    def follow_up(self, ctx: Any, result: dict[str, Any]) -> Iterable[Any]:
        if result["ids"]:
            yield ctx.ops.clear_selected_samples()
            yield ctx.ops.clear_selected_labels()
            found = results.view_of(ctx.dataset, result["patches_field"], result["ids"])
            yield ctx.ops.set_view(found)


def _choose_query(ctx: Any, inputs: Any, config: Any) -> None:
    prompts = bool(getattr(config, "supports_prompts", False))
    choices = types.RadioGroup(orientation="horizontal")
    count = len(ctx.selected or ()) or len(ctx.selected_labels or ())
    choices.add_choice("selection", label=f"Selection ({count})")
    if prompts:
        choices.add_choice("text", label="Text")
    if getattr(config, "model", None) is not None:
        choices.add_choice("image", label="Image")
    default = "text" if prompts and not count else "selection"
    inputs.enum("query", choices.values(), default=default, label="Search by", view=choices)
    query = ctx.params.get("query", default)
    if query == "text":
        inputs.str("text", required=True, label="Text")
    elif query == "image":
        inputs.uploaded_file("image", required=True, label="Image")
    elif not count:
        inputs.view(
            "nothing",
            types.Warning(label="Select samples in the grid first; Alt-click selects negatives"),
        )


def _query(ctx: Any, index: Any) -> Any:
    params = ctx.params
    query = params.get("query") or ("text" if params.get("text") else "selection")
    if query not in _QUERIES:
        raise InvalidInputError(f"Unknown query {query!r}; expected one of {_QUERIES}")
    if query == "selection":
        return queries.selection(ctx, index)
    if query == "image":
        return queries.uploaded(ctx, index)
    text = params.get("text")
    if not isinstance(text, str) or not text.strip():
        raise InvalidInputError("Give a text to search for")
    if not index.config.supports_prompts:
        raise InvalidInputError(
            f"Index '{index.key}' can't be searched by text: its model embeds no prompts; create "
            "one with a CLIP model"
        )
    return text
