"""Decides which Milvus to use."""

from __future__ import annotations

import logging
import os
import re
import threading
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from fiftyone_milvus import embedded
from fiftyone_milvus.connection.probe import is_milvus
from fiftyone_milvus.connection.settings import Settings
from fiftyone_milvus.connection.target import DEFAULT_PORT, Target
from fiftyone_milvus.errors import FiftyOneMilvusError, InvalidInputError

logger = logging.getLogger(__name__)

LOCAL_SERVER = os.environ.get("FIFTYONE_MILVUS_LOCAL_SERVER", "http://localhost:19530")
"""The server that is tried if no address is given. Tests set the variable, so that they never reach
a server of the user."""

_SERVER_SCHEMES = {"http", "https", "tcp", "grpc"}
_HOST_PORT = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")


def resolve(settings: Settings, deployment: str | None) -> Target:
    """Decides which Milvus to use.

    That is ``settings.uri``, if given, else the one that ``deployment`` says. A new index, without
    either, uses a Milvus that answers on this machine's port 19530, else the embedded engine. What
    was decided stays so in this process. Credentials need an address.

    Args:
        settings: the connection parameters
        deployment: ``"embedded"`` or ``"server"``, as stored with an existing run, or None

    Raises:
        InvalidInputError: if the address can't be read, or there are credentials without one
        UnreachableError: if no address is given, and what listens on port 19530 does not say within
            10 s whether it is Milvus
        TLSError: likewise, if it requires TLS
    """
    if settings.uri is not None:
        return _named(settings.uri, settings)
    if deployment not in (None, "embedded", "server"):
        raise InvalidInputError(
            f"Milvus deployment must be 'embedded' or 'server', got {deployment!r}"
        )
    if deployment == "embedded":
        return _chosen(None, settings)
    if settings.credentials:
        raise InvalidInputError(
            f"Milvus got '{settings.credentials[0]}' but no address, and credentials are sent only "
            "to an address that you name: pass uri=, such as 'http://localhost:19530', or set "
            "FIFTYONE_BRAIN_SIMILARITY_MILVUS_URI"
        )
    server = _server(LOCAL_SERVER, settings)
    if deployment == "server":
        return _chosen(server, settings)
    found = answers(server)
    return _chosen(server if found else None, settings, _reason(found))


def answers(target: Target) -> bool:
    """Returns whether a Milvus answers at an address that no user named; asks it once.

    Raises:
        UnreachableError: if what listens there does not say what it is
        TLSError: if it requires TLS, or its certificate is not trusted
    """
    with _asking:
        if target.address not in _answered:
            _answered[target.address] = is_milvus(target)
        return _answered[target.address]


_answered: dict[str, bool] = {}
_asking = threading.Lock()


def _reason(found: bool) -> str:
    there = "a Milvus answers there" if found else f"no Milvus listens at {LOCAL_SERVER}"
    return f"no address is given, and {there}"


def new_indexes(settings: Settings) -> str:
    """Returns in words where new indexes go, and why; does not raise."""
    try:
        if settings.uri is not None:
            target = _named(settings.uri, settings)
            return f"{_words(target)}: that is the configured address"
        if settings.credentials:
            resolve(settings, None)
        server = _server(LOCAL_SERVER, settings)
        found = answers(server)
        where = _words(server) if found else "Milvus' embedded engine"
        return f"{where}: {_reason(found)}"
    except FiftyOneMilvusError as error:
        return f"nowhere: {error}"


def _chosen(server: Target | None, settings: Settings, why: str = "") -> Target:
    target = server or _embedded(embedded.default_path(), settings)
    _announce(_words(target), why)
    return target


def _words(target: Target) -> str:
    what = "Milvus' embedded engine in" if target.path is not None else "the Milvus server at"
    return f"{what} {target.address}"


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
def _announce(where: str, why: str) -> None:
    """Logs which Milvus is used, once for each."""
    if why:
        logger.info("New indexes go to %s: %s", where, why)
    else:
        logger.info("Using %s", where)


def _after_fork() -> None:
    # Another thread of the parent may have held it
    global _asking
    _asking = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
