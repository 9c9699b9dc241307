"""Creates collections for one call, and recognizes those that a call left behind."""

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
"""The key in a collection's owner record under which a call notes its process and time."""

PREFIX = "fiftyone_temporary"

_LONGEST = 24 * 3600
_CLOCKS = 1.0

_running: set[str] = set()
"""The collections that calls of this process use now."""


@contextmanager
def temporary(
    connection: Connection, owner: Mapping[str, Any], purpose: str
) -> Iterator[tuple[MilvusCollection, dict[str, Any]]]:
    """Gives a block a collection, and drops it at the end of the block.

    If it can't be dropped, a warning is logged, and the collection counts as left behind.

    Args:
        connection: to the Milvus that will hold it
        owner: the owner of its rows, to be recorded with it: values by name
        purpose: the name of the call that needs it, which is recorded too

    Yields:
        a :class:`MilvusCollection <fiftyone_milvus.collection.MilvusCollection>` that does not
        exist yet, and a dict: the owner to create it with
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
        try:
            collection.drop()
        except FiftyOneMilvusError as error:
            # Not raised, so that the block's own result or error is not lost
            logger.warning(
                "The temporary %s could not be dropped; inventory.clean_up('%s') does it later: %s",
                collection.where,
                name,
                error,
            )


def is_left_behind(record: Mapping[str, Any]) -> bool:
    """Whether the call that made a temporary collection is over, or began a day ago.

    Args:
        record: the value of :data:`TEMPORARY` in the owner record
    """
    if time.time() - float(record.get("since", 0)) > _LONGEST:
        return True
    if record.get("host") != socket.gethostname():
        return False
    try:
        started = psutil.Process(int(record["pid"])).create_time()
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return True
    # Another process may have the same number by now
    if abs(started - float(record.get("started", 0))) > _CLOCKS:
        return True
    return record["pid"] == os.getpid() and record.get("collection") not in _running
