"""The operators that find near-duplicates and unique samples."""

from __future__ import annotations

from typing import Any

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.inventory.stored_index import open_index
from fiftyone_milvus.numbers import check_integer
from fiftyone_milvus.plugin import forms, preview, review
from fiftyone_milvus.plugin.operator import Info
from fiftyone_milvus.plugin.operators.finding import FindOperator, Found, choices, tagged

_DEFAULT_COUNT = 100
"""How many are found where neither a number nor a distance is given."""

_ORDERED_UP_TO = 10_000
"""Unique samples that are ordered: each is compared with the whole index once more."""


class FindDuplicates(FindOperator):
    """Find samples that are nearly the same as another one."""

    info = Info(
        name="find_duplicates",
        title="find near-duplicates",
        icon="file_copy",
        risk="LOW",
        job="Finding near-duplicates",
    )
    tag = "duplicate"
    results = choices("after their originals", tag, "select", "review")

    def form(self, ctx: Any, inputs: Any) -> None:
        key = forms.choose_index(ctx, inputs)
        near = None
        if key is not None:
            with forms.problems(inputs):
                index, what = open_index(ctx.dataset, key), "Count the samples within a distance"
                if preview.due(ctx, inputs, index, what):
                    near = preview.of(ctx.dataset, key)
        default = None if near is None else near.suggestion
        inputs.float(
            "thresh",
            required=True,
            default=default,
            label="Distance",
            description="Samples that are this close are duplicates",
        )
        if near is not None:
            inputs.md(near.markdown(ctx.params.get("thresh", default)), name="preview")
        self.choose_result(ctx, inputs)
        forms.choose_target(ctx, inputs, verb="Search")

    def find(self, ctx: Any, index: MilvusSimilarityIndex) -> Found:
        thresh, fraction = ctx.params.get("thresh"), ctx.params.get("fraction")
        index.find_duplicates(thresh=thresh, fraction=fraction)
        near, thresh, field = index.neighbors_map or {}, _thresh(index), index.config.patches_field
        # The closest first, as in FiftyOne's duplicates_view()
        groups = sorted(near.items(), key=lambda group: group[1][0][1])
        return Found(
            [str(i) for i in index.duplicate_ids],
            {"thresh": thresh},
            [str(i) for one, others in groups for i in (one, *(o for o, _ in others))],
            review=lambda: review.store(ctx.dataset, field, near, str(index.key), thresh or 0.0),
        )

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        text = f"{len(result['ids']):,} near-duplicates"
        if result["thresh"] is not None:
            text += f" within {result['thresh']:.3g}"
        if result["result"] == "review":
            text += "; review them in the Milvus panel: Duplicates"
        text += tagged(result)
        return text, "success" if result["ids"] else "info"


def _thresh(index: MilvusSimilarityIndex) -> float | None:
    return None if index.thresh is None else float(index.thresh)


class FindUnique(FindOperator):
    """Find the samples that differ most from each other."""

    info = Info(
        name="find_unique",
        title="find unique samples",
        icon="auto_awesome",
        risk="LOW",
        job="Finding unique samples",
    )
    tag = "unique"
    results = choices("the most unique first", tag, "select")

    def form(self, ctx: Any, inputs: Any) -> None:
        forms.choose_index(ctx, inputs)
        inputs.int(
            "count",
            min=1,
            label="How many",
            description=f"By default {_DEFAULT_COUNT}, unless you give a distance",
        )
        inputs.float(
            "thresh",
            label="Distance",
            description="Instead of a number: all samples that are farther than this from each "
            "other",
        )
        self.choose_result(ctx, inputs)
        forms.choose_target(ctx, inputs, verb="Search")

    def find(self, ctx: Any, index: MilvusSimilarityIndex) -> Found:
        asked, thresh = ctx.params.get("count"), ctx.params.get("thresh")
        count = asked
        if count is not None and thresh is not None:
            raise InvalidInputError("Give count or thresh, not both")
        if thresh is None:
            count = _DEFAULT_COUNT if count is None else check_integer("count", count)
            index.find_unique(count)
        else:
            index.find_duplicates(thresh=thresh)
        found = [str(i) for i in index.unique_ids]
        if len(found) <= _ORDERED_UP_TO:
            # The least unique are those that are too many
            found = index._by_uniqueness(found)[:count]
        return Found(found, {"thresh": _thresh(index), "asked": asked})

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        found, asked = len(result["ids"]), result["asked"]
        text = f"{found:,} unique samples"
        if found <= _ORDERED_UP_TO:
            text += ", the most unique first"
        if asked and found < asked:
            text += f"; {asked:,} were asked for, but there are no more that differ from each other"
        return text + tagged(result), "success"
