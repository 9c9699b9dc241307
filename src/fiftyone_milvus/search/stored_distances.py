"""Stores the distances of results in a field of the dataset; that is no edit of samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import fiftyone as fo
from bson import ObjectId

from fiftyone_milvus.dataset import unmarked
from fiftyone_milvus.dataset.unmarked import Update
from fiftyone_milvus.errors import InvalidInputError

_OTHERS = ["string", "bool", "int", "long", "object", "array", "date", "objectId", "binData"]
"""MongoDB's types of values that are no distances."""


def check(samples: Any, patches_field: str | None, name: Any, argument: str = "dist_field") -> None:
    """Checks that distances replace nothing but floats.

    FiftyOne itself would write them to a field of integers, and to the confidence of a label.

    Args:
        samples: the :class:`fiftyone.core.collections.SampleCollection` that is searched
        patches_field: the field of the patches that are searched, or None for samples
        name: the caller's name for the field
        argument ("dist_field"): the argument that has it, for errors

    Raises:
        InvalidInputError: if it is no valid name, or that of a field with other values
    """
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
        raise InvalidInputError(
            f"Invalid {argument} {name!r}; expected letters, digits and underscores"
        )
    path = name
    if patches_field is not None and not samples._is_patches:
        label_type, path = samples._get_label_field_path(patches_field, name)
        items = getattr(label_type, "_LABEL_LIST_FIELD", None)
        if items is not None:
            label_type = label_type._fields[items].field.document_type
        if name in label_type._fields_ordered:
            raise InvalidInputError(
                f"Invalid {argument} '{name}': it is a field of every {label_type.__name__}; "
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
            f"Invalid {argument} '{name}': '{path}' {what}, not a float field that can be "
            "written; choose another name"
        )


def store(samples: Any, field: str, ids: Sequence[str], distances: Sequence[float]) -> None:
    """Stores distances in a field of samples, or of patches in a patches view.

    Args:
        samples: the :class:`fiftyone.core.collections.SampleCollection` that was searched
        field: the name of a float field, which is created if necessary
        ids: sample IDs, or the IDs of patches in a patches view
        distances: a float for each
    """
    dataset = samples._root_dataset
    if samples._is_generated or not _is_no_edit(dataset, field):
        samples.set_values(field, dict(zip(ids, distances)), key_field="id")
        return
    updates = (Update(i, {"$set": {field: distance}}) for i, distance in zip(ids, distances))
    _write(dataset, field, updates)


def store_on_labels(
    samples: Any,
    patches_field: str,
    field: str,
    sample_ids: Sequence[str],
    label_ids: Sequence[str],
    distances: Sequence[float],
) -> None:
    """Stores distances on labels, also if they are in a list.

    Args:
        samples: the :class:`fiftyone.core.collections.SampleCollection` that was searched
        patches_field: the field of the labels
        field: the name of a float attribute of the labels, which is created if necessary
        sample_ids: the sample of each label
        label_ids: the labels
        distances: a float for each
    """
    dataset = samples._root_dataset
    _, path = samples._get_label_field_path(patches_field, field)
    if not _is_no_edit(dataset, path):
        values = [
            {"sample_id": sample, "label_id": label, "value": distance}
            for sample, label, distance in zip(sample_ids, label_ids, distances)
        ]
        dataset.set_label_values(path, values, dynamic=True)
        return
    root = path.rpartition(".")[0]
    in_list = root != patches_field
    key = f"{root}.$[label].{field}" if in_list else path

    def update(sample: str, label: str, distance: float) -> Update:
        filters: list[Mapping[str, Any]] = [{"label._id": ObjectId(label)}]
        return Update(sample, {"$set": {key: distance}}, filters if in_list else None)

    updates = map(update, sample_ids, label_ids, distances)
    _write(dataset, path, updates)


def _write(dataset: Any, path: str, updates: Iterable[Update]) -> None:
    if dataset.get_field(path) is None:
        dataset.add_sample_field(path, fo.FloatField)
    unmarked.write(dataset, path.rpartition(".")[2], updates)


def _is_no_edit(dataset: Any, path: str) -> bool:
    """Whether a field is one for distances; FiftyOne itself refuses the others."""
    field = dataset.get_field(path)
    return field is None or (
        isinstance(field, fo.FloatField) and not getattr(field, "read_only", False)
    )
