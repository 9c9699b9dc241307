"""The operators that go on from a search by what was selected among its results, with one click.

The last question and the selected samples become one question: see
:mod:`fiftyone_milvus.search.question`. What was chosen before stays a part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import fiftyone.operators.types as types

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.plugin import forms, queries, searches
from fiftyone_milvus.plugin.operator import Info, Report
from fiftyone_milvus.plugin.operators.search import Asked, Search
from fiftyone_milvus.search import diversity


class _Feedback(Search):
    """Searches again, for the last question and what is selected."""

    label: ClassVar[str]
    """Of the button."""

    def form(self, ctx: Any, inputs: Any) -> None:
        key = forms.choose_index(ctx, inputs)
        kept = _last(ctx, ctx.params.get("brain_key") or None)
        if kept is not None:
            inputs.md(f"Goes on from the search for “{kept.title}”", name="last")
        words = "" if key is None else _selected(ctx, key).words
        if not words:
            label = "Select samples in the grid first"
            inputs.view("nothing", types.Warning(label=label))
        else:
            inputs.md(f"Selected: {words}", name="chosen")

    def resolve_placement(self, ctx: Any) -> Any:
        """Returns a button above the grid, where it shows a search; see the base class."""
        if ctx.dataset is None or _last(ctx, None) is None:
            return None
        button = types.Button(label=self.label, icon=self.info.icon, prompt=False)
        return types.Placement(types.Places.SAMPLES_GRID_ACTIONS, button)

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        kept = _last(ctx, ctx.params.get("brain_key") or None)
        key = forms.key_of(ctx) if kept is None else str(kept.params["brain_key"])
        index = ctx.dataset.load_brain_results(key)
        chosen = queries.selected(ctx, patches=index.config.patches_field is not None)
        queries.check_selection(ctx, index, chosen)
        if kept is None:
            return self.first(ctx, report)
        more, less = self.sides(chosen)
        asked = Asked.again(ctx, kept)
        asked = replace(
            asked,
            feedback=_with(
                asked.feedback,
                _keys(index, more, chosen.of),
                _keys(index, less, chosen.of),
            ),
            # The distances of another question are others
            params={
                **asked.params,
                "k": asked.params.get("k") or min(kept.count, diversity.MOST),
                "max_distance": None,
                "reverse": False,
            },
        )
        return self.go_on(ctx, kept, asked)

    def first(self, ctx: Any, report: Report) -> dict[str, Any]:
        """Runs where there is no search to go on from."""
        raise NotImplementedError

    def sides(self, chosen: queries.Selection) -> tuple[Sequence[str], Sequence[str]]:
        """Returns the IDs that results should resemble, and those that they should not."""
        raise NotImplementedError


class MoreLike(_Feedback):
    """Search again, for the last search and what is selected."""

    info = Info(
        name="more_like",
        title="more like these",
        icon="thumb_up",
        risk="LOW",
    )
    label = "More like these"

    def first(self, ctx: Any, report: Report) -> dict[str, Any]:
        return super(_Feedback, self).run(ctx, report)

    def sides(self, chosen: queries.Selection) -> tuple[Sequence[str], Sequence[str]]:
        return chosen.like, chosen.unlike


class LessLike(_Feedback):
    """Search again, for the last search and away from what is selected."""

    info = Info(
        name="less_like",
        title="less like those",
        icon="thumb_down",
        risk="LOW",
    )
    label = "Less like those"

    def first(self, ctx: Any, report: Report) -> dict[str, Any]:
        raise InvalidInputError(
            "There is no search to go on from; search first, or select what the results should "
            "resemble too and search by selection"
        )

    def sides(self, chosen: queries.Selection) -> tuple[Sequence[str], Sequence[str]]:
        return (), [*chosen.like, *chosen.unlike]


def _last(ctx: Any, key: str | None) -> searches.Search | None:
    """Returns the search whose result the App shows, if it is of an index and can be repeated."""
    kept = searches.current(ctx)
    if kept is None or not kept.title or key not in (None, kept.params["brain_key"]):
        return None
    return kept


def _selected(ctx: Any, key: str) -> queries.Selection:
    config: Any = ctx.dataset.get_brain_info(key).config
    return queries.selected(ctx, patches=getattr(config, "patches_field", None) is not None)


def _keys(index: Any, ids: Sequence[str], of: str) -> list[str]:
    """Returns the primary keys of what is selected: of samples in an index of patches, all."""
    if not ids or of == "labels" or index.config.patches_field is None:
        return list(ids)
    return index._lookup.find(list(ids), True, True, False)


def _with(before: Any, more: Sequence[str], less: Sequence[str]) -> dict[str, list[str]]:
    """Returns what was chosen before and now; what is chosen now replaces what it was before."""
    now = {*more, *less}
    return {
        name: [*(i for i in before.get(name, ()) if i not in now), *ids]
        for name, ids in (("more", more), ("less", less))
    }
