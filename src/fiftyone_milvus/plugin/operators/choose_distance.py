"""The operator that chooses the largest distance of a result, on a histogram."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any

import fiftyone.operators.types as types
import numpy as np

from fiftyone_milvus.errors import FiftyOneMilvusError, InvalidInputError
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.numbers import as_number
from fiftyone_milvus.plugin import searches
from fiftyone_milvus.plugin.operator import Info, Report, from_app
from fiftyone_milvus.plugin.operators.search import Asked, Search, keep
from fiftyone_milvus.plugin.places import Place

NEAREST = 1000
"""Results whose distances the histogram shows."""

_ALL = {"k": None, "max_distance": None, "reverse": False, "diverse": None}
"""Whatever restricts or orders the results other than their distance."""

_BINS = 40
_KEPT = 8
_known: OrderedDict[tuple[str, str], Array] = OrderedDict()


class ChooseDistance(Search):
    """Shows everything within a distance of what was searched for."""

    info = Info(
        name="choose_distance",
        title="choose a distance",
        description="Show all that is within a distance, which you choose on a histogram",
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
        inputs.view("distances", _plot(distances, chosen, kept.title))
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
        index, asked, samples = self._again(ctx, kept)
        thresh = ctx.params.get("max_distance")
        params = {**asked.params, **_ALL, "max_distance": thresh}
        if as_number(thresh) is None:
            raise InvalidInputError("Give max_distance: the largest distance of a result")
        asked = replace(asked, params=params)
        result = self.find(ctx, index, asked, samples)
        if from_app(ctx) and result["ids"]:
            places = [Place.from_dict(d) for d in (kept.within, kept.searched, kept.before)]
            keep(ctx, asked, result, *places)
        return result

    def _again(self, ctx: Any, kept: searches.Search) -> tuple[Any, Asked, Any]:
        index = ctx.dataset.load_brain_results(str(kept.params["brain_key"]))
        samples = Place.from_dict(kept.within).view(ctx.dataset)
        return index, Asked.again(ctx, kept), samples

    def _distances(self, ctx: Any, kept: searches.Search) -> Array:
        """Returns the distances of the nearest results, ascending."""
        key = (str(ctx.dataset._doc.id), kept.key)
        if key not in _known:
            index, asked, samples = self._again(ctx, kept)
            params = {**asked.params, **_ALL, "k": NEAREST}
            found = self.find(ctx, index, replace(asked, params=params), samples)
            _known[key] = np.sort(np.asarray(found["distances"], dtype=np.float64))
            while len(_known) > _KEPT:
                _known.popitem(last=False)
        return _known[key]


def _plot(distances: Array, chosen: float, title: str) -> Any:
    counts, edges = np.histogram(distances, bins=_BINS)
    centers = (edges[:-1] + edges[1:]) / 2
    inside = ["rgb(255, 109, 4)" if x <= chosen else "rgb(150, 150, 150)" for x in centers]
    return types.PlotlyView(
        data=[
            {
                "type": "bar",
                "x": [_rounded(x) for x in centers],
                "y": counts.tolist(),
                "marker": {"color": inside},
                "hovertemplate": "%{y} at about %{x}<extra></extra>",
            }
        ],
        layout={
            "title": {"text": f"Distances to “{title}”"},
            "height": 260,
            "margin": {"t": 40, "b": 40, "l": 50, "r": 20},
            "bargap": 0.05,
            "shapes": [
                {"type": "line", "x0": chosen, "x1": chosen, "y0": 0, "y1": 1, "yref": "paper"}
            ],
        },
        config={"displayModeBar": False},
    )


def _rounded(distance: float) -> float:
    return float(f"{distance:.6g}")


def _above(distance: float) -> float:
    """Returns a rounded distance that is not smaller, so that what is that far is within it."""
    return _rounded(distance + abs(distance) * 1e-5)
