"""Asks what listens at an address that no user named, before anything is sent or stored there."""

from __future__ import annotations

import logging
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fiftyone_milvus.connection.diagnosis import diagnose, greeting
from fiftyone_milvus.connection.target import Target
from fiftyone_milvus.errors import TLSError, UnreachableError

logger = logging.getLogger(__name__)

PROBE_SECONDS = 10.0
"""Seconds to wait for an answer if something listens, so that a busy server is not passed over."""

_POLL_SECONDS = 0.25


def is_milvus(target: Target, seconds: float | None = None) -> bool:
    """Asks for Milvus' version, without credentials.

    Args:
        target: a server
        seconds: how long to wait for an answer; by default :data:`PROBE_SECONDS`

    Returns:
        False if nothing listens there, or what listens is something else than Milvus

    Raises:
        UnreachableError: if something listens that does not say what it is
        TLSError: if it requires TLS, or its certificate is not trusted
    """
    seconds = PROBE_SECONDS if seconds is None else seconds
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            socket.create_connection((target.host, target.port), timeout=left).close()
        except TimeoutError:
            break
        except OSError:
            return False
        answer = _ask(target, max(deadline - time.monotonic(), 0.1))
        if answer is not None:
            if not answer:
                logger.warning("What listens at %s is not Milvus", target.address)
            return answer
        time.sleep(_POLL_SECONDS)
    raise UnreachableError(
        f"No address is given, and what listens at {target.address} has not answered as Milvus "
        f"within {seconds:g} s; pass uri='{target.address}' if it is Milvus, or a path that ends "
        "in '.db' for the embedded engine"
    )


def _ask(target: Target, timeout: float) -> bool | None:
    """Returns whether a Milvus answers, or None if that is not known yet."""
    import grpc
    from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

    if target.tls and (problem := diagnose(target)) is not None:
        raise problem
    with _channel(target) as channel:
        call = milvus_pb2_grpc.MilvusServiceStub(channel).GetVersion
        try:
            reply = call(milvus_pb2.GetVersionRequest(), timeout=timeout)
        except grpc.RpcError as error:
            status = error.code()
        else:
            # One that is starting says what it waits for
            said = reply.status.code or reply.status.error_code or reply.status.reason
            return True if reply.version else None if said else False
    if status in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return True
    if status in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL):
        return False
    if status is grpc.StatusCode.UNAVAILABLE and not target.tls:
        return False if _speaks_something_else(target) else None
    return None


def _channel(target: Target) -> Any:
    import grpc

    address = urlsplit(target.address).netloc
    options: list[tuple[str, Any]] = [("grpc.enable_http_proxy", 0)]
    if not target.tls:
        return grpc.insecure_channel(address, options)
    settings = target.settings
    root = Path(settings.root_path).read_bytes() if settings.root_path else None
    if settings.server_name:
        options.append(("grpc.ssl_target_name_override", settings.server_name))
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(root), options)


def _speaks_something_else(target: Target) -> bool:
    """Returns whether something answers that is not HTTP/2; raises TLSError if it is TLS."""
    answer = greeting(target, 1.0)
    if answer is not None and isinstance(problem := diagnose(target), TLSError):
        raise problem
    # What closes the connection may be starting
    return bool(answer)
