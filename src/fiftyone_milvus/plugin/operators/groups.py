"""The operator that finds groups of near-duplicates that do not chain."""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types

from fiftyone_milvus.curation.groups import Groups
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.inventory.stored_index import open_index
from fiftyone_milvus.plugin import forms, pictures, preview
from fiftyone_milvus.plugin.kept import Kept
from fiftyone_milvus.plugin.operator import Info, from_app
from fiftyone_milvus.plugin.operators.finding import FindOperator, Found, choices

_RULES = {
    "central": "The most central",
    "sharpest": "The sharpest",
    "largest": "The largest",
    "oldest": "The oldest, by EXIF date",
    "oldest:": "The oldest, by a field",
    "tag:": "One with a tag",
    "first": "The first",
}

_shown: Kept[Groups] = Kept()


class FindGroups(FindOperator):
    """Find groups in which every two are nearly the same, and keep one of each."""

    info = Info(
        name="find_groups",
        title="find groups of duplicates",
        icon="content_copy",
        risk="LOW",
        job="Finding groups",
    )
    tag = "duplicate"
    results = choices("one group after the other", tag, "review", default="review")

    def form(self, ctx: Any, inputs: Any) -> None:
        key = forms.choose_index(ctx, inputs)
        text = "Every two of a group are this close, or closer"
        thresh = preview.choose_distance(ctx, inputs, key, text)
        rules = types.DropdownView()
        forms.choose(inputs, "keep", _RULES, rules, default="central", label="Keep")
        keep = ctx.params.get("keep") or "central"
        if keep.endswith(":"):
            label = "Field" if keep == "oldest:" else "Tag"
            inputs.str("keep_by", required=True, label=label)
        if key is not None and open_index(ctx.dataset, key).config.patches_field is None:
            inputs.bool(
                "files",
                default=False,
                label="Exact copies of files",
                description="Put samples whose files have the same bytes into one group",
                view=types.CheckboxView(),
            )
        self.choose_result(ctx, inputs)
        forms.choose_target(ctx, inputs, verb="Search")
        if key is not None and thresh is not None and from_app(ctx):
            with forms.problems(inputs):
                _preview(ctx, inputs, open_index(ctx.dataset, key), thresh)

    def find(self, ctx: Any, index: MilvusSimilarityIndex) -> Found:
        params = ctx.params
        keep = params.get("keep") or "central"
        if isinstance(keep, str) and keep.endswith(":"):
            keep += str(params.get("keep_by") or "")
        files = bool(params.get("files", False))
        found = index.find_groups(params.get("thresh"), keep, files=files, progress=False)
        facts = {
            "groups": found.groups.tolist(),
            "ranks": found.ranks.tolist(),
            "distances": found.distances.tolist(),
            "text": str(found),
        }
        return Found(found.ids, facts, tagged=found.duplicate_ids, review=found.save)

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        if not result["ids"]:
            return f"{result['text']}; try a larger distance", "info"
        more = "; review them in the Milvus panel: Duplicates"
        return result["text"] + (more if result["result"] == "review" else ""), "success"


def _preview(ctx: Any, inputs: Any, index: MilvusSimilarityIndex, thresh: float) -> None:
    """Shows the largest groups, in the whole dataset, without the rule that reads files."""
    if index.total_index_size > preview.AT_ONCE:
        return
    own = index._restricted(ctx.dataset)
    found = _shown.get(own, thresh, lambda: own.find_groups(thresh, progress=False))
    inputs.md(str(found), name="preview")
    if len(found):
        field = index.config.patches_field
        plot = pictures.rows(ctx.dataset, field, _largest(found), "Largest groups")
        inputs.view("largest", plot)


def _largest(groups: Groups) -> list[tuple[str, list[str]]]:
    order = sorted(range(1, len(groups) + 1), key=lambda n: (-int(groups.sizes[n - 1]), n))
    members = [groups.members(n) for n in order[: pictures.ROWS]]
    return [(f"{len(ids):,} alike", ids) for ids in members]
