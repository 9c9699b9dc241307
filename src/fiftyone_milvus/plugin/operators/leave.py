"""The operators that leave the result of a search, and forget recent searches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fiftyone.operators.types as types

from fiftyone_milvus.plugin import searches
from fiftyone_milvus.plugin.operator import Info, MilvusOperator, Report


class LeaveResults(MilvusOperator):
    """Show what you saw before you searched."""

    info = Info(
        name="leave_results",
        title="leave the results",
        icon="undo",
        risk="LOW",
    )

    def form(self, ctx: Any, inputs: Any) -> None:
        if not searches.shown(ctx).result:
            inputs.view("none", types.Notice(label="What you see is not the result of a search"))

    def resolve_placement(self, ctx: Any) -> Any:
        """Returns a button above the grid, where it shows a result; see the base class."""
        label = back(ctx)
        if label is None:
            return None
        button = types.Button(label=label, icon="undo", prompt=False)
        return types.Placement(types.Places.SAMPLES_GRID_ACTIONS, button)

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        return {"left": searches.shown(ctx).result}

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        if result["left"]:
            return "Back to what you saw before you searched", "success"
        return "What you see is not the result of a search", "info"

    def follow_up(self, ctx: Any, result: dict[str, Any]) -> Iterable[Any]:
        if result["left"]:
            yield searches.shown(ctx).before.show(ctx)


def back(ctx: Any) -> str | None:
    """Returns where :class:`LeaveResults` leads, such as "Back to 5,112 samples", if anywhere."""
    if ctx.dataset is None:
        return None
    shown = searches.shown(ctx)
    if not shown.result:
        return None
    what = "filtered" if shown.before.stages else "samples"
    return f"Back to {shown.before.count(ctx.dataset):,} {what}"


class ForgetSearches(MilvusOperator):
    """Forget the recent searches of this dataset."""

    info = Info(
        name="forget_searches",
        title="forget recent searches",
        icon="history_toggle_off",
        risk="LOW",
    )

    def form(self, ctx: Any, inputs: Any) -> None:
        titles = [f"- {search.title}" for search in searches.recent(ctx.dataset)]
        inputs.md("\n".join(titles) or "There are none", name="searches")

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        return {"forgotten": searches.forget(ctx.dataset)}

    def message(self, result: dict[str, Any]) -> tuple[str, str]:
        return f"Forgot {result['forgotten']:,} searches", "success"
