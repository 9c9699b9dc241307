"""Images that are no samples, as queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import eta.core.image as etai
import numpy as np

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.scores import Array


def read(path: Path) -> bytes:
    """Returns the bytes of an image file.

    Raises:
        InvalidInputError: if it can't be read
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"Can't read '{path}': {error.strerror}; check the path") from None


def embed(model: Any, content: bytes, name: str) -> Array:
    """Embeds an image as FiftyOne's panel embeds an uploaded one.

    Args:
        model: a :class:`fiftyone.core.models.Model` with embeddings
        content: of the image file
        name: of the image, for messages

    Returns:
        a ``num_dims`` array

    Raises:
        InvalidInputError: if it is no image
    """
    try:
        image = etai.decode(content)
    except Exception:  # OpenCV has errors of its own, as for too many pixels
        image = None
    if image is None or not getattr(image, "size", 0):
        raise InvalidInputError(f"'{name}' is no image that can be read; give a PNG or a JPEG")
    return np.asarray(model.embed(image)).reshape(-1)


def model_of(index: Any) -> Any:
    """Returns the model of an index.

    Raises:
        InvalidInputError: if it was made without one
    """
    if index.config.model is None:
        raise InvalidInputError(
            f"Index '{index.key}' has no model to embed an image with; create one with a zoo model"
        )
    return index.get_model()
