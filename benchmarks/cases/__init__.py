"""The cases: each takes the world and returns its tables."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.cases import (
    again,
    app,
    backends,
    building,
    codes,
    duplicates,
    farthest,
    filtered,
    first_answer,
    first_minutes,
    index_types,
    millions,
    overlap,
    planning,
    power_loss,
    querying,
    reading,
    recall,
    sizes,
    sorting,
    syncing,
    uploading,
    views,
)
from benchmarks.report import Table
from benchmarks.world import World

CASES: dict[str, Callable[[World], list[Table]]] = {
    "querying": querying.run,
    "building": building.run,
    "uploading": uploading.run,
    "first_answer": first_answer.run,
    "sorting": sorting.run,
    "views": views.run,
    "first_minutes": first_minutes.run,
    "again": again.run,
    "farthest": farthest.run,
    "backends": backends.run,
    "recall": recall.run,
    "index_types": index_types.run,
    "filtered": filtered.run,
    "duplicates": duplicates.run,
    "planning": planning.run,
    "codes": codes.run,
    "millions": millions.run,
    "power_loss": power_loss.run,
    "overlap": overlap.run,
    "syncing": syncing.run,
    "reading": reading.run,
    "app": app.run,
    "sizes": sizes.run,
}
