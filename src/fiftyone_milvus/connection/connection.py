"""One pooled connection, and the one way to call Milvus through it."""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fiftyone_milvus import embedded
from fiftyone_milvus.connection import orm
from fiftyone_milvus.connection.client import open_client
from fiftyone_milvus.connection.failures import Failure, describe, translate
from fiftyone_milvus.connection.quiet_logs import quiet
from fiftyone_milvus.connection.retries import PATIENCE, Patience
from fiftyone_milvus.connection.target import Target
from fiftyone_milvus.errors import FiftyOneMilvusError

T = TypeVar("T")

_MIB = 1 << 20
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-(\w+))?\Z")
_SERVER_WINDOW = 16384
_LITE_INDEX_TYPES = ("FLAT", "BRUTE_FORCE", "HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8", "AUTOINDEX")


@dataclass(frozen=True)
class Engine:
    """What the Milvus at the other end can do.

    Attributes:
        lite: whether it is Milvus Lite
        version: as it reports it
        max_window: the largest ``limit``, and number of queries in a search; None is unlimited
        max_message_bytes: the largest request or response; stay below it
        index_types: the vector indexes it offers, or None if it has to be asked
    """

    lite: bool
    version: str
    max_window: int | None
    max_message_bytes: int
    index_types: tuple[str, ...] | None

    @property
    def title(self) -> str:
        """Its name and version, for messages."""
        return f"Milvus {'Lite ' * self.lite}{self.version}"

    @property
    def release(self) -> tuple[int, int, int] | None:
        """The numbers of its version; None if these are not Milvus' own, as on Zilliz Cloud."""
        found = _VERSION.match(self.version)
        return (int(found[1]), int(found[2]), int(found[3])) if found else None

    @property
    def build(self) -> str | None:
        """What it is built as: ``"gpu"``, ``"lite"`` for PyPI's, else ``""``; None if unknown."""
        found = _VERSION.match(self.version)
        return found[4] or "" if found else None


