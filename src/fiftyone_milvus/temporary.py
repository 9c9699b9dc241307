"""Collections that are there for one call only, and how to tell that they were left behind."""

from __future__ import annotations

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

TEMPORARY = "temporary"
"""What a collection's owner record says of a temporary one: whose it is, and since when."""

PREFIX = "fiftyone_temporary"

_LONGEST = 24 * 3600
_CLOCKS = 1.0


@contextmanager
def temporary(
    connection: Connection, owner: Mapping[str, Any], purpose: str
) -> Iterator[tuple[MilvusCollection, dict[str, Any]]]:
    """Drops a collection at the end of the block, whatever happens in it.

    Args:
        connection: where it will be
        owner: whose data it will hold, to be recorded with it
        purpose: the call that needs it

    Yields:
        a :class:`MilvusCollection <fiftyone_milvus.collection.MilvusCollection>` that does not
        exist yet, and the owner to create it with
    """
    process = {
        "purpose": purpose,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "since": time.time(),
    }
    collection = MilvusCollection(connection, f"{PREFIX}_{uuid.uuid4().hex[:16]}")
    try:
        yield collection, {**owner, "brain_key": None, TEMPORARY: process}
    finally:
        collection.drop()


def is_left_behind(record: Mapping[str, Any]) -> bool:
    """Whether the process that needed a temporary collection is gone, or was too long ago.

    Args:
        record: what the owner record has as :data:`TEMPORARY`
    """
    if record.get("host") != socket.gethostname():
        return time.time() - float(record.get("since", 0)) > _LONGEST
    try:
        started = psutil.Process(int(record["pid"])).create_time()
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return True
    # Process numbers are used again
    return abs(started - float(record.get("started", 0))) > _CLOCKS
