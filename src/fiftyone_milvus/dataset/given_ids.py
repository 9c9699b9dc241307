"""Reads the sample and label IDs that a caller gives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bson import ObjectId

from fiftyone_milvus.errors import InvalidInputError, shown


def as_strings(ids: Any, name: str) -> list[str]:
    """Returns IDs as a list of strings.

    Args:
        ids: an ID, or an iterable of them; each is a non-empty string or an ``ObjectId``
        name: of the parameter, for the error

    Raises:
        InvalidInputError: naming the first that is no ID, as it would match nothing
    """
    if isinstance(ids, (str, ObjectId)):
        ids = [ids]
    # The items of bytes are integers
    if isinstance(ids, (bytes, bytearray)) or not isinstance(ids, Iterable):
        raise _wrong(name, ids)
    found = list(ids)
    for value in found:
        if not is_id(value):
            raise _wrong(name, value)
    return [str(value) for value in found]


def is_id(value: Any) -> bool:
    """Returns whether a value can be a key: a non-empty string, or an ``ObjectId``."""
    return isinstance(value, ObjectId) or (isinstance(value, str) and value != "")


def _wrong(name: str, value: Any) -> InvalidInputError:
    return InvalidInputError(
        f"Invalid {name}: {shown(value)} is a {type(value).__name__}; expected IDs, which are "
        "non-empty strings"
    )
