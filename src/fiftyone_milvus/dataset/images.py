"""Images outside the dataset, as queries."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import eta.core.image as etai
import numpy as np

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.metrics import Array


def read(path: str | os.PathLike[str]) -> Array:
    """Returns the pixels of an image file as a ``height x width x 3`` uint8 array.

    Raises:
        InvalidInputError: if the file can't be read, or is not an image
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InvalidInputError(
            f"Can't read '{os.fspath(path)}': {error.strerror}; check the path"
        ) from None
    return decode(content, os.fspath(path))


def decode(content: bytes, name: str) -> Array:
    """Returns the pixels of an image as a ``height x width x 3`` uint8 array.

    Args:
        content: the content of the image file
        name: the name of the image in messages

    Raises:
        InvalidInputError: if it is not an image
    """
    try:
        image = etai.decode(content)
    except Exception:  # OpenCV's own errors, for example for too many pixels
        image = None
    if image is None or not getattr(image, "size", 0):
        raise InvalidInputError(f"'{name}' can't be read as an image; give a PNG or a JPEG")
    return image


def check_model(index: Any) -> None:
    """Checks that an index has a model to embed images with.

    Raises:
        InvalidInputError: if the index was made without a model
    """
    if index.config.model is None:
        raise InvalidInputError(
            f"Index '{index.key}' has no model to embed an image with; create one with a zoo model"
        )


def embed(index: Any, image: Array) -> Array:
    """Embeds an image with the model of an index, like FiftyOne's panel does.

    Returns:
        an array of shape ``(num_dims,)``

    Raises:
        InvalidInputError: if the index was made without a model
    """
    check_model(index)
    return np.asarray(index.get_model().embed(image)).reshape(-1)
