"""The field that a search stores distances in: that of a caller, or the plugin's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import fiftyone as fo
from bson import ObjectId
from fiftyone.operators.store import ExecutionStore

from fiftyone_milvus.search import stored_distances

OWN = "milvus_distance"
"""The plugin's own field, which has the distances of the newest search that showed them."""

_STORE = "fiftyone_milvus_distances"
_REMEMBERED = 50_000


def show(view: Any, ids: Sequence[str], distances: Sequence[float]) -> str:
    """Stores the distances of a result in the plugin's own field, in place of those before.

    Args:
        view: the result, a :class:`fiftyone.core.view.DatasetView`
        ids: the IDs of its samples, or patches
        distances: a float for each

    Returns:
        the name of the field
    """
    dataset = view._root_dataset
    field = OWN
    while not isinstance(dataset.get_field(field) or fo.FloatField(), fo.FloatField):
        field += "_"
    if not view._is_generated:
        _forget(dataset, field, ids)
    stored_distances.store(view, field, ids, distances)
    return field


def draw(ctx: Any, field: str) -> Iterable[Any]:
    """Yields the calls that make the App write a field on each thumbnail."""
    # Older Apps have neither
    active = getattr(ctx, "active_fields", None)
    if active is None or not hasattr(ctx.ops, "set_active_fields"):
        return
    yield ctx.ops.reload_dataset()
    yield ctx.ops.set_active_fields([*(name for name in active if name != field), field])


def _forget(dataset: Any, field: str, ids: Sequence[str]) -> None:
    """Removes the distances of the last search, and records which samples get some now."""
    store = ExecutionStore.create(_STORE, dataset._doc.id)
    before = (store.get("ids") or {}).get(field)
    query = {"_id": {"$in": [ObjectId(i) for i in before]}} if before else {field: {"$gt": -1e308}}
    if dataset.get_field(field) is not None:
        # Not an edit: see dataset/unmarked.py
        dataset._sample_collection.update_many(query, {"$unset": {field: ""}})
    store.set("ids", {field: list(ids) if len(ids) <= _REMEMBERED else []})
