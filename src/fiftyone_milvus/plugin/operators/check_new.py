"""The operator that compares a new image with all, before it is added."""

from __future__ import annotations

from typing import Any

from fiftyone_milvus.curation.arrivals import Arrival
from fiftyone_milvus.dataset import images
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.inventory.stored_index import open_index
from fiftyone_milvus.plugin import forms, pictures, preview, queries
from fiftyone_milvus.plugin.kept import Kept
from fiftyone_milvus.plugin.operator import Info, from_app
from fiftyone_milvus.plugin.operators.finding import FindOperator, Found, choices

_shown: Kept[Arrival] = Kept()


class CheckNew(FindOperator):
    """Find what a new image is nearly the same as, before you add it."""

    info = Info(
        name="check_new",
        title="check a new image",
        icon="fact_check",
        risk="LOW",
        job="Checking the image",
    )
    tag = "like-new"
    results = choices("the closest first", tag, "select")

    def form(self, ctx: Any, inputs: Any) -> None:
        key = forms.choose_index(ctx, inputs)
        inputs.uploaded_file("image", required=True, label="Image")
        thresh = preview.choose_distance(ctx, inputs, key, "What is this close is the same")
        self.choose_result(ctx, inputs)
        forms.choose_target(ctx, inputs, verb="Search")
        if key is None or not from_app(ctx):
            return
        with forms.problems(inputs):
            index, image = open_index(ctx.dataset, key), ctx.params.get("image")
            images.check_model(index)
            if not image or thresh is None:
                return
            queries.show(image, inputs)
            found = _shown.get(index, [image, thresh], lambda: _check(index, image, thresh))
            inputs.md(str(found), name="near")
            if found.ids:
                rows = [(f"{found.distances[0]:.3g}", found.ids)]
                field = index.config.patches_field
                inputs.view("closest", pictures.rows(ctx.dataset, field, rows, "The closest"))

    def find(self, ctx: Any, index: MilvusSimilarityIndex) -> Found:
        found = _check(index, ctx.params.get("image"), ctx.params.get("thresh"))
        facts = {
            "distances": found.distances.tolist(),
            "groups": found.groups,
            "is_new": found.is_new,
            "text": str(found),
        }
        return Found(found.ids, facts)

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        return result["text"], "success" if result["is_new"] else "warning"


def _check(index: MilvusSimilarityIndex, image: Any, thresh: Any) -> Arrival:
    return index.check_new(queries.uploaded(image, index), thresh)
