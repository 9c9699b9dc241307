"""Which engine to use, and where it is."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
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
"""Where to look for a server when nothing names an address. Tests set the variable, so that they
never reach a server of the user."""

_SERVER_SCHEMES = {"http", "https", "tcp", "grpc"}
_HOST_PORT = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")

_announced: set[tuple[str, str]] = set()
_announced_lock = threading.Lock()


def resolve(settings: Settings, deployment: str | None) -> Target:
    """Decides which engine to use, and where.

    What ``settings.uri`` names is used. Without one, ``deployment`` decides, and a new index
    (None) goes to a Milvus that answers on this machine's port 19530, else to the embedded engine.

    Args:
        settings: what the user said
        deployment: ``"embedded"`` or ``"server"``, as recorded on an existing run, or None

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
    _announce(target)
    return target


def answers(target: Target) -> bool:
    """Whether a Milvus answers at a target, be it to ask for credentials; takes 1.5 s at most."""
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
    # One data directory has one name, whichever link leads there: its service is keyed by it.
    path = Path(os.path.realpath(path.expanduser()))
    return Target("embedded", str(path), settings, path)


def _server(uri: str, settings: Settings) -> Target:
    parts = urlsplit(uri)
    secure = settings.secure
    if secure is None:
        secure = bool(settings.tls_files)
    # The scheme of https:// says so itself; a contradicting secure=False must not send secrets
    # in the clear.
    tls = secure or parts.scheme == "https"
    port = parts.port or (443 if parts.scheme == "https" else DEFAULT_PORT)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return Target("server", f"{'https' if tls else 'http'}://{host}:{port}", settings)


def _announce(target: Target) -> None:
    key = (target.deployment, target.address)
    with _announced_lock:
        if key in _announced:
            return
        _announced.add(key)
    if target.deployment == "embedded":
        logger.info("Using Milvus' embedded engine in %s", target.address)
    else:
        logger.info("Using the Milvus server at %s", target.address)
