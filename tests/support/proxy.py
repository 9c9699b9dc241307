"""A gRPC proxy between a client and a real Milvus, which loses, delays and refuses at will."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

Forward = Callable[[], bytes]
Fault = Callable[[Forward, grpc.ServicerContext], bytes]
"""Answers a call: by what it was forwarded for, or otherwise."""

_UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


class Proxy(grpc.GenericRpcHandler):
    """Forwards every call to a server; faults wait in line for calls of their method.

    Attributes:
        calls: the methods that were called, such as ``"Insert"``, in their order
    """

    def __init__(self, address: str) -> None:
        self.calls: list[str] = []
        self._faults: list[tuple[frozenset[str], Fault]] = []
        self._lock = threading.Lock()
        self._channel = grpc.insecure_channel(address, options=_UNLIMITED)

    def fail(self, methods: str, *faults: Fault) -> None:
        """Has the next calls of these methods, as in ``"Insert Upsert"``, answered by faults."""
        with self._lock:
            self._faults += [(frozenset(methods.split()), fault) for fault in faults]

    def reset(self) -> None:
        """Forgets the calls that were made, and the faults that were not."""
        with self._lock:
            self.calls.clear()
            self._faults.clear()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = details.method.rsplit("/", 1)[1]

        def behavior(request: bytes, context: grpc.ServicerContext) -> bytes:
            metadata = [
                (key, value)
                for key, value in context.invocation_metadata()
                if key != "user-agent" and not key.startswith(("grpc-", ":"))
            ]

            def forward() -> bytes:
                call: Any = self._channel.unary_unary(details.method)
                answer: bytes = call(request, metadata=metadata, timeout=60)
                return answer

            fault = self._next(method)
            try:
                return fault(forward, context) if fault is not None else forward()
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
                raise

        return grpc.unary_unary_rpc_method_handler(behavior)

    def _next(self, method: str) -> Fault | None:
        with self._lock:
            self.calls.append(method)
            for waiting in self._faults:
                if method in waiting[0]:
                    self._faults.remove(waiting)
                    return waiting[1]
        return None


@contextmanager
def proxy(address: str) -> Iterator[tuple[Proxy, str]]:
    """Runs a proxy to ``host:port``; yields it and the URI at which it answers."""
    handler = Proxy(address)
    server = grpc.server(ThreadPoolExecutor(16), options=_UNLIMITED)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield handler, f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
        handler._channel.close()


def lose(forward: Forward, context: grpc.ServicerContext) -> bytes:
    """Has the call done, and loses the answer."""
    forward()
    context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
    raise AssertionError


def away(forward: Forward, context: grpc.ServicerContext) -> bytes:
    """Answers as a server does that is going down, or a proxy before one that is away."""
    context.abort(grpc.StatusCode.UNAVAILABLE, "upstream connect error")
    raise AssertionError


def too_large(forward: Forward, context: grpc.ServicerContext) -> bytes:
    """Refuses as gRPC does what is larger than the server takes."""
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "grpc: received message larger than max")
    raise AssertionError


def answer(code: int, reason: str) -> Fault:
    """Refuses as Milvus itself does."""

    def fault(forward: Forward, context: grpc.ServicerContext) -> bytes:
        from pymilvus.grpc_gen import common_pb2, milvus_pb2

        status = common_pb2.Status(code=code, reason=reason, error_code=1)
        message: bytes = milvus_pb2.MutationResult(status=status).SerializeToString()
        return message

    return fault


def hold(until: threading.Event) -> Fault:
    """Lets the call through when an event is set."""

    def fault(forward: Forward, context: grpc.ServicerContext) -> bytes:
        until.wait(30)
        return forward()

    return fault
