"""Reads the query of a search, and refuses what FiftyOne's own parser would alter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from bson import ObjectId

from fiftyone_milvus.dataset.given_ids import is_id
from fiftyone_milvus.errors import InvalidInputError, shown

_EXPECTED = (
    "a sample, a view, a label, an ID, a text, an image or its path, a vector, or an iterable of "
    "one of these"
)


def texts_of(query: Any) -> list[str] | None:
    """Returns a query of IDs or prompts as a list, or None if it must be of numbers.

    Args:
        query: an ID or prompt, an iterable of them, or anything else

    Raises:
        InvalidInputError: naming what can't be a query
    """
    if is_id(query):
        return [str(query)]
    if isinstance(query, (bytes, bytearray, Mapping)) or not isinstance(query, Iterable):
        # FiftyOne would read the numbers of bytes as a vector, and the keys of a dict
        raise _wrong(query)
    if isinstance(query, np.ndarray) and query.dtype.kind != "O":
        return [str(i) for i in query.ravel()] if query.dtype.kind == "U" else None
    if getattr(query, "ndim", 1) != 1 and not isinstance(query, np.ndarray):
        return None  # a tensor, a sparse matrix or a data frame
    values = list(query.ravel() if isinstance(query, np.ndarray) else query)
    texts = [isinstance(value, (str, ObjectId)) for value in values]
    if not any(texts):
        return None
    for value in values:
        if not is_id(value):
            raise _wrong(value)
    return [str(value) for value in values]


def _wrong(value: Any) -> InvalidInputError:
    return InvalidInputError(
        f"Invalid query {shown(value)}, a {type(value).__name__}; expected {_EXPECTED}"
    )
