"""Proves that collections of MongoDB did not change since they were read.

``last_modified_at`` proves nothing: deletes, ``$merge`` and other programs' writes don't set it.
MongoDB's command ``top`` counts, for each collection, the operations that took its lock to write:
inserts, updates and deletes of any client, also those inside ``$merge``, ``findAndModify`` and
``applyOps``, those that were interrupted, and changes of its indexes. An operation is counted after
its changes can be read, and before it is answered. So what is read *after* the count was taken is
what a later search would read, for as long as the count stays.

The counts start again with the process of MongoDB, whose ID ``hello`` tells, and with a collection
that is dropped, which gets another UUID.

There is no proof, so nothing is kept, if

-   MongoDB is a replica set or sharded: a transaction is counted before it is committed, and other
    processes may write
-   the user may not run ``top``, which needs the role ``clusterMonitor``
-   a collection has a TTL index: its deletes are not counted
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.errors import PyMongoError

logger = logging.getLogger(__name__)

_UNUSED = {"writeLock": {"count": 0}, "total": {"count": 0}}
_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)


@dataclass(frozen=True)
class State:
    """What MongoDB tells of one collection.

    Attributes:
        name: its name
        uuid: its UUID, as bytes
        writes: how many operations wrote to it since MongoDB started
        operations: how many operations there were in all, which grows
    """

    name: str
    uuid: bytes
    writes: int
    operations: int


@dataclass(frozen=True)
class Evidence:
    """The state of some collections at one time.

    Attributes:
        process: the ID of MongoDB's process
        states: one for each collection
    """

    process: Any
    states: tuple[State, ...]

    def holds(self, database: Any) -> bool:
        """Whether the collections are as they were; False also if that can't be proven.

        Args:
            database: their :class:`pymongo.database.Database`
        """
        now = _read(database, [state.name for state in self.states])
        return (
            now is not None
            and now.process == self.process
            and all(
                (one.uuid, one.writes) == (other.uuid, other.writes)
                and one.operations <= other.operations  # renamed away and back, it starts again
                for one, other in zip(self.states, now.states)
            )
        )


def of(database: Any, names: Collection[str]) -> Evidence | None:
    """Returns the state of collections, before they are read.

    Args:
        database: their :class:`pymongo.database.Database`
        names: the names of the collections

    Returns:
        the :class:`Evidence`, or None if no change of theirs could be proven later
    """
    found = _read(database, names)
    try:
        if found is not None and not any(_expires(database[name]) for name in names):
            return found
    except PyMongoError as error:
        logger.debug("No proof that %s did not change: %s", sorted(names), error)
    return None


def _read(database: Any, names: Collection[str]) -> Evidence | None:
    try:
        admin = database.client.admin
        hello = admin.command("hello")
        if "setName" in hello or "msg" in hello:
            return None
        listed = database.command("listCollections", filter={"name": {"$in": list(names)}})
        totals = admin.command("top", codec_options=_RAW)["totals"]
        uuids = {one["name"]: bytes(one["info"]["uuid"]) for one in listed["cursor"]["firstBatch"]}
        states = [_state(name, uuids[name], totals, database) for name in sorted(names)]
        return Evidence(hello["topologyVersion"]["processId"], tuple(states))
    except (PyMongoError, KeyError) as error:
        logger.debug("No proof that %s did not change: %s", sorted(names), error)
        return None


def _state(name: str, uuid: bytes, totals: Any, database: Any) -> State:
    # One that was not used since MongoDB started has none
    counts = totals.get(f"{database.name}.{name}", _UNUSED)
    return State(name, uuid, int(counts["writeLock"]["count"]), int(counts["total"]["count"]))


def _expires(collection: Any) -> bool:
    return any("expireAfterSeconds" in index for index in collection.list_indexes())
