"""MongoDB's answers as bytes, for documents that all have the same size.

pymongo's own ``aggregate_raw_batches`` still makes an object of each document: 2 s of Python for a
million IDs that MongoDB lists in half a second.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import bson
import numpy as np
import numpy.typing as npt
from bson.codec_options import CodecOptions
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from pymongo import ReadPreference
from pymongo.errors import PyMongoError

logger = logging.getLogger(__name__)

Documents = npt.NDArray[np.uint8]
"""A ``num_documents x num_bytes`` uint8 array: the BSON of one document in each row."""

_BATCH = 1 << 18
_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)


def aggregate(
    collection: Any, stages: Sequence[Mapping[str, Any]], size: int, part: slice
) -> Documents:
    """Runs a pipeline and returns a part of each document, in order.

    Args:
        collection: a :class:`pymongo.collection.Collection`
        stages: a pipeline whose documents all have ``size`` bytes
        size: the size of each document
        part: the bytes of each document to return

    Returns:
        a ``num_documents x num_bytes`` uint8 array
    """
    try:
        # A cursor lives on one server; with several, only pymongo's own cursors stay on it
        primary = collection.read_preference == ReadPreference.PRIMARY
        if primary and not collection.database.client.is_mongos:
            return _joined(_by_commands(collection, stages, size), part)
    except PyMongoError as error:
        # For example a new primary, from which pymongo can read
        logger.debug("Reading %s again: %s", collection.full_name, error)
    batches = collection.aggregate_raw_batches(stages, allowDiskUse=True, batchSize=_BATCH)
    return _joined((np.frombuffer(b, np.uint8).reshape(-1, size) for b in batches), part)


def _joined(blocks: Iterator[Documents], part: slice) -> Documents:
    parts = [np.ascontiguousarray(block[:, part]) for block in blocks]
    return np.concatenate(parts) if parts else np.empty((0, part.stop - part.start), np.uint8)


def _by_commands(
    collection: Any, stages: Sequence[Mapping[str, Any]], size: int
) -> Iterator[Documents]:
    database = collection.database
    batch = {"batchSize": _BATCH}
    command: dict[str, Any] = {
        "aggregate": collection.name, "pipeline": stages, "cursor": batch, "allowDiskUse": True,
    }  # fmt: skip
    name = b"firstBatch"
    with database.client.start_session() as session:
        while True:
            answer = database.command(command, session=session, codec_options=_RAW)
            documents, cursor = _split(answer["cursor"].raw, name)
            yield from _rows(documents, size)
            if not cursor:
                return
            command = {"getMore": Int64(cursor), "collection": collection.name, **batch}
            name = b"nextBatch"


def _split(answer: bytes, name: bytes) -> tuple[bytes, int]:
    """Returns the BSON array in the field ``name``, and the cursor's ID, which is 0 at the end."""
    field = b"\x04" + name + b"\x00"
    at = answer.index(field)
    start = at + len(field)
    stop = start + int.from_bytes(answer[start : start + 4], "little")
    rest = answer[4:at] + answer[stop:]
    # Decoded without the array, which would become an object for each document
    found = bson.decode((len(rest) + 4).to_bytes(4, "little") + rest)
    return answer[start + 4 : stop - 1], int(found["id"])


def _rows(array: bytes, size: int) -> Iterator[Documents]:
    """Yields the documents of a BSON array, whose elements are named "0", "1" and so on."""
    at, digits, first = 0, 1, 0
    while at < len(array):
        element = 1 + digits + 1 + size
        stop = min(len(array), at + (10**digits - first) * element)
        rows = np.frombuffer(array, np.uint8, stop - at, at).reshape(-1, element)
        yield rows[:, -size:]
        at, first, digits = stop, 10**digits, digits + 1
