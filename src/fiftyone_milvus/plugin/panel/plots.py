"""The panel's plots, as Plotly's traces and layouts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fiftyone_milvus.metrics import Array

Trace = dict[str, Any]

_ORANGE, _GRAY = "rgb(255, 109, 4)", "rgb(128, 128, 128)"
_COLORS = (
    _ORANGE, "rgb(56, 132, 255)", "rgb(34, 166, 110)", "rgb(176, 88, 214)", "rgb(214, 62, 98)",
    "rgb(150, 134, 40)", "rgb(36, 160, 186)", _GRAY,
)  # fmt: skip


class Point(NamedTuple):
    """What searches found, and how fast.

    Attributes:
        label: the index type or the search parameters
        recall: in [0, 1]
        milliseconds: the median of a search for one query
        chosen: whether it is what the index uses
    """

    label: str
    recall: float
    milliseconds: float
    chosen: bool = False


def histogram(distances: Array, bins: int) -> tuple[list[float], list[int]]:
    """Returns the edges and the counts of a histogram.

    The edges have four digits, as what one clicks is what one reads. The last is never below the
    largest distance.
    """
    counts, edges = np.histogram(distances, bins=bins)
    upper = [float(f"{x:.4g}") for x in edges]
    upper[-1] = max(upper[-1], float(distances.max()))
    return upper, counts.tolist()


def bars(edges: Sequence[float], counts: Sequence[int], within: float | None = None) -> Trace:
    """Returns the bars of a histogram; those above a distance are gray, if one is given."""
    middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
    colors = [_ORANGE if within is None or high <= within else _GRAY for high in edges[1:]]
    return {
        "type": "bar",
        "x": middles,
        "y": list(counts),
        "width": [high - low for low, high in itertools.pairwise(edges)],
        "marker": {"color": colors},
        "customdata": list(edges[1:]),
        "hovertemplate": "%{y} up to %{customdata:.4g}<extra></extra>",
    }


def histogram_layout(counted: str) -> dict[str, Any]:
    """Returns the layout of a histogram of distances, and of what it counts."""
    return _layout("distance", counted, bargap=0.05)


def recall_over_latency(points: Sequence[Point], target: float | None) -> list[Trace]:
    """Returns points of recall over latency, with a line at the recall that was asked for."""
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": point.label,
            "x": [point.milliseconds],
            "y": [point.recall],
            "marker": {
                "size": 16 if point.chosen else 10,
                "symbol": "star" if point.chosen else "circle",
                "color": _COLORS[i % len(_COLORS)],
            },
            "hovertemplate": f"{point.label}: recall %{{y:.4f}}, %{{x:.2f}} ms<extra></extra>",
        }
        for i, point in enumerate(points)
    ]
    if target is not None and points:
        slowest = max(point.milliseconds for point in points)
        line = {"dash": "dash", "color": _ORANGE}
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"{target:g} asked for",
                "x": [0, 1.1 * slowest],
                "y": [target, target],
                "line": line,
                "hoverinfo": "skip",
            }
        )
    return traces


def recall_layout(k: int) -> dict[str, Any]:
    """Returns the layout of recall over latency."""
    layout = _layout("milliseconds per search", f"recall@{k}")
    layout["xaxis"]["rangemode"] = "tozero"
    layout["legend"] = {"orientation": "h", "y": -0.3, "x": 0, "font": {"size": 12}}
    return {**layout, "showlegend": True}


def _layout(x: str, y: str, **others: Any) -> dict[str, Any]:
    return {
        "xaxis": {"title": {"text": x}, "automargin": True},
        "yaxis": {"title": {"text": y}, "automargin": True},
        "margin": {"t": 12, "b": 44, "l": 56, "r": 12},
        "showlegend": False,
        **others,
    }
