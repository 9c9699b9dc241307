"""The field that a search stores distances in: that of a caller, or the plugin's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import fiftyone as fo
from bson import ObjectId
from fiftyone.operators.store import ExecutionStore

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.search import stored_distances

OWN = "milvus_distance"
"""The plugin's own field, which has the distances of the newest search that showed them."""

_STORE = "fiftyone_milvus_distances"
_REMEMBERED = 50_000

_OTHERS = ["string", "bool", "int", "long", "object", "array", "date", "objectId", "binData"]
"""MongoDB's types of values that are no distances."""


def check(samples: Any, patches_field: str | None, name: Any) -> None:
    """Checks that distances replace nothing but floats.

    FiftyOne itself would write them to a field of integers, and to the confidence of a label.

    Args:
        samples: the :class:`fiftyone.core.collections.SampleCollection` that is searched
        patches_field: the field of the patches that are searched, or None for samples
        name: the caller's name for the field

    Raises:
        InvalidInputError: if it is no valid name, or that of a field with other values
    """
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
        raise InvalidInputError(
            f"Invalid dist_field {name!r}; expected letters, digits and underscores"
        )
    path = name
    if patches_field is not None and not samples._is_patches:
        label_type, path = samples._get_label_field_path(patches_field, name)
        items = getattr(label_type, "_LABEL_LIST_FIELD", None)
        if items is not None:
            label_type = label_type._fields[items].field.document_type
        if name in label_type._fields_ordered:
            raise InvalidInputError(
                f"Invalid dist_field '{name}': it is a field of every {label_type.__name__}; "
                "choose another name"
            )
    field = samples.get_field(path)
    if field is None:
        # The schema need not declare attributes of labels
        dataset = samples._root_dataset
        other = path != name and dataset._sample_collection.find_one({path: {"$type": _OTHERS}})
    else:
        other = not isinstance(field, fo.FloatField) or getattr(field, "read_only", False)
    if other:
        what = "holds other values" if field is None else f"is a {type(field).__name__}"
        raise InvalidInputError(
            f"Invalid dist_field '{name}': '{path}' {what}, not a float field that can be "
            "written; choose another name"
        )


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
    """Removes the distances of the search before, and remembers whose they are now."""
    store = ExecutionStore.create(_STORE, dataset._doc.id)
    before = (store.get("ids") or {}).get(field)
    query = {"_id": {"$in": [ObjectId(i) for i in before]}} if before else {field: {"$gt": -1e308}}
    if dataset.get_field(field) is not None:
        # Not an edit: see stored_distances
        dataset._sample_collection.update_many(query, {"$unset": {field: ""}})
    store.set("ids", {field: list(ids) if len(ids) <= _REMEMBERED else []})
