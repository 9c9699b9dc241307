"""Decides which Milvus to use."""

from __future__ import annotations

import logging
import os
import re
import socket
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from fiftyone_milvus import embedded
from fiftyone_milvus.connection.client import open_client
from fiftyone_milvus.connection.failures import translate
from fiftyone_milvus.connection.settings import Settings
from fiftyone_milvus.connection.target import DEFAULT_PORT, Target
from fiftyone_milvus.errors import (
    AuthenticationError,
    InvalidInputError,
    PermissionDeniedError,
    TLSError,
)

logger = logging.getLogger(__name__)

LOCAL_SERVER = os.environ.get("FIFTYONE_MILVUS_LOCAL_SERVER", "http://localhost:19530")
"""The server that is tried if no address is given. Tests set the variable, so that they never reach
a server of the user."""

_SERVER_SCHEMES = {"http", "https", "tcp", "grpc"}
_HOST_PORT = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")


def resolve(settings: Settings, deployment: str | None) -> Target:
    """Decides which Milvus to use.

    That is ``settings.uri``, if given, else the one that ``deployment`` says. A new index, without
    either, uses a Milvus that answers on this machine's port 19530, else the embedded engine.

    Args:
        settings: the connection parameters
        deployment: ``"embedded"`` or ``"server"``, as stored with an existing run, or None

    Raises:
        InvalidInputError: if the address can't be read
    """
    if settings.uri is not None:
        return _named(settings.uri, settings)
    if deployment not in (None, "embedded", "server"):
        raise InvalidInputError(
            f"Milvus deployment must be 'embedded' or 'server', got {deployment!r}"
        )
    server = _server(LOCAL_SERVER, settings)
    if deployment == "server" or (deployment is None and answers(server)):
        target = server
    else:
        target = _embedded(embedded.default_path(), settings)
    _announce(target.deployment, target.address)
    return target


def answers(target: Target) -> bool:
    """Returns whether a Milvus answers, maybe with an error of TLS or credentials; takes 1.5 s."""
    try:
        socket.create_connection((target.host, target.port), timeout=0.2).close()
    except OSError:
        return False
    try:
        open_client(target, timeout=1.0).close()
    except Exception as error:
        problem = translate(error, target, probe=False)
        return isinstance(problem, (AuthenticationError, PermissionDeniedError, TLSError))
    return True


def _named(uri: str, settings: Settings) -> Target:
    scheme = uri.split(":", 1)[0].lower()
    if "://" in uri and scheme in _SERVER_SCHEMES:
        return _server(uri, settings)
    if scheme == "unix":
        return Target("server", uri, settings)
    if uri.endswith(".db") and "://" not in uri:
        return _embedded(Path(uri), settings)
    if (match := _HOST_PORT.fullmatch(uri)) and int(match["port"]) < 65536:
        return _server(f"http://{uri}", settings)
    raise InvalidInputError(
        f"'{uri}' is not an address of Milvus: "
        "use 'http(s)://host:port', or a path that ends in '.db' for the embedded engine"
    )


def _embedded(path: Path, settings: Settings) -> Target:
    # The service of a data directory is found by its path, so it must not depend on links
    path = Path(os.path.realpath(path.expanduser()))
    return Target("embedded", str(path), settings, path)


def _server(uri: str, settings: Settings) -> Target:
    parts = urlsplit(uri)
    secure = bool(settings.tls_files) if settings.secure is None else settings.secure
    # https:// with secure=False must not send secrets unencrypted
    tls = secure or parts.scheme == "https"
    port = parts.port or (443 if parts.scheme == "https" else DEFAULT_PORT)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return Target("server", f"{'https' if tls else 'http'}://{host}:{port}", settings)


@cache
def _announce(deployment: str, address: str) -> None:
    """Logs which Milvus is used, once for each."""
    what = "Milvus' embedded engine in" if deployment == "embedded" else "the Milvus server at"
    logger.info("Using %s %s", what, address)
