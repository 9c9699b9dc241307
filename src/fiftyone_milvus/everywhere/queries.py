"""Queries for all datasets: texts, images, IDs and vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from bson import ObjectId

from fiftyone_milvus.dataset import images
from fiftyone_milvus.errors import InvalidInputError, shown
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.writing.arrays import real_numbers

_ID_DIGITS = 24


def read(query: Any) -> tuple[Any, str]:
    """Returns a query and its kind.

    Args:
        query: a query of :func:`fiftyone_milvus.everywhere.search_everywhere`

    Returns:
        a text and ``"text"``, a ``height x width x 3`` array and ``"image"``, an ID and ``"id"``,
        or an array of shape ``(num_dims,)`` and ``"vector"``

    Raises:
        InvalidInputError: if it is none of these, or the image can't be read
    """
    if isinstance(query, str) and query.strip():
        if len(query) == _ID_DIGITS and ObjectId.is_valid(query):
            return query, "id"
        if not images.is_path(query):
            return query, "text"
    if (pixels := images.pixels(query)) is not None:
        return pixels, "image"
    if isinstance(query, ObjectId):
        return str(query), "id"
    problem = shown(query)
    # The numbers of bytes are no vector
    if not isinstance(query, (str, bytes, bytearray)):
        try:
            vector = real_numbers(query, "query")
        except InvalidInputError as error:
            problem = f"{problem} ({error})"
        else:
            vector = vector[0] if vector.ndim == 2 and len(vector) == 1 else vector
            if vector.ndim == 1 and len(vector):
                return vector, "vector"
            problem = f"array of shape {vector.shape}" if vector.ndim else problem
    raise InvalidInputError(
        f"Invalid query {problem}; expected a text, an image or its path, one vector or an ID"
    )


def embedded(query: Any, kind: str, index: MilvusSimilarityIndex) -> Array:
    """Returns the vector of a text or an image, of shape ``(num_dims,)``, by an index' model."""
    if kind == "text":
        return np.asarray(index._parse_query([query]))[0]
    return images.embed(index, query)
