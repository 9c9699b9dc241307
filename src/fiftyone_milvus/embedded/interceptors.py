"""What every request passes before it reaches Milvus Lite: token, activity, locks, disk space."""

from __future__ import annotations

import base64
import contextlib
import hmac
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
from pymilvus.grpc_gen import common_pb2, milvus_pb2

from fiftyone_milvus.embedded import disk_space
from fiftyone_milvus.embedded.database import Database
from fiftyone_milvus.embedded.idle_collections import IdleCollections
from fiftyone_milvus.embedded.lifetime import Activity
from fiftyone_milvus.embedded.locks import Call, Collection, Locks, WaitError

# They read no rows, and nothing that changes meanwhile.
_UNLOCKED = frozenset(
    {
        "CheckHealth",
        "Connect",
        "DescribeAlias",
        "DescribeDatabase",
        "GetCompactionState",
        "GetFlushState",
        "GetVersion",
        "HasCollection",
        "ListAliases",
        "ListDatabases",
        "ManualCompaction",
    }
)
# They read no rows, and open no collection: a write on it is no reason to wait.
_METADATA = frozenset(
    {
        "DescribeCollection",
        "GetLoadState",
        "GetLoadingProgress",
        "HasPartition",
        "ShowPartitions",
    }
)
_READS = frozenset(
    {
        "DescribeIndex",
        "GetCollectionStatistics",
        "GetPartitionStatistics",
        "HybridSearch",
        "Query",
        "Search",
    }
)
_WRITES = frozenset(
    {
        "AlterCollection",
        "AlterCollectionField",
        "AlterIndex",
        "CreateIndex",
        "CreatePartition",
        "Delete",
        "DropIndex",
        "DropPartition",
        "Flush",
        "Insert",
        "LoadCollection",
        "LoadPartitions",
        "ReleaseCollection",
        "ReleasePartitions",
        "Upsert",
    }
)
# Everything else (CreateCollection, DropCollection, RenameCollection, ..., and what a later Milvus
# Lite may add) also changes the list of collections.

_ADDS_ROWS = frozenset({"Insert", "Upsert"})

_NAME_FIELDS = ("collection_name", "oldName", "newName", "alias")

Handler = Any
Behavior = Callable[[Any, Any], Any]


class TokenInterceptor(grpc.ServerInterceptor):
    """Refuses requests without the token; pymilvus sends it in the ``authorization`` metadata.

    Args:
        token: the secret
    """

    def __init__(self, token: str) -> None:
        self._expected = base64.b64encode(token.encode())
        self._refusal = grpc.unary_unary_rpc_method_handler(_refuse)

    def intercept_service(self, continuation: Any, details: Any) -> Handler:
        """Passes a request that carries the token, and refuses any other."""
        for key, value in details.invocation_metadata:
            if key == "authorization":
                sent = value if isinstance(value, bytes) else value.encode("utf-8", "replace")
                if hmac.compare_digest(sent, self._expected):
                    return continuation(details)
        return self._refusal


_REFUSED = (
    "the token is missing or wrong: a service has a new one after each start; use index.client or "
    "embedded.ensure() again"
)


def _refuse(request: Any, context: Any) -> None:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, _REFUSED)


class _Interceptor(grpc.ServerInterceptor):
    """Runs :meth:`answer` in place of each request."""

    def intercept_service(self, continuation: Any, details: Any) -> Handler:
        """Wraps the handler of a request."""
        handler = continuation(details)
        # Milvus' streaming requests are for replication; Milvus Lite implements none of them.
        if handler is None or not handler.unary_unary:
            return handler
        method = details.method.rpartition("/")[2]
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self.answer(method, handler.unary_unary, request, context),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def answer(self, method: str, behavior: Behavior, request: Any, context: Any) -> Any:
        """Answers a request, with the help of ``behavior``."""
        raise NotImplementedError


class ActivityInterceptor(_Interceptor):
    """Counts requests, so that the service knows when it is idle; names those it can't serve.

    Args:
        activity: where they are counted
    """

    def __init__(self, activity: Activity) -> None:
        self._activity = activity

    def answer(self, method: str, behavior: Behavior, request: Any, context: Any) -> Any:
        """Counts a request in and out."""
        self._activity.request_began()
        try:
            return behavior(request, context)
        except NotImplementedError:
            # pymilvus asks for some on every connect; gRPC would log a traceback for each.
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"Milvus Lite has no {method}")
        finally:
            self._activity.request_ended()


class LockingInterceptor(_Interceptor):
    """Runs one write at a time on a collection, and no read that would see half of the write.

    Args:
        servicer: the servicer; the fast one has locks, which its reads take where they need any
        database: where collections are looked up

    Attributes:
        idle: closes collections that no request uses
    """

    def __init__(self, servicer: Any, database: Database) -> None:
        self._database = database
        self._locks: Locks = getattr(servicer, "locks", None) or Locks()
        self.idle = IdleCollections(database, self._locks)
        self._unlocked = _UNLOCKED | getattr(servicer, "unlocked_reads", frozenset())

    def answer(self, method: str, behavior: Behavior, request: Any, context: Any) -> Any:
        """Holds the locks that a request needs; at its deadline, says what it waited for."""
        call = Call.of(method, context)
        collections = list(_collections(request, context, self._database))
        used = [] if method in _UNLOCKED or method in _METADATA else collections
        try:
            with self.idle.used(used), self._hold(call, collections):
                if not context.is_active():
                    # Its client gave up waiting, and may have sent something newer since.
                    context.abort(grpc.StatusCode.CANCELLED, "the client gave up waiting")
                return behavior(request, context)
        except WaitError as error:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, str(error))

    def _hold(
        self, call: Call, collections: list[Collection]
    ) -> contextlib.AbstractContextManager[None]:
        method, locks = call.method, self._locks
        if method in self._unlocked or method in _METADATA:
            return contextlib.nullcontext()
        if method in _READS:
            return locks.reading(collections, call)
        if method in _WRITES:
            return locks.writing(collections, call)
        if method == "ShowCollections":
            return locks.listing(call)
        return locks.changing_list(collections, call)


class SpaceInterceptor(_Interceptor):
    """Refuses rows that would fill the disk, and says where it is full.

    Args:
        path: the data directory
        database: the database in it
    """

    def __init__(self, path: Path, database: Database) -> None:
        self._path = path
        self._database = database

    def answer(self, method: str, behavior: Behavior, request: Any, context: Any) -> Any:
        """Looks at the disk before rows are written, and explains what failed for lack of room."""
        if method in _ADDS_ROWS:
            collections = _collections(request, context, self._database)
            log = sum(self._database.log_bytes(*collection) for collection in collections)
            if reason := disk_space.shortage(self._path, request.ByteSize(), log):
                refused = common_pb2.Status(error_code=1, code=1, reason=reason)
                return milvus_pb2.MutationResult(status=refused)
        response = behavior(request, context)
        status: Any = getattr(response, "status", response)
        if disk_space.is_full(getattr(status, "reason", "")):
            status.reason = disk_space.full(self._path)
        return response


def _collections(request: Any, context: Any, database: Database) -> Iterator[Collection]:
    """The collections that a request names, by their own names where it uses an alias."""
    name = getattr(request, "db_name", "")
    if not name:
        metadata = {key.lower(): value for key, value in context.invocation_metadata()}
        name = metadata.get("dbname") or "default"
    names = [getattr(request, field, "") for field in _NAME_FIELDS]
    names.extend(getattr(request, "collection_names", ()))
    for collection in names:
        if isinstance(collection, str) and collection:
            yield name, database.resolve_collection_name(collection, database_name=name)
