"""Connections of pymilvus' ORM, for users; pymilvus 3.1 removes the ORM."""

from __future__ import annotations

import os
import threading
import warnings
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from fiftyone_milvus.connection import quiet_logs
from fiftyone_milvus.connection.client import CONNECT_TIMEOUT, client_kwargs
from fiftyone_milvus.connection.target import Target
from fiftyone_milvus.errors import EngineError

_lock = threading.Lock()
_registered: dict[str, tuple[int, object, Any]] = {}
"""The aliases that this module registered: process, address and token, and handler of each."""
inherited: list[Any] = []
"""Clients and handlers of the parent process, kept because closing them may hang."""


def available() -> bool:
    """Returns whether this pymilvus has the ORM."""
    try:
        from pymilvus import Collection, connections, utility  # noqa: F401
    except ImportError:
        return False
    return True


def takes(target: Target) -> bool:
    """Returns whether the ORM can connect to a target: it takes no IPv6 address."""
    return ":" not in target.host


def silence() -> None:
    """Hides the ORM's deprecation warnings: users follow FiftyOne's documentation."""
    try:
        from pymilvus import PyMilvusDeprecationWarning
    except ImportError:
        return
    for action, _, category, _, _ in warnings.filters:
        if action == "ignore" and category is PyMilvusDeprecationWarning:
            return
    warnings.filterwarnings("ignore", category=PyMilvusDeprecationWarning)


class _Yielding(str):
    """The address of an alias that anyone may connect elsewhere.

    pymilvus refuses to connect an alias whose address is another.
    """

    __slots__ = ()
    __hash__ = str.__hash__

    def __ne__(self, other: object) -> bool:
        return False


class _Kept(dict[str, Any]):
    """What pymilvus keeps of our connection: for the next ``connect()``, what was there before.

    A user who gives no address is not sent to ours. The database is for the calls of the ORM.

    Args:
        before: what pymilvus kept of the alias before
        db_name: our database
    """

    def __init__(self, before: dict[str, Any], db_name: str) -> None:
        super().__init__(before, address=_Yielding(before.get("address") or _default_address()))
        self._db_name = db_name

    def get(self, key: str, default: Any = None) -> Any:
        return self._db_name if key == "db_name" else super().get(key, default)

    def __contains__(self, key: object) -> bool:
        return key == "db_name" or super().__contains__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "db_name":
            self._db_name = value
        else:
            super().__setitem__(key, value)


def register(alias: str, target: Target) -> bool:
    """Registers a target with the ORM under an alias.

    The user can still connect the alias, as if it were free.

    Returns:
        False if the user has registered the alias, which is then not changed
    """
    from pymilvus import connections

    with _lock, quiet_logs.quiet():
        silence()
        handler = dict(connections.list_connections()).get(alias)
        pid, known, ours = _registered.get(alias, (0, None, None))
        if handler is not None and handler is not ours:
            _forget(alias)
            return False
        before = dict(connections.get_connection_addr(alias))
        if handler is None and not _is_free(before.get("address")):
            return False
        kwargs = client_kwargs(target)
        where = target, kwargs["uri"], kwargs.get("token")
        if handler is not None:
            if pid != os.getpid():
                inherited.append(handler)
            if known != where:
                connections.disconnect(alias)
            elif pid == os.getpid():
                return True
        kwargs.setdefault("db_name", "default")
        connections.connect(alias, **kwargs, timeout=CONNECT_TIMEOUT)
        if hasattr(connections, "_alias_config"):
            connections._alias_config[alias] = _Kept(before, kwargs["db_name"])
        _registered[alias] = (os.getpid(), where, dict(connections.list_connections())[alias])
        return True


def renew(target: Target) -> None:
    """Gives the aliases of a target the token of a service that was started again."""
    for alias, (_, where, _) in list(_registered.items()):
        if isinstance(where, tuple) and where[0] == target:
            with suppress(Exception):  # the next use of the alias says why
                register(alias, target)


def _is_free(address: str | None) -> bool:
    """Returns whether an alias that is not connected has only the address pymilvus gave it."""
    return address is None or isinstance(address, _Yielding) or address == _default_address()


def _default_address() -> str:
    from pymilvus import DefaultConfig

    named = DefaultConfig.MILVUS_URI
    if not named:
        return f"{DefaultConfig.DEFAULT_HOST}:{DefaultConfig.DEFAULT_PORT}"
    parts = urlsplit(named)
    return f"{parts.hostname}:{parts.port or DefaultConfig.DEFAULT_PORT}"


def _forget(alias: str) -> None:
    """Closes our connection of an alias that the user has taken."""
    pid, _, handler = _registered.pop(alias, (0, None, None))
    if handler is not None and pid == os.getpid():
        with suppress(Exception):
            handler.close()


def default_alias() -> str:
    """Returns the alias of ORM calls without ``using=``."""
    from pymilvus import DefaultConfig

    return str(DefaultConfig.MILVUS_CONN_ALIAS)


def disconnect_all() -> None:
    """Closes the ORM connections that this module registered and that were not replaced."""
    if not _registered:
        return
    from pymilvus import connections

    with _lock, quiet_logs.quiet(), warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")  # even if the user has undone silence()
        handlers = dict(connections.list_connections())
        for alias, (pid, _, handler) in list(_registered.items()):
            if pid == os.getpid() and handlers.get(alias) is handler:
                connections.disconnect(alias)
            _registered.pop(alias)


def after_fork() -> None:
    """Makes this module usable in a forked process."""
    global _lock
    _lock = threading.Lock()


def collection(alias: str, name: str) -> Any:
    """Returns the ORM's ``Collection`` of a name."""
    from pymilvus import Collection

    silence()
    return Collection(name, using=alias)


def no_orm(target: Target) -> EngineError:
    """Returns the error for a pymilvus without the ORM, or whose ORM can't connect there."""
    import pymilvus

    if available():
        return EngineError(
            f"pymilvus' ORM takes no IPv6 address, such as {target.address}, so there is no "
            "'index.collection': use 'index.client', a MilvusClient, or the name of the host"
        )

    return EngineError(
        f"pymilvus {pymilvus.__version__} has no ORM, so there is no 'index.collection': "
        "use 'index.client', a MilvusClient, or pymilvus < 3.1"
    )
