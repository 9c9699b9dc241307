"""The operator that finds leaks: samples of one part of the data that are nearly in another."""

from __future__ import annotations

from typing import Any

from fiftyone_milvus.curation.leaks import Leaks
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.inventory.stored_index import open_index
from fiftyone_milvus.plugin import forms, parts, pictures, preview
from fiftyone_milvus.plugin.kept import Kept
from fiftyone_milvus.plugin.operator import Info
from fiftyone_milvus.plugin.operators.finding import FindOperator, Found, choices

_shown: Kept[Leaks] = Kept()


class FindLeaks(FindOperator):
    """Find what is in one part of the data and nearly in another, such as test."""

    info = Info(
        name="find_leaks",
        title="find leaks between splits",
        icon="call_split",
        risk="LOW",
        job="Finding leaks",
    )
    tag = "leak"
    results = choices("each before what it is nearly the same as", tag, "select")

    def form(self, ctx: Any, inputs: Any) -> None:
        key = forms.choose_index(ctx, inputs)
        parts.choose(ctx, inputs, "samples", "Samples, such as test")
        parts.choose(ctx, inputs, "others", "Others, such as train", key=key or "")
        thresh = preview.choose_distance(ctx, inputs, key, "Both of a pair are this close")
        self.choose_result(ctx, inputs)
        given = [ctx.params.get(name) for name in ("samples", "others")]
        if key is None or thresh is None or not all(given):
            return
        with forms.problems(inputs):
            index = open_index(ctx.dataset, key)
            if not preview.due(ctx, inputs, index, "Compare the parts"):
                return
            found = _shown.get(index, [*given, thresh], lambda: _find(ctx, index, thresh))
            inputs.md(str(found), name="leaks")
            closest = list(_pairs(found).items())[: pictures.ROWS]
            near = dict(zip(found.ids[::-1], found.distances[::-1].tolist()))
            rows = [(f"{near[one]:.3g}", [one, *others]) for one, others in closest]
            if rows:
                field = index.config.patches_field
                inputs.view("closest", pictures.rows(ctx.dataset, field, rows, "The closest"))

    def find(self, ctx: Any, index: MilvusSimilarityIndex) -> Found:
        found = _find(ctx, index, ctx.params.get("thresh"))
        pairs = _pairs(found)
        shown = dict.fromkeys(i for one, others in pairs.items() for i in (one, *others))
        columns = zip(found.ids, found.other_ids, found.distances.tolist())
        facts = {"pairs": [list(pair) for pair in columns], "text": str(found)}
        return Found(list(pairs), facts, list(shown))

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        return result["text"], "warning" if result["ids"] else "success"


def _find(ctx: Any, index: Any, thresh: Any) -> Leaks:
    others = parts.part_of(ctx, "others", index=True)
    found: Leaks = index.find_leaks(parts.part_of(ctx, "samples"), others, thresh, progress=False)
    return found


def _pairs(found: Leaks) -> dict[str, list[str]]:
    """Returns what leaks, the closest first, with the others of this dataset that each is near."""
    (dataset, _), (other, _) = found._places
    pairs: dict[str, list[str]] = {}
    for one, near in zip(found.ids, found.other_ids):
        pairs.setdefault(one, [])
        if dataset.name == other.name:
            pairs[one].append(near)
    return pairs
