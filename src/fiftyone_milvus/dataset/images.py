"""Images that are no samples, as queries."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import eta.core.image as etai
import numpy as np

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.metrics import Array


def read(path: str | os.PathLike[str]) -> Array:
    """Returns the pixels of an image file.

    Raises:
        InvalidInputError: if there is no such file, or it is no image
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InvalidInputError(
            f"Can't read '{os.fspath(path)}': {error.strerror}; check the path"
        ) from None
    return decode(content, os.fspath(path))


def decode(content: bytes, name: str) -> Array:
    """Returns the pixels of an image, as a ``height x width x 3`` array.

    Args:
        content: of the image file
        name: of the image, for messages

    Raises:
        InvalidInputError: if it is no image
    """
    try:
        image = etai.decode(content)
    except Exception:  # OpenCV has errors of its own, as for too many pixels
        image = None
    if image is None or not getattr(image, "size", 0):
        raise InvalidInputError(f"'{name}' is no image that can be read; give a PNG or a JPEG")
    return image


def check_model(index: Any) -> None:
    """Checks that an index can embed an image: which asks nothing of the image yet.

    Raises:
        InvalidInputError: if the index was made without a model
    """
    if index.config.model is None:
        raise InvalidInputError(
            f"Index '{index.key}' has no model to embed an image with; create one with a zoo model"
        )


def embed(index: Any, image: Array) -> Array:
    """Embeds an image with the model of an index, as FiftyOne's panel embeds an uploaded one.

    Returns:
        a ``num_dims`` array

    Raises:
        InvalidInputError: if the index was made without a model
    """
    check_model(index)
    return np.asarray(index.get_model().embed(image)).reshape(-1)
