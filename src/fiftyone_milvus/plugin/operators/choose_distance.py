"""The operator that chooses the largest distance of a result, on a histogram."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import fiftyone.operators.types as types
import numpy as np

from fiftyone_milvus.errors import FiftyOneMilvusError, InvalidInputError
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.numbers import as_number
from fiftyone_milvus.plugin import pictures, searches
from fiftyone_milvus.plugin.kept import Kept
from fiftyone_milvus.plugin.operator import Info, Report
from fiftyone_milvus.plugin.operators.search import Asked, Search

NEAREST = 1000
"""Results whose distances the histogram shows."""

_ALL = {"k": None, "max_distance": None, "reverse": False, "diverse": None}
"""Whatever restricts or orders the results other than their distance."""

_shown: Kept[Array] = Kept()


class ChooseDistance(Search):
    """Show all that is within a distance, which you choose on a histogram."""

    info = Info(
        name="choose_distance",
        title="choose a distance",
        icon="bar_chart",
        risk="LOW",
    )

    def form(self, ctx: Any, inputs: Any) -> None:
        kept = searches.current(ctx)
        if kept is None or not kept.title:
            label = "Search first: what you see is not the result of a search that is kept"
            inputs.view("none", types.Warning(label=label))
            inputs.str("max_distance", required=True, view=types.HiddenView())
            return
        try:
            distances = self._distances(ctx, kept)
        except FiftyOneMilvusError as error:
            inputs.view("no_distances", types.Error(label=str(error)))
            return
        at = min(kept.count, len(distances)) - 1
        chosen = as_number(ctx.params.get("max_distance"))
        chosen = _above(distances[at]) if chosen is None else chosen
        title = f"Distances to “{kept.title}”"
        inputs.view("distances", pictures.histogram(distances, title, chosen))
        inputs.float(
            "max_distance",
            required=True,
            default=_above(distances[at]),
            min=_rounded(distances[0]),
            max=_above(distances[-1]),
            label="Distance",
            view=types.SliderView(),
        )
        count = int(np.searchsorted(distances, chosen, side="right"))
        more = " or more" if count == len(distances) == NEAREST else ""
        inputs.md(f"**{count:,}{more}** results within {chosen:.4g}", name="count")
        inputs.bool(
            "show_distances", default=False, label="Show distances", view=types.CheckboxView()
        )

    def run(self, ctx: Any, report: Report) -> dict[str, Any]:
        kept = searches.current(ctx)
        if kept is None:
            raise InvalidInputError("What you see is not the result of a search; search first")
        asked, thresh = Asked.again(ctx, kept), ctx.params.get("max_distance")
        params = {**asked.params, **_ALL, "max_distance": thresh}
        if as_number(thresh) is None:
            raise InvalidInputError("Give max_distance: the largest distance of a result")
        return self.go_on(ctx, kept, replace(asked, params=params))

    def _distances(self, ctx: Any, kept: searches.Search) -> Array:
        """Returns the distances of the nearest results, ascending."""

        def compute() -> Array:
            asked = Asked.again(ctx, kept)
            params = {**asked.params, **_ALL, "k": NEAREST}
            found = self.find_in(ctx, kept, replace(asked, params=params))
            return np.sort(np.asarray(found["distances"], dtype=np.float64))

        index = ctx.dataset.load_brain_results(str(kept.params["brain_key"]))
        return _shown.get(index, kept.key, compute)


def _rounded(distance: float) -> float:
    return float(f"{distance:.6g}")


def _above(distance: float) -> float:
    """Rounds a distance up, so that a result at this distance is within it."""
    return _rounded(distance + abs(distance) * 1e-5)
