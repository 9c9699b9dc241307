"""A part of an image, as a query."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fiftyone_milvus.dataset import images
from fiftyone_milvus.errors import InvalidInputError, shown
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.numbers import as_number

_SLACK = 1e-6


@dataclass(frozen=True, eq=False)
class Crop:
    """A part of an image, to search by it.

    Attributes:
        image: the path or the address of an image, a ``PIL.Image``, a ``height x width x 3`` uint8
            array, or a sample
        box: ``[x, y, width, height]``, relative to the image as FiftyOne's bounding boxes are:
            numbers in [0, 1], from the upper left corner

    Raises:
        InvalidInputError: if the box is none, or reaches out of the image
    """

    image: Any
    box: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", check_box(self.box))

    @property
    def pixels(self) -> Array:
        """The pixels in the box: a ``height x width x 3`` uint8 array of at least one pixel.

        Raises:
            InvalidInputError: if the image can't be read
        """
        pixels = images.load(self.image)
        height, width = pixels.shape[:2]
        x, y, w, h = self.box
        left, top = min(round(x * width), width - 1), min(round(y * height), height - 1)
        right, bottom = round((x + w) * width), round((y + h) * height)
        part = pixels[top : max(top + 1, bottom), left : max(left + 1, right)]
        return np.ascontiguousarray(part)


def pixels_in(box: Sequence[float], width: int, height: int) -> tuple[int, int, int, int]:
    """Returns the pixels of an image that a relative box touches, at least one.

    Args:
        box: ``(x, y, width, height)``, as FiftyOne's bounding boxes are; may reach out of the image
        width: of the image
        height: of the image

    Returns:
        the left, upper, right and lower edge, which are within the image if the box is
    """
    x, y, w, h = box
    left, top = max(0, int(x * width)), max(0, int(y * height))
    right, bottom = round((x + w) * width), round((y + h) * height)
    return left, top, min(width, max(left + 1, right)), min(height, max(top + 1, bottom))


def check_box(box: Any) -> tuple[float, float, float, float]:
    """Returns a relative box as four floats; raises InvalidInputError."""
    try:
        numbers = [as_number(value) for value in box] if not isinstance(box, str) else []
    except TypeError:
        numbers = []
    values = [float(n) for n in numbers if n is not None and math.isfinite(n)]
    if len(numbers) == 4 and len(values) == 4:
        x, y, width, height = values
        inside = min(x, y) >= 0 and max(x + width, y + height) <= 1 + _SLACK
        if inside and min(width, height) > 0:
            return x, y, width, height
    raise InvalidInputError(
        f"Invalid region {shown(box)}; expected [x, y, width, height] relative to the image, such "
        "as [0.1, 0.2, 0.5, 0.5], within it"
    )
