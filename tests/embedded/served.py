"""A server as the service builds it, in the process of the test."""

from __future__ import annotations

import contextlib
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

from fiftyone_milvus.embedded.database import Database
from fiftyone_milvus.embedded.executor import build_servicer
from fiftyone_milvus.embedded.executor.plain import PlainServicer
from fiftyone_milvus.embedded.interceptors import (
    ActivityInterceptor,
    LockingInterceptor,
    TokenInterceptor,
)
from fiftyone_milvus.embedded.lifetime import Activity
from tests.embedded.child import create

APPLY, FLUSH = "_apply", "_refresh_segment_cache"


class Served:
    """A server as the service builds it, two clients, and collections whose work can be halted."""

    def __init__(self, path: Path, *, fast: bool) -> None:
        self.database, self.activity = Database(str(path)), Activity()
        self.servicer: Any = build_servicer(self.database)
        assert hasattr(self.servicer, "unlocked_reads")
        if not fast:
            self.servicer = PlainServicer(self.database)
        locking = LockingInterceptor(self.servicer, self.database)
        self.locks, self.idle = locking._locks, locking.idle
        self.server = grpc.server(
            ThreadPoolExecutor(32),
            interceptors=[
                TokenInterceptor("secret"),
                ActivityInterceptor(self.activity),
                locking,
            ],
        )
        milvus_pb2_grpc.add_MilvusServiceServicer_to_server(self.servicer, self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.client = MilvusClient(f"http://127.0.0.1:{port}", token="secret", dedicated=True)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.stub = milvus_pb2_grpc.MilvusServiceStub(self.channel)
        self.pool = ThreadPoolExecutor(16)
        for name in ("rows", "others"):
            create(self.client, name)
            self.client.load_collection(name)
        self.client.create_alias("rows", "other_name")

    def close(self) -> None:
        self.client.close()
        self.channel.close()
        self.server.stop(0).wait()
        self.pool.shutdown()
        self.database.close()

    def waiting(self) -> int:
        """The number of requests that wait for the collection."""
        return len(self.locks._collections["default", "rows"]._queue)

    def flush(self) -> None:
        """A flush, without the half second for which pymilvus sleeps afterwards."""
        request = milvus_pb2.FlushRequest(collection_names=["rows"])
        self.stub.Flush(request, metadata=[("authorization", b64encode(b"secret").decode())])

    def run(self, operation: Callable[..., Any], *arguments: Any, **options: Any) -> Future[Any]:
        return self.pool.submit(operation, *arguments, **options)

    @contextlib.contextmanager
    def halted(self, step: str) -> Iterator[threading.Event]:
        """Halts a write at its worst moment, and tells when it is there.

        That is when the rows are in memory, and when they are there no more and not yet visible
        as a segment.
        """
        collection = self.database.get_collection("rows")
        work, there, go_on = getattr(collection, step), threading.Event(), threading.Event()

        def halt(*arguments: Any) -> None:
            if step == APPLY:
                work(*arguments)
            there.set()
            assert go_on.wait(60)
            if step == FLUSH:
                work(*arguments)

        setattr(collection, step, halt)
        try:
            yield there
        finally:
            delattr(collection, step)
            go_on.set()
