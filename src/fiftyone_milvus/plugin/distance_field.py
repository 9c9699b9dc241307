"""The field that distances are stored in, checked before anything is written to it."""

from __future__ import annotations

from typing import Any

import fiftyone as fo

from fiftyone_milvus.errors import InvalidInputError

_OTHERS = ["string", "bool", "int", "long", "object", "array", "date", "objectId", "binData"]
"""MongoDB's types of what is no distance."""


def check(samples: Any, patches_field: str | None, name: Any) -> None:
    """Checks that distances in a field replace nothing but floats.

    FiftyOne itself would store them in a field of integers, and in the confidence of a label.

    Args:
        samples: the :class:`fiftyone.core.collections.SampleCollection` that is searched
        patches_field: the field of the patches that are searched for, or None for samples
        name: the name that the caller gave

    Raises:
        InvalidInputError: if it is no name, or that of a field that holds something else
    """
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
        raise InvalidInputError(
            f"Invalid dist_field {name!r}; expected letters, digits and underscores"
        )
    path = name
    if patches_field is not None and not samples._is_patches:
        label_type, path = samples._get_label_field_path(patches_field, name)
        held = getattr(label_type, "_LABEL_LIST_FIELD", None)
        if held is not None:
            label_type = label_type._fields[held].field.document_type
        if name in label_type._fields_ordered:
            raise InvalidInputError(
                f"Invalid dist_field '{name}': every {label_type.__name__} has one; choose "
                "another name"
            )
    field = samples.get_field(path)
    if field is None:
        # Attributes of labels need not be declared
        dataset = samples._root_dataset
        other = path != name and dataset._sample_collection.find_one({path: {"$type": _OTHERS}})
    else:
        other = not isinstance(field, fo.FloatField) or getattr(field, "read_only", False)
    if other:
        what = "other values" if field is None else type(field).__name__
        raise InvalidInputError(
            f"Invalid dist_field '{name}': '{path}' exists and is no float field that can be "
            f"written, but of {what}; choose another name"
        )
