"""The operators that find near-duplicates and unique samples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import fiftyone.operators.types as types

from fiftyone_milvus.errors import FiftyOneMilvusError, InvalidInputError
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.numbers import check_integer
from fiftyone_milvus.plugin import forms, preview, results, review, searches
from fiftyone_milvus.plugin.operator import Info, MilvusOperator, Report, from_app

_RESULTS = ("view", "tag", "select", "review")
_DEFAULT_COUNT = 100
"""How many are found where neither a number nor a distance is given."""

_ORDERED_UP_TO = 10_000
"""Unique samples that are ordered: each is compared with the whole index once more."""


class _FindOperator(MilvusOperator):
    """Finds samples or patches, and shows, tags or selects them."""

    tag: ClassVar[str]
    """The tag, unless the caller gives one."""

    order: ClassVar[str]
    """The order of what is shown, for the form."""

    reviewed: ClassVar[bool] = False
    """Whether the result can be reviewed in the panel."""

    def find(self, index: MilvusSimilarityIndex, params: Any) -> tuple[list[str], list[str]]:
        """Returns the IDs that are found, and those to show, in their order.

        Args:
            index: restricted to the samples that are searched; for this call alone
            params: the caller's
        """
        raise NotImplementedError

    def choose_result(self, ctx: Any, inputs: Any) -> None:
        """Adds the choice of what to do with the samples that are found, and of a target."""
        choices = types.RadioGroup(orientation="horizontal")
        choices.add_choice("view", label="Show", description=f"Show them {self.order}")
        choices.add_choice("tag", label="Tag", description="Tag them")
        choices.add_choice("select", label="Select", description="Select them in the grid")
        if self.reviewed:
            choices.add_choice(
                "review", label="Review", description="Review them in the Milvus panel"
            )
        inputs.enum("result", choices.values(), default="view", label="Then", view=choices)
        if ctx.params.get("result") == "tag":
            inputs.str("tag", default=self.tag, required=True, label="Tag")
        forms.choose_target(ctx, inputs, verb="Search")

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        index, params = forms.index_of(ctx), ctx.params
        result, tag = params.get("result") or "view", params.get("tag") or self.tag
        known = _RESULTS if self.reviewed else _RESULTS[:-1]
        if result not in known:
            raise InvalidInputError(f"Unknown result {result!r}; expected one of {known}")
        if not isinstance(tag, str):
            raise InvalidInputError(f"Invalid tag {tag!r}; expected a string")
        own = results.restricted(index, forms.target_of(ctx))
        field = index.config.patches_field
        if result == "review":
            review.check(ctx.dataset, field)
        report(None, "Reading vectors and comparing")
        found, shown = self.find(own, params)
        if result == "review":
            groups = own.neighbors_map or {}
            review.store(ctx.dataset, field, groups, index.key, float(own.thresh or 0.0))
        if result == "tag":
            results.tag(ctx.dataset, field, found, tag)
        return {
            "brain_key": index.key,
            "patches_field": field,
            "ids": found,
            "shown": shown,
            "thresh": None if own.thresh is None else float(own.thresh),
            "result": result,
            "asked": params.get("count"),
        }

    def follow_up(self, ctx: Any, result: dict[str, Any]) -> Iterable[Any]:
        ids, what = result["ids"], result["result"]
        if not ids:
            return
        if what in ("tag", "review"):
            yield ctx.ops.reload_dataset()
            return
        shown = result["shown"] if what == "view" else ids
        if what == "view" or result["patches_field"] is not None:
            if from_app(ctx):
                searches.keep_result(ctx, shown)
            yield ctx.ops.set_view(results.view_of(ctx.dataset, result["patches_field"], shown))
        if what == "select":
            yield ctx.ops.set_selected_samples(ids)


class FindDuplicates(_FindOperator):
    """Finds samples or patches within a distance of another one, which is kept."""

    info = Info(
        name="find_duplicates",
        title="find near-duplicates",
        description="Find samples that are nearly the same as another one",
        icon="file_copy",
        risk="LOW",
        job="Finding near-duplicates",
    )
    tag = "duplicate"
    order = "after their originals"
    reviewed = True

    def form(self, ctx: Any, inputs: Any) -> None:
        key = forms.choose_index(ctx, inputs)
        near = None if key is None else _preview(ctx, inputs, key)
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

    def find(self, index: MilvusSimilarityIndex, params: Any) -> tuple[list[str], list[str]]:
        index.find_duplicates(thresh=params.get("thresh"), fraction=params.get("fraction"))
        # The closest first, as in FiftyOne's duplicates_view()
        groups = sorted((index.neighbors_map or {}).items(), key=lambda group: group[1][0][1])
        shown = [str(i) for one, others in groups for i in (one, *(o for o, _ in others))]
        return [str(i) for i in index.duplicate_ids], shown

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        text = f"{len(result['ids']):,} near-duplicates"
        if result["thresh"] is not None:
            text += f" within {result['thresh']:.3g}"
        if result["result"] == "review":
            text += "; review them in the Milvus panel: Duplicates"
        return text, "success" if result["ids"] else "info"


def _preview(ctx: Any, inputs: Any, key: str) -> preview.Preview | None:
    """Returns the preview of an index; for a large one only after a switch, which it adds."""
    # FiftyOne resolves the form for Python and for delegated execution too
    if not from_app(ctx):
        return None
    try:
        size = preview.size_of(ctx.dataset, key)
        if size > preview.AT_ONCE:
            inputs.bool(
                "preview",
                default=False,
                label="Preview",
                description=f"Count the samples within a distance; reads all {size:,} vectors once",
                view=types.SwitchView(),
            )
            if not ctx.params.get("preview"):
                return None
        return preview.of(ctx.dataset, key)
    except FiftyOneMilvusError as error:
        inputs.view("no_preview", types.Error(label=str(error)))
    return None


class FindUnique(_FindOperator):
    """Finds samples or patches that differ from each other: a number of them, or all."""

    info = Info(
        name="find_unique",
        title="find unique samples",
        description="Find the samples that differ most from each other",
        icon="auto_awesome",
        risk="LOW",
        job="Finding unique samples",
    )
    tag = "unique"
    order = "the most unique first"

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

    def find(self, index: MilvusSimilarityIndex, params: Any) -> tuple[list[str], list[str]]:
        count, thresh = params.get("count"), params.get("thresh")
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
        return found, found

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        found, asked = len(result["ids"]), result["asked"]
        text = f"{found:,} unique samples"
        if found <= _ORDERED_UP_TO:
            text += ", the most unique first"
        if asked and found < asked:
            text += f"; {asked:,} were asked for, but there are no more that differ from each other"
        return text, "success"
