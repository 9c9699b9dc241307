"""Images outside the dataset, as queries."""

from __future__ import annotations

import logging
import os
import re
import urllib.request
from pathlib import Path
from typing import Any

import eta.core.image as etai
import fiftyone as fo
import numpy as np
from fiftyone.core.sample import SampleView
from PIL import Image

from fiftyone_milvus.errors import InvalidInputError, shown
from fiftyone_milvus.metrics import Array

logger = logging.getLogger(__name__)

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_ENDING = re.compile(r"\.(png|jpe?g|bmp|gif|tiff?|webp)$", re.IGNORECASE)
_SECONDS = 30
_MAX_BYTES = 200 << 20


def is_path(query: Any) -> bool:
    """Returns whether a query names an image file, and so is no text.

    A text that happens to be the name of a file, without a directory or an ending, is a text.

    Args:
        query: anything
    """
    if not isinstance(query, str):
        return isinstance(query, os.PathLike)
    if _URL.match(query) or _ENDING.search(query):
        return True
    if len(query) > 4_096 or "\0" in query or not os.path.isfile(query):
        return False
    if os.path.dirname(query) or os.path.splitext(query)[1]:
        return True
    logger.warning(
        "%s is searched for as a text, although there is a file of that name; pass "
        "pathlib.Path(%s) to search by the image",
        shown(query),
        shown(query),
    )
    return False


def pixels(query: Any) -> Array | None:
    """Returns the pixels of an image that a query is, as ``height x width x 3`` uint8.

    Args:
        query: a path or URL (:func:`is_path`), a ``PIL.Image``, a ``height x width``
            ``x 1``, ``x 3`` or ``x 4`` uint8 array; or anything else

    Returns:
        the pixels, or None if it is none of these

    Raises:
        InvalidInputError: if the file can't be read, or is not an image; or if an array has the
            shape of an image, and other values
    """
    if is_path(query):
        return _open(os.fspath(query))
    if isinstance(query, Image.Image):
        return np.asarray(query.convert("RGB"))
    if not isinstance(query, np.ndarray) or query.ndim != 3:
        return None
    if query.dtype != np.uint8 or query.shape[2] not in (1, 3, 4) or not query.size:
        raise InvalidInputError(
            f"Invalid query of shape {query.shape} and dtype {query.dtype}; expected an image as "
            "height x width x 3 of dtype uint8, or vectors as num_queries x num_dims"
        )
    return np.ascontiguousarray(np.broadcast_to(query[..., :3], (*query.shape[:2], 3)))


def load(image: Any) -> Array:
    """Returns the pixels of what can only be an image, as ``height x width x 3`` uint8.

    Args:
        image: a path or URL, whatever it ends with; a ``PIL.Image``; an array as :func:`pixels`
            takes it; or a sample, whose file is read

    Raises:
        InvalidInputError: if it is none of these, or can't be read
    """
    if isinstance(image, (fo.Sample, SampleView)):
        return read(image.filepath)
    if isinstance(image, (str, os.PathLike)):
        return _open(os.fspath(image))
    found = pixels(image)
    if found is None:
        raise InvalidInputError(
            f"Invalid image {shown(image)}, a {type(image).__name__}; expected its path or "
            "address, a PIL.Image, a height x width x 3 array of uint8, or a sample"
        )
    return found


def _open(path: str) -> Array:
    found = _URL.match(path)
    if found is None:
        return read(Path(path).expanduser())
    if found[1].lower() not in ("http", "https", "file"):
        raise InvalidInputError(
            f"Can't read {shown(path)}: expected the path of a file, or a URL of http, https or "
            "file; download the image, and pass its path"
        )
    try:
        with urllib.request.urlopen(path, timeout=_SECONDS) as answer:
            content = answer.read(_MAX_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise InvalidInputError(
            f"Can't read {shown(path)}: {' '.join(str(reason).split())}; check the address, or "
            "download the image and pass its path"
        ) from None
    return decode(content, path)


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
    if index.config.model is None and index._model is None:
        raise InvalidInputError(
            f"Index '{index.key}' has no model to embed an image with; attach the model of its "
            "embeddings with index.use_model(), or create one with a zoo model"
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
