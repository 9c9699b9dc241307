"""Connections of pymilvus' ORM, for users; pymilvus 3.1 removes the ORM."""

from __future__ import annotations

import os
import threading
import warnings
from contextlib import suppress
from typing import Any

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


def register(alias: str, target: Target) -> bool:
    """Registers a target with the ORM under an alias.

    Returns:
        False if the user has registered the alias, which is then not changed
    """
    from pymilvus import connections

    with _lock, quiet_logs.quiet():
        silence()
        handler = dict(connections.list_connections()).get(alias)
        pid, known, ours = _registered.get(alias, (0, None, None))
        if handler is not None and handler is not ours:
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
        _registered[alias] = (os.getpid(), where, dict(connections.list_connections())[alias])
        return True


def renew(target: Target) -> None:
    """Gives the aliases of a target the token of a service that was started again."""
    for alias, (_, where, _) in list(_registered.items()):
        if isinstance(where, tuple) and where[0] == target:
            with suppress(Exception):  # the next use of the alias says why
                register(alias, target)


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


def no_orm() -> EngineError:
    """Returns the error for a pymilvus without the ORM."""
    import pymilvus

    return EngineError(
        f"pymilvus {pymilvus.__version__} has no ORM, so there is no 'index.collection': "
        "use 'index.client', a MilvusClient, or pymilvus < 3.1"
    )
