"""A preview of near-duplicates: how many samples have a neighbor within a distance."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import fiftyone.operators.types as types
import numpy as np

from fiftyone_milvus.inventory.stored_index import open_index
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.numbers import as_number
from fiftyone_milvus.plugin import forms
from fiftyone_milvus.plugin.operator import from_app

SAMPLE = 1000
"""Vectors whose nearest neighbor is searched: a share of 5 % is then known to within 0.7 %."""

AT_ONCE = 20_000
"""Vectors of an index whose preview is always shown; a larger index takes long to read."""

_SUGGESTED = 5
_KEPT = 16


@dataclass(frozen=True)
class Preview:
    """The distances of vectors to their nearest neighbor.

    Attributes:
        distances: of a random part of the vectors: an ascending float64 array
        vectors: how many vectors the index has
    """

    distances: Array
    vectors: int

    @property
    def suggestion(self) -> float:
        """A distance within which 5 % have a neighbor, with three digits."""
        return float(f"{np.percentile(self.distances, _SUGGESTED):.3g}")

    def count(self, thresh: float) -> int:
        """Returns how many vectors have a neighbor within a distance; for large indexes, about."""
        share = np.searchsorted(self.distances, thresh, side="right") / len(self.distances)
        return round(float(share) * self.vectors)

    def table(self, thresh: float | None) -> list[tuple[float, str]]:
        """Returns distances, ascending: five, and a chosen one; each with its count as text."""
        others = np.percentile(self.distances, (1, 5, 10, 25, 50)).tolist()
        values = {float(f"{value:.3g}") for value in others}
        if thresh is not None:
            values.add(float(thresh))
        about = "" if len(self.distances) == self.vectors else "about "
        return [(v, f"{about}{self.count(v):,} of {self.vectors:,}") for v in sorted(values)]

    def markdown(self, thresh: Any) -> str:
        """Returns :meth:`table` in Markdown."""
        chosen = as_number(thresh)
        rows = ["| distance | samples with a neighbor |", "| --- | --- |"]
        for value, samples in self.table(chosen):
            mark = "**" if value == chosen else ""
            rows.append(f"| {mark}{value:.3g}{mark} | {mark}{samples}{mark} |")
        return "\n".join(rows)


_known: dict[tuple[str, str, str, int], Preview] = {}
_lock = threading.Lock()


def due(ctx: Any, inputs: Any, index: Any, what: str) -> bool:
    """Whether a form previews now; for a large index only after a switch, which it adds.

    Args:
        ctx: the execution context
        inputs: the :class:`fiftyone.operators.types.Object` of the form
        index: the index
        what: what the switch does, such as ``"Select now, to look at it"``

    Raises:
        FiftyOneMilvusError: if Milvus does not answer
    """
    # FiftyOne resolves the form for Python and for delegated execution too
    if not from_app(ctx):
        return False
    size = index.total_index_size
    if size <= AT_ONCE:
        return True
    text = f"{what}; reads all {size:,} vectors once"
    view = types.SwitchView()
    inputs.bool("preview", default=False, label="Preview", description=text, view=view)
    return bool(ctx.params.get("preview"))


def choose_distance(ctx: Any, inputs: Any, key: str | None, description: str) -> float | None:
    """Adds the choice of a distance, with a suggestion in the App; returns what is chosen.

    Args:
        ctx: the execution context
        inputs: the :class:`fiftyone.operators.types.Object` of the form
        key: the brain key, or None if there is no index
        description: what is within the distance
    """
    suggested = None
    if key is not None and from_app(ctx):
        with forms.problems(inputs):
            if open_index(ctx.dataset, key).total_index_size <= AT_ONCE:
                suggested = of(ctx.dataset, key).suggestion
    inputs.float(
        "thresh", required=True, default=suggested, label="Distance", description=description
    )
    return as_number(ctx.params.get("thresh", suggested))


def of(dataset: Any, key: str) -> Preview:
    """Returns the preview of an index, which is cached until the size of the index changes.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        key: the brain key

    Raises:
        FiftyOneMilvusError: if Milvus does not answer, or the index has fewer than two vectors
    """
    index = open_index(dataset, key)
    size = index.total_index_size
    name = (str(dataset._doc.id), key, str(index.config.collection_name), size)
    # The App resolves a form at each keystroke: the first one computes, the others wait
    with _lock:
        if name in _known:
            return _known[name]
        found = Preview(np.sort(index.nearest_distances(SAMPLE, progress=False)), size)
        while len(_known) >= _KEPT:
            del _known[next(iter(_known))]
        _known[name] = found
    return found
