"""Opens the ``pymilvus.MilvusClient`` of a target."""

from __future__ import annotations

import functools
import logging
import ssl
import time
from typing import Any
from urllib.parse import quote

from fiftyone_milvus import embedded
from fiftyone_milvus.connection import quiet_logs
from fiftyone_milvus.connection.diagnosis import proxy_of, tls_problem
from fiftyone_milvus.connection.settings import Secret, Settings
from fiftyone_milvus.connection.target import Target
from fiftyone_milvus.errors import TLSError

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 3.5
"""Seconds to wait for a server's first answer; a second is left to find out why there is none."""

RECONNECT_SECONDS = 1.5
"""Seconds after which a channel has tried to connect again; until then, calls fail as before."""

# By default, gRPC waits up to two minutes before it reconnects to a restarted server. It varies its
# pauses by a fifth
_RECONNECT = {
    "grpc.initial_reconnect_backoff_ms": 50,
    "grpc.min_reconnect_backoff_ms": 2500,
    "grpc.max_reconnect_backoff_ms": 1000,
    # pymilvus pings every 10 s; gRPC would wait a minute for the answer of a frozen process. One
    # that is only busy answers, even while Python code of it runs.
    "grpc.http2.ping_timeout_ms": 10_000,
}
# A service needs no pings while nothing is asked of it
_LOCAL = {**_RECONNECT, "grpc.keepalive_permit_without_calls": 0}
_NO_PROXY = {"grpc.enable_http_proxy": 0}


def open_client(target: Target, *, timeout: float = CONNECT_TIMEOUT) -> Any:
    """Opens a client with its own connection, not one of pymilvus' pool.

    Args:
        target: the Milvus; the embedded engine is started if it does not run
        timeout: seconds to wait for a server's first answer

    Raises:
        FiftyOneMilvusError: if a certificate is unusable or the embedded engine can't start
        MilvusException: if the server refuses; see :func:`translate`
        grpc.RpcError: likewise
    """
    # The import takes half a second, which reading a run's properties does not need
    from pymilvus import MilvusClient

    quiet_logs.install()
    deadline = time.monotonic() + timeout
    with quiet_logs.quiet():
        kwargs = client_kwargs(target)
        if target.tls:
            check_tls_files(target.settings)
            # gRPC prints TLS errors to the terminal, and returns no reason
            if (
                proxy_of(target) is None
                and (problem := tls_problem(target, timeout=1.0)) is not None
            ):
                raise problem
        remaining = max(1.0, deadline - time.monotonic()) if target.path is None else timeout
        client = MilvusClient(**kwargs, timeout=remaining, dedicated=True)
    _leave_retries_to_us(client)
    return client


def client_kwargs(target: Target) -> dict[str, Any]:
    """Returns the arguments of ``MilvusClient`` and ``pymilvus.connections.connect``."""
    settings, token = target.settings, target.settings.login
    address, options = target.address, _RECONNECT
    if target.path is not None:
        endpoint = embedded.ensure(target.path)
        address, token, options = endpoint.address, Secret(endpoint.token), _LOCAL
    elif ":" in target.host:
        # pymilvus 3 would leave the brackets out. gRPC decodes them
        scheme, _, place = address.partition("://")
        host, _, port = place.rpartition(":")
        address = f"{scheme}://{quote(host, safe='')}:{port}"
    if target.local:
        options = {**options, **_NO_PROXY}
    kwargs: dict[str, Any] = {"uri": address, "grpc_options": options}
    if token:
        kwargs["token"] = token
    if settings.db_name:
        kwargs["db_name"] = settings.db_name
    if not target.tls:
        return kwargs
    kwargs["secure"] = True
    if settings.server_name:
        kwargs["server_name"] = settings.server_name
    # pymilvus reads ca_pem_path only with a client certificate; otherwise, it takes server_pem_path
    # for the authority
    if settings.client_pem_path:
        kwargs["ca_pem_path"] = settings.root_path
        kwargs["client_pem_path"] = settings.client_pem_path
        kwargs["client_key_path"] = settings.client_key_path
    elif settings.root_path:
        kwargs["server_pem_path"] = settings.root_path
    return kwargs


def check_tls_files(settings: Settings) -> None:
    """Checks that the PEM files can be read, and that key and certificate belong together.

    Raises:
        TLSError: naming the parameter and its path
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name, path in settings.tls_files.items():
        _check_tls_file(context, name, path)
    if settings.client_pem_path and settings.client_key_path:
        pair = f"'{settings.client_pem_path}' and '{settings.client_key_path}'"
        try:
            # Without a password, OpenSSL would ask for one on the terminal
            context.load_cert_chain(settings.client_pem_path, settings.client_key_path, "")
        except (ssl.SSLError, ValueError) as error:
            raise TLSError(
                "Milvus parameters 'client_pem_path' and 'client_key_path': "
                f"{pair} are not a certificate and its unencrypted key in PEM format"
            ) from error


def _check_tls_file(context: ssl.SSLContext, name: str, path: str) -> None:
    try:
        with open(path, "rb"):
            pass
        if name in ("ca_pem_path", "server_pem_path"):
            context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise TLSError(
            f"Milvus parameter '{name}': '{path}' holds no certificate in PEM format"
        ) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise TLSError(
            f"Milvus parameter '{name}': can't read '{path}' ({reason}); pass a PEM file"
        ) from error


def _leave_retries_to_us(client: Any) -> None:
    """Ends pymilvus' own retries of failed calls, but for rate limits.

    It retries every call up to 75 times, for minutes, even writes that must not be repeated.
    :meth:`Connection.run` knows which calls may be retried, and for how long.
    """
    import grpc

    def on_error(error: Exception) -> bool:
        if isinstance(error, grpc.RpcError):
            raise error
        return False

    handler: Any = getattr(client, "_handler", None)
    if hasattr(handler, "_on_rpc_error"):
        handler._on_rpc_error = on_error
    else:
        _warn_of_retries()


@functools.cache
def channels_are_watched() -> bool:
    """Whether pymilvus waits for a new channel with a thread that lives on for 0.2 s."""
    from pymilvus.client.grpc_handler import GrpcHandler

    wait = getattr(GrpcHandler, "_wait_for_channel_ready", None)
    code = getattr(wait, "__code__", None)
    return code is None or "channel_ready_future" in code.co_names


@functools.cache
def _warn_of_retries() -> None:
    import pymilvus

    logger.warning(
        "pymilvus %s repeats failed calls itself, maybe for minutes, before an error is raised; "
        "upgrade fiftyone-milvus",
        pymilvus.__version__,
    )
