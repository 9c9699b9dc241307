"""What every request passes before it reaches Milvus Lite: token, clock, locks, disk."""

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
from fiftyone_milvus.embedded.lifetime import Activity
from fiftyone_milvus.embedded.locks import Locks

# What touches no collection's rows and nothing that changes while it looks.
_FREE = frozenset(
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
_READS = frozenset(
    {
        "DescribeCollection",
        "DescribeIndex",
        "GetCollectionStatistics",
        "GetLoadState",
        "GetLoadingProgress",
        "GetPartitionStatistics",
        "HasPartition",
        "HybridSearch",
        "Query",
        "Search",
        "ShowPartitions",
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
# Lite may add) has the collections that it names, and the list of them, for itself.
# ShowCollections is among them because Milvus Lite opens each collection for it.

_ADDS = frozenset({"Insert", "Upsert"})

_NAME_FIELDS = ("collection_name", "oldName", "newName", "alias")

Handler = Any
Behavior = Callable[[Any, Any], Any]


class TokenInterceptor(grpc.ServerInterceptor):
    """Lets in who knows the token, as pymilvus sends it: base64 in the ``authorization`` metadata.

    Args:
        token: the secret
    """

    def __init__(self, token: str) -> None:
        self._expected = base64.b64encode(token.encode())
        self._refusal = grpc.unary_unary_rpc_method_handler(_refuse)

    def intercept_service(self, continuation: Any, details: Any) -> Handler:
        """Hands on a request that carries the token, and refuses any other."""
        for key, value in details.invocation_metadata:
            if key == "authorization":
                sent = value if isinstance(value, bytes) else value.encode("utf-8", "replace")
                if hmac.compare_digest(sent, self._expected):
                    return continuation(details)
        return self._refusal


def _refuse(request: Any, context: Any) -> None:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is missing or wrong")


class ActivityInterceptor(grpc.ServerInterceptor):
    """Counts requests, so that the service knows when it is idle; names those it can't serve.

    Args:
        activity: where they are counted
    """

    def __init__(self, activity: Activity) -> None:
        self._activity = activity

    def intercept_service(self, continuation: Any, details: Any) -> Handler:
        """Counts a request in and out."""
        method = details.method.rpartition("/")[2]

        def around(behavior: Behavior, request: Any, context: Any) -> Any:
            self._activity.request_began()
            try:
                return behavior(request, context)
            except NotImplementedError:
                # pymilvus asks for some on every connect; gRPC would log a traceback for each.
                context.abort(grpc.StatusCode.UNIMPLEMENTED, f"Milvus Lite has no {method}")
            finally:
                self._activity.request_ended()

        return _wrap(continuation(details), around)


class LockingInterceptor(grpc.ServerInterceptor):
    """Runs one write at a time on a collection, with no read beside it.

    Args:
        locks: the service's locks
        resolve: the collection that a (database, name or alias) pair means
    """

    def __init__(self, locks: Locks, resolve: Callable[[str, str], str]) -> None:
        self._locks = locks
        self._resolve = resolve

    def intercept_service(self, continuation: Any, details: Any) -> Handler:
        """Puts the locks that a request needs around it."""
        method = details.method.rpartition("/")[2]
        handler = continuation(details)
        if method in _FREE:
            return handler
        if method in _READS:
            hold = self._locks.reading
        elif method in _WRITES:
            hold = self._locks.writing
        else:
            hold = self._locks.restructuring

        def around(behavior: Behavior, request: Any, context: Any) -> Any:
            with hold(_collections(request, context, self._resolve)):
                if not context.is_active():
                    # Its client gave up waiting, and may have sent something newer since.
                    context.abort(grpc.StatusCode.CANCELLED, "the client gave up waiting")
                return behavior(request, context)

        return _wrap(handler, around)


class SpaceInterceptor(grpc.ServerInterceptor):
    """Refuses rows that would fill the disk, and says where it is full.

    Args:
        path: the data directory
        resolve: the collection that a (database, name or alias) pair means
        unflushed: the bytes of the log of a (database, collection) pair
    """

    def __init__(
        self,
        path: Path,
        resolve: Callable[[str, str], str],
        unflushed: Callable[[str, str], int],
    ) -> None:
        self._path = path
        self._resolve = resolve
        self._unflushed = unflushed

    def intercept_service(self, continuation: Any, details: Any) -> Handler:
        """Looks at the disk before rows are written, and at what failed after."""
        adds = details.method.rpartition("/")[2] in _ADDS

        def around(behavior: Behavior, request: Any, context: Any) -> Any:
            if adds and (reason := self._shortage(request, context)):
                refused = common_pb2.Status(error_code=1, code=1, reason=reason)
                return milvus_pb2.MutationResult(status=refused)
            response = behavior(request, context)
            status: Any = getattr(response, "status", response)
            if disk_space.is_full(getattr(status, "reason", "")):
                status.reason = disk_space.full(self._path)
            return response

        return _wrap(continuation(details), around)

    def _shortage(self, request: Any, context: Any) -> str | None:
        log = sum(self._unflushed(*pair) for pair in _collections(request, context, self._resolve))
        return disk_space.shortage(self._path, request.ByteSize(), log)


def _collections(
    request: Any, context: Any, resolve: Callable[[str, str], str]
) -> Iterator[tuple[str, str]]:
    database = getattr(request, "db_name", "")
    if not database:
        for key, value in context.invocation_metadata():
            if key.lower() == "dbname" and value:
                database = value
    names = [getattr(request, field, "") for field in _NAME_FIELDS]
    with contextlib.suppress(AttributeError):
        names.extend(request.collection_names)
    database = database or "default"
    for name in names:
        if isinstance(name, str) and name:
            yield database, resolve(database, name)


def _wrap(handler: Handler, around: Callable[[Behavior, Any, Any], Any]) -> Handler:
    # Milvus' streaming requests are for replication; Milvus Lite implements none of them.
    if handler is None or not handler.unary_unary:
        return handler
    behavior = handler.unary_unary
    return grpc.unary_unary_rpc_method_handler(
        lambda request, context: around(behavior, request, context),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
