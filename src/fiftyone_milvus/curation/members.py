"""What is known of the samples or patches of groups: their files, boxes, sizes and tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from fiftyone_milvus.curation import group_field
from fiftyone_milvus.dataset import images
from fiftyone_milvus.dataset.crops import pixels_in
from fiftyone_milvus.dataset.selected import all_samples
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.schema.columns import label_root

_SELECTED = 100_000
"""IDs in one pipeline, which MongoDB limits to 16 MB."""


@dataclass(frozen=True)
class Member:
    """A sample or patch of a group.

    Attributes:
        filepath: of the sample
        size: the width and height of the image in pixels, where the sample's metadata has them
        box: the bounding box of the patch, as ``(x, y, width, height)`` relative to the image
        tags: of the sample, or of the label
        value: of the field that was asked for
    """

    filepath: str
    size: tuple[int, int] | None = None
    box: tuple[float, float, float, float] | None = None
    tags: tuple[str, ...] = ()
    value: Any = None

    def pixels(self) -> float:
        """Returns the number of pixels, or NaN if the file can't be read as an image."""
        size = self.size
        if size is None:
            try:
                with Image.open(self.filepath) as image:
                    size = image.size
            except (OSError, ValueError, Image.DecompressionBombError):
                return np.nan
        share = 1.0 if self.box is None else self.box[2] * self.box[3]
        return float(size[0] * size[1] * share)

    def image(self) -> Array | None:
        """Returns the pixels as ``height x width x 3`` uint8, or None if they can't be read."""
        try:
            found = images.read(self.filepath)
        except InvalidInputError:
            return None
        if self.box is None:
            return found
        height, width = found.shape[:2]
        left, top, right, bottom = pixels_in(self.box, width, height)
        part = found[top:bottom, left:right]
        return part if part.size else None


def read(
    dataset: Any, patches_field: str | None, ids: Sequence[str], field: str | None = None
) -> list[Member]:
    """Reads members of groups.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        patches_field: the field of the patches, or None for samples
        ids: sample IDs, or label IDs
        field (None): a field of the samples whose value is read too
    """
    sample_of = group_field.samples_of(dataset, patches_field, ids)
    owners = [sample_of(i) for i in ids]
    unique = [owner for owner in dict.fromkeys(owners) if owner is not None]
    samples: dict[str, tuple[Any, ...]] = {}
    labels: dict[str, Any] = {}
    names = ["id", "filepath", "tags", "metadata", *([field] if field else [])]
    for start in range(0, len(unique), _SELECTED):
        view = all_samples(dataset).select(unique[start : start + _SELECTED])
        for one, *values in zip(*view.values(names), strict=True):
            samples[one] = tuple(values)
        if patches_field is not None:
            root, _ = label_root(dataset, patches_field)
            for inside in view.values(root):
                for label in inside if isinstance(inside, list) else [inside]:
                    if label is not None:
                        labels[label.id] = label
    found = []
    for i, owner in zip(ids, owners, strict=True):
        # Of what was deleted meanwhile, no rule knows anything
        filepath, tags, metadata, *rest = samples.get(owner or "", ("", None, None))
        label = labels.get(i)
        width, height = (getattr(metadata, name, None) for name in ("width", "height"))
        found.append(
            Member(
                filepath,
                (width, height) if width and height else None,
                None if label is None else box_of(label),
                tuple((tags if label is None else label.tags) or ()),
                rest[0] if rest else None,
            )
        )
    return found


def box_of(label: Any) -> tuple[float, float, float, float] | None:
    """Returns the bounding box of a label with one, or with points; else None."""
    box = getattr(label, "bounding_box", None)
    if box:
        return (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
    points = [point for shape in getattr(label, "points", None) or () for point in shape]
    if not points:
        return None
    xs, ys = [float(p[0]) for p in points], [float(p[1]) for p in points]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
