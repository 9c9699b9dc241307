"""The operator that says how unique, or how representative, each sample is."""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types

from fiftyone_milvus.curation.ratings import Ratings
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.inventory.stored_index import open_index
from fiftyone_milvus.numbers import check_integer
from fiftyone_milvus.plugin import forms, pictures, preview
from fiftyone_milvus.plugin.kept import Kept
from fiftyone_milvus.plugin.operator import Info
from fiftyone_milvus.plugin.operators.finding import FindOperator, Found, choices, tagged

_WHAT = {
    "uniqueness": ("Uniqueness", "Far from the nearest"),
    "representativeness": ("Representativeness", "In the middle of others"),
}
_COUNT = 100
_shown: Kept[Ratings] = Kept()


class RateSamples(FindOperator):
    """Say how unique, or how representative, each sample is."""

    info = Info(
        name="rate_samples",
        title="rate samples",
        icon="leaderboard",
        risk="LOW",
        job="Rating samples",
    )
    tag = "rated"
    results = choices("in that order", tag, "select")

    def form(self, ctx: Any, inputs: Any) -> None:
        key = forms.choose_index(ctx, inputs)
        kinds = types.RadioGroup(orientation="horizontal")
        forms.choose(inputs, "what", _WHAT, kinds, default="uniqueness", label="Rate by")
        inputs.bool(
            "lowest",
            default=False,
            label="Lowest first",
            description="Take those with the smallest numbers",
            view=types.CheckboxView(),
        )
        inputs.int("count", min=1, default=_COUNT, label="How many")
        inputs.str("field", label="Field", description="Store the number of each here")
        self.choose_result(ctx, inputs)
        forms.choose_target(ctx, inputs, verb="Rate")
        if key is None:
            return
        with forms.problems(inputs):
            index, what = open_index(ctx.dataset, key), ctx.params.get("what")
            if not preview.due(ctx, inputs, index, "Rate them now"):
                return
            own = index._restricted(ctx.dataset)
            found = _shown.get(index, what, lambda: _rate(own, what))
            inputs.md(str(found), name="rated")
            if len(found):
                inputs.view("values", pictures.histogram(found.values, found.name.title()))
                shown = [("highest", found.ids), ("lowest", found.ids[::-1])]
                field = index.config.patches_field
                inputs.view("ends", pictures.rows(ctx.dataset, field, shown, "Both ends"))

    def find(self, ctx: Any, index: MilvusSimilarityIndex) -> Found:
        params = ctx.params
        count, into = params.get("count"), params.get("field") or None
        count = check_integer("count", _COUNT if count is None else count)
        found = _rate(index, params.get("what"))
        if into is not None:
            found.save(into)
        step = -1 if params.get("lowest") else 1
        facts = {
            "what": found.name,
            "values": found.values[::step][:count].tolist(),
            "written": into is not None,
            "text": str(found),
        }
        return Found(found.ids[::step][:count], facts)

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        return result["text"] + tagged(result), "success" if result["ids"] else "info"


def _rate(index: MilvusSimilarityIndex, what: Any) -> Ratings:
    what = "uniqueness" if what is None else what
    if what not in _WHAT:
        raise InvalidInputError(f"Unknown what {what!r}; expected one of {(*_WHAT,)}")
    if what == "uniqueness":
        return index.compute_uniqueness(progress=False)
    return index.compute_representativeness(progress=False)
