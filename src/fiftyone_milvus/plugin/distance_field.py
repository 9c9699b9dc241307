"""Checks the field that a search stores distances in."""

from __future__ import annotations

from typing import Any

import fiftyone as fo

from fiftyone_milvus.errors import InvalidInputError

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
