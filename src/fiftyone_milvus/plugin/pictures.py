"""Pictures in a form: rows of thumbnails, such as the largest groups of duplicates, histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fiftyone.operators.types as types
import numpy as np

from fiftyone_milvus.dataset import selected
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.plugin.thumbnails import thumbnail
from fiftyone_milvus.schema.columns import label_root

ROWS, COLUMNS = 5, 8
_HEIGHT = 76
_BINS = 30
_ORANGE, _GRAY = "rgb(255, 109, 4)", "rgb(150, 150, 150)"


def rows(
    dataset: Any, patches_field: str | None, shown: Sequence[tuple[str, Sequence[str]]], title: str
) -> Any:
    """Returns a view of a form with a row of pictures for each of some lists of IDs.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        patches_field: the field of the patches, or None for samples
        shown: for each of up to :data:`ROWS` rows, its name, and sample or label IDs, of which the
            first :data:`COLUMNS` are shown
        title: what stands above

    Returns:
        a :class:`fiftyone.operators.types.PlotlyView`
    """
    shown = [(name, list(ids)[:COLUMNS]) for name, ids in shown[:ROWS]]
    found = _thumbnails(dataset, patches_field, [i for _, ids in shown for i in ids])
    pictures = [
        {
            "source": picture, "x": column, "y": row, "xref": "x", "yref": "y", "sizex": 0.92,
            "sizey": 0.92, "xanchor": "center", "yanchor": "middle", "sizing": "contain",
        }
        for row, (_, ids) in enumerate(shown)
        for column, i in enumerate(ids)
        if (picture := found.get(i)) is not None
    ]  # fmt: skip
    count = len(shown)
    return types.PlotlyView(
        data=[{"type": "scatter", "x": [], "y": []}],
        layout={
            "title": {"text": title, "font": {"size": 14}},
            "height": 50 + _HEIGHT * count,
            "margin": {"t": 36, "b": 8, "l": 110, "r": 8},
            "images": pictures,
            "xaxis": {"range": [-0.5, COLUMNS - 0.5], "visible": False, "fixedrange": True},
            "yaxis": {
                "range": [count - 0.5, -0.5],
                "tickvals": list(range(count)),
                "ticktext": [name for name, _ in shown],
                "fixedrange": True,
                "showgrid": False,
                "zeroline": False,
            },
            "showlegend": False,
        },
        config={"displayModeBar": False},
    )


def histogram(values: Array, title: str, chosen: float | None = None) -> Any:
    """Returns a view of a form with a histogram.

    Args:
        values: a float64 array of one number or more
        title: what stands above
        chosen (None): a value that gets a line; the bars above it are gray

    Returns:
        a :class:`fiftyone.operators.types.PlotlyView`
    """
    counts, edges = np.histogram(values, bins=_BINS)
    centers = (edges[:-1] + edges[1:]) / 2
    lines = []
    if chosen is not None:
        lines = [{"type": "line", "x0": chosen, "x1": chosen, "y0": 0, "y1": 1, "yref": "paper"}]
    bars = {
        "type": "bar",
        "x": [float(f"{x:.6g}") for x in centers],
        "y": counts.tolist(),
        "marker": {"color": [_ORANGE if chosen is None or x <= chosen else _GRAY for x in centers]},
        "hovertemplate": "%{y} at about %{x}<extra></extra>",
    }
    layout = {
        "title": {"text": title},
        "height": 240,
        "margin": {"t": 40, "b": 40, "l": 50, "r": 20},
        "bargap": 0.05,
        "shapes": lines,
    }
    return types.PlotlyView(data=[bars], layout=layout, config={"displayModeBar": False})


def _thumbnails(dataset: Any, patches_field: str | None, ids: Sequence[str]) -> dict[str, Any]:
    if patches_field is None:
        samples = selected.all_samples(dataset).select(list(ids))
        return {s.id: thumbnail(s.filepath, s.media_type) for s in samples}
    found = {}
    samples = selected.all_samples(dataset).select_labels(ids=list(ids), fields=patches_field)
    root, in_list = label_root(dataset, patches_field)
    for sample in samples:
        value = sample[patches_field]
        labels = value[root.rpartition(".")[2]] if in_list else [value]
        for label in labels:
            found[label.id] = thumbnail(sample.filepath, sample.media_type, label)
    return found
