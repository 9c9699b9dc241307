"""Which fields of a dataset hold patches."""

from __future__ import annotations

from typing import Any

import fiftyone.core.fields as fof
import fiftyone.core.labels as fol

from fiftyone_milvus.errors import InvalidInputError


def check_patches_field(samples: Any, patches_field: str | None) -> None:
    """Checks the field of an index of patches.

    Args:
        samples: a :class:`fiftyone.core.collections.SampleCollection`
        patches_field: the field, or None for an index of samples

    Raises:
        InvalidInputError: if there is no such field, or it holds no labels
    """
    if patches_field is None or _holds_labels(samples.get_field(patches_field)):
        return
    there = sorted(
        path for path, field in samples.get_field_schema().items() if _holds_labels(field)
    )
    raise InvalidInputError(
        f"Dataset '{samples._root_dataset.name}' has no field '{patches_field}' of labels, which "
        f"patches_field needs; its fields of labels are {', '.join(map(repr, there)) or 'none'}"
    )


def _holds_labels(field: Any) -> bool:
    return isinstance(field, fof.EmbeddedDocumentField) and issubclass(
        field.document_type, fol.Label
    )
