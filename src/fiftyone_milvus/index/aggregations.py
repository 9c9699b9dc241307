"""How several queries become one ranking."""

from __future__ import annotations

from collections.abc import Callable

from fiftyone_milvus.metrics import Array

Aggregation = Callable[[Array], Array]

AGGREGATIONS: dict[str, Aggregation | None] = {
    "mean": None,  # of the query vectors, before the search
    "post-mean": lambda d: d.mean(axis=0),
    "post-min": lambda d: d.min(axis=0),
    "post-max": lambda d: d.max(axis=0),
    "min": lambda d: d.min(axis=0),
    "max": lambda d: d.max(axis=0),
}
"""How several queries become one ranking.

``"mean"`` averages the query vectors; the others combine each sample's distances to them. The names
with ``post-`` are those of FiftyOne's default backend.
"""
