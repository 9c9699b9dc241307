"""FiftyOne's IDs as arrays of 12 bytes each, and fast ways to read them from MongoDB.

A million IDs take 12 MB this way, and some 80 MB as strings. MongoDB's answer is read as bytes, as
an object for each document would cost more than the query. Collecting all IDs in one array
(``$push``) crashed a MongoDB 6.0.5 at a million.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from bson import ObjectId

from fiftyone_milvus.dataset import raw_documents

IdArray = npt.NDArray[np.bytes_]
"""An array of dtype ``S12``: the bytes of ObjectIds, which sort like FiftyOne's IDs."""

DTYPE = np.dtype("S12")
"""NumPy hides trailing zeros of such a value from Python, but keeps and compares them."""

# {"_id": ...} in BSON (https://bsonspec.org)
_DOCUMENT = 4 + 1 + len(b"_id\x00") + 12 + 1
_OBJECT_ID = slice(_DOCUMENT - 13, _DOCUMENT - 1)
_DIGITS = 24


def sample_ids(view: Any, limit: int | None = None) -> list[str]:
    """Returns the IDs of a view's samples, in its order, faster than ``values("id")``.

    Args:
        view: a view of samples: not of patches, frames, clips or groups
        limit (None): the most IDs to read; None for all
    """
    return to_strings(read(view, limit))


def read(view: Any, limit: int | None = None) -> IdArray:
    """Returns the IDs of a view's samples like :func:`sample_ids`, but as an array."""
    stages = view._pipeline()
    if limit is not None:
        stages = [*stages, {"$limit": limit}]
    stages = [*stages, {"$project": {"_id": True}}]
    found = raw_documents.aggregate(view._dataset._sample_collection, stages, _DOCUMENT, _OBJECT_ID)
    return found.view(DTYPE).ravel()


def to_strings(ids: IdArray) -> list[str]:
    """Returns IDs as FiftyOne's strings of 24 hexadecimal digits."""
    text = np.ascontiguousarray(ids).tobytes().hex()
    return [text[i : i + _DIGITS] for i in range(0, len(text), _DIGITS)]


def from_strings(ids: Sequence[str]) -> tuple[IdArray, npt.NDArray[np.intp]]:
    """Reads strings as FiftyOne's IDs.

    Args:
        ids: strings of any kind

    Returns:
        a tuple of

        -   an :data:`IdArray` of those that are FiftyOne's, in order
        -   an integer array of the positions in ``ids`` of the others
    """
    parsed = _from_text(ids)
    if parsed is not None:
        return parsed, np.empty(0, np.intp)
    each = [_from_text([i]) for i in ids]
    good = [array for array in each if array is not None]
    others = np.array([at for at, array in enumerate(each) if array is None], np.intp)
    return np.concatenate(good) if good else np.empty(0, DTYPE), others


def strangers(ids: Sequence[str]) -> npt.NDArray[np.intp]:
    """Returns the positions of the strings that are none of FiftyOne's IDs.

    Args:
        ids: strings of any kind
    """
    return from_strings(ids)[1]


def to_object_ids(ids: IdArray) -> list[ObjectId]:
    """Returns IDs as MongoDB's objects."""
    data = np.ascontiguousarray(ids).tobytes()
    return [ObjectId(data[i : i + 12]) for i in range(0, len(data), 12)]


def from_object_ids(ids: Iterable[ObjectId]) -> IdArray:
    """Returns MongoDB's IDs as an array."""
    return np.frombuffer(b"".join(i.binary for i in ids), DTYPE)


def _from_text(ids: Sequence[str]) -> IdArray | None:
    text = "".join(ids)
    if len(text) != _DIGITS * len(ids) or set(map(len, ids)) - {_DIGITS}:
        return None
    try:
        data = bytes.fromhex(text)
    except ValueError:
        return None
    # Uppercase digits would be another key, and fromhex() skips spaces
    return np.frombuffer(data, DTYPE) if data.hex() == text else None
