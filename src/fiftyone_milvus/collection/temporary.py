"""Collections that are there for one call only, and how to tell that they were left behind."""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.connection import Connection
from fiftyone_milvus.errors import FiftyOneMilvusError

logger = logging.getLogger(__name__)

TEMPORARY = "temporary"
"""What a collection's owner record says of a temporary one: whose it is, and since when."""

PREFIX = "fiftyone_temporary"

_LONGEST = 24 * 3600
_CLOCKS = 1.0

_running: set[str] = set()
"""The collections of the calls that this process is in."""


@contextmanager
def temporary(
    connection: Connection, owner: Mapping[str, Any], purpose: str
) -> Iterator[tuple[MilvusCollection, dict[str, Any]]]:
    """Drops a collection at the end of the block, whatever happens in it.

    Where that can't be done, a warning says so, and the collection counts as left behind.

    Args:
        connection: where it will be
        owner: whose data it will hold, to be recorded with it
        purpose: the call that needs it

    Yields:
        a :class:`MilvusCollection <fiftyone_milvus.collection.MilvusCollection>` that does not
        exist yet, and the owner to create it with
    """
    name = f"{PREFIX}_{uuid.uuid4().hex[:16]}"
    process = {
        "purpose": purpose,
        "collection": name,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "since": time.time(),
    }
    collection = MilvusCollection(connection, name)
    _running.add(name)
    try:
        yield collection, {**owner, "brain_key": None, TEMPORARY: process}
    finally:
        _running.discard(name)
        _drop(collection)


def _drop(collection: MilvusCollection) -> None:
    try:
        collection.drop()
    except FiftyOneMilvusError as error:
        # What was found, or what went wrong before, matters more
        logger.warning(
            "The temporary %s could not be dropped; inventory.clean_up('%s') does it later: %s",
            collection.where,
            collection.name,
            error,
        )


def is_left_behind(record: Mapping[str, Any]) -> bool:
    """Whether the call that needed a temporary collection is over, or began too long ago.

    Args:
        record: what the owner record has as :data:`TEMPORARY`
    """
    if time.time() - float(record.get("since", 0)) > _LONGEST:
        return True
    if record.get("host") != socket.gethostname():
        return False
    try:
        started = psutil.Process(int(record["pid"])).create_time()
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return True
    # Process numbers are used again
    if abs(started - float(record.get("started", 0))) > _CLOCKS:
        return True
    return record["pid"] == os.getpid() and record.get("collection") not in _running