class Connection:
    """A live connection to a target, shared by every index there.

    Nothing is sent before the first use. A forked process gets a client of its own.

    Args:
        target: where Milvus is
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self._lock = threading.RLock()
        self._client: Any = None
        self._pid = 0
        self._proven = False
        self._address = ""  # of the embedded engine's service
        self._engine: Engine | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.target.deployment}: {self.target.address})"

    @property
    def client(self) -> Any:
        """The live ``pymilvus.MilvusClient``; opened on first use.

        Raises:
            ConnectionFailedError: if Milvus can't be reached or refuses
            EmbeddedServiceError: if the embedded engine can't start
        """
        return self.run(lambda client: client)

    @property
    def engine(self) -> Engine:
        """What the engine can do; asked once."""
        if self._engine is None:
            version = str(self.run(lambda client: client.get_server_version(timeout=PATIENCE)))
            lite = version.startswith("milvus_lite")
            self._engine = Engine(
                lite=lite,
                version=version.removeprefix("milvus_lite-").removeprefix("v"),
                max_window=None if lite else _SERVER_WINDOW,
                max_message_bytes=(256 if lite else 64) * _MIB,
                index_types=_LITE_INDEX_TYPES if lite else None,
            )
        return self._engine

    def run(
        self,
        operation: Callable[[Any], T],
        *,
        timeout: float | None = None,
        patience: float | Patience = PATIENCE,
    ) -> T:
        """Calls Milvus.

        What fails because Milvus is away for a moment is repeated: the embedded engine's service
        is started again, and a server that has answered before is given ``patience``. Whatever
        else fails is raised at once.

        Args:
            operation: is called with the ``MilvusClient``; may be called again, also when it may
                have been done
            timeout: the seconds that ``operation`` gives pymilvus, for the error's message
            patience: the seconds after which a failure that would pass is final, or more about
                that

        Returns:
            what ``operation`` returns

        Raises:
            FiftyOneMilvusError: one line for whatever pymilvus or gRPC raised
        """
        attempt = _Attempt(self, operation)
        try:
            return attempt()
        except Exception as error:
            problem = error
        if attempt.worth_repeating(problem):
            if not isinstance(patience, Patience):
                patience = Patience(patience)
            repeating = patience.repeating(
                attempt.worth_repeating, attempt.prepare, lambda e: describe(e, self.target)
            )
            try:
                # Before the clock starts: a service may take longer to start than our patience.
                attempt.prepare()
                return repeating(attempt)
            except Exception as error:
                problem = error
        if isinstance(problem, FiftyOneMilvusError):
            raise problem
        raise translate(problem, self.target, timeout=timeout) from problem

    def register_orm(self) -> bool:
        """Lets ``pymilvus.utility`` and other ORM calls without ``using=`` reach this target.

        Hides the ORM's deprecation warnings in this process.

        Returns:
            False if pymilvus has no ORM, or the user has a default connection of their own
        """
        return orm.available() and self._register(orm.default_alias())

    def collection(self, name: str) -> Any:
        """The ORM's ``pymilvus.Collection``, for users; we don't use it.

        Args:
            name: of an existing collection

        Raises:
            CollectionNotFoundError: if there is none
            EngineError: if this pymilvus has no ORM any more
        """
        if not orm.available():
            raise orm.no_orm()
        digest = hashlib.sha256(repr(_key(self.target)).encode()).hexdigest()[:12]
        alias = f"fiftyone_milvus-{digest}"
        self.run(lambda client: client.describe_collection(name, timeout=PATIENCE))
        self._register(alias)
        self.register_orm()
        return self.run(lambda _: orm.collection(alias, name))

    def close(self) -> None:
        """Closes the client, if any; the next use opens another. Twice is fine."""
        with self._lock:
            client, self._client = self._client, None
            if client is not None and self._pid == os.getpid():
                with quiet(), suppress(Exception):
                    client.close()

    def _register(self, alias: str) -> bool:
        try:
            return orm.register(alias, self.target)
        except Exception as error:
            raise translate(error, self.target) from error

    def _live(self) -> Any:
        """The client of this process; raises what pymilvus raises."""
        if self._client is not None and self._pid == os.getpid():
            return self._client
        with self._lock:
            if self._client is not None and self._pid != os.getpid():
                orm.inherited.append(self._client)
                self._client = None
            if self._client is None:
                self._client = open_client(self.target)
                self._pid = os.getpid()
                self._proven = True
                if self.target.path is not None:
                    self._address = embedded.ensure(self.target.path).address
                _settle_until(time.monotonic() + _SETTLING)
            return self._client

    def _after_fork(self) -> None:
        # Another thread of the parent may have held it.
        self._lock = threading.RLock()


class _Attempt(Generic[T]):
    """One call of Milvus, which can be repeated."""

    def __init__(self, connection: Connection, operation: Callable[[Any], T]) -> None:
        self._connection = connection
        self._operation = operation
        self._reopen = False

    def __call__(self) -> T:
        client = self._connection._live()
        with quiet():
            return self._operation(client)

    def worth_repeating(self, error: BaseException) -> bool:
        """Whether the same call may succeed in a moment, and may be made again."""
        if isinstance(error, FiftyOneMilvusError) or not isinstance(error, Exception):
            return False
        connection = self._connection
        failure = Failure(error)
        embedded_away = connection.target.path is not None and (
            failure.unreachable or failure.unauthenticated
        )
        self._reopen = failure.closed or (embedded_away and failure.unauthenticated)
        if not embedded_away and failure.unreachable and not connection._proven:
            return False
        return embedded_away or failure.transient

    def prepare(self) -> None:
        """Does what may help the next attempt."""
        connection = self._connection
        if connection.target.path is not None:
            # A directory that was deleted and made anew has another service at another address
            endpoint = embedded.ensure(connection.target.path)
            self._reopen = self._reopen or endpoint.address != connection._address
        if self._reopen:
            connection.close()


_SETTLING = 0.3
"""Seconds for which a thread of gRPC's, of 0.2 s each turn, watches a channel that opened.

A process that is forked meanwhile inherits a gRPC that hangs.
"""
_settled_at = 0.0

_pool: dict[tuple[object, ...], Connection] = {}
_pool_lock = threading.Lock()


def connect(target: Target) -> Connection:
    """The connection to a target.

    There is one for each address, database, credentials and TLS files (content included, by their
    modification times) in a process. Nothing is sent before its first use.

    Args:
        target: where Milvus is
    """
    key = _key(target)
    with _pool_lock:
        if key not in _pool:
            _pool[key] = Connection(target)
        return _pool[key]


def close_all() -> None:
    """Closes every connection of this process; they open again when used."""
    with _pool_lock:
        connections = list(_pool.values())
    for connection in connections:
        connection.close()
    orm.disconnect_all()


def _key(target: Target) -> tuple[object, ...]:
    settings = target.settings
    if target.path is not None:
        return target.deployment, target.address, settings.db_name or "default"
    files = tuple((name, path, _stamp(path)) for name, path in settings.tls_files.items())
    token = settings.token or (settings.user and f"{settings.user}:{settings.password}")
    database = settings.db_name or "default"
    return target.deployment, target.address, database, token, settings.server_name, files


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _settle_until(moment: float) -> None:
    global _settled_at
    _settled_at = moment


def _before_fork() -> None:
    time.sleep(max(0.0, _settled_at - time.monotonic()))


def _after_fork() -> None:
    global _pool_lock
    _pool_lock = threading.Lock()
    for connection in _pool.values():
        connection._after_fork()
    orm.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
atexit.register(close_all)
