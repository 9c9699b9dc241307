"""Connections to Milvus, shared by all indexes at the same address."""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from fiftyone_milvus import embedded
from fiftyone_milvus.connection import orm, slow_calls
from fiftyone_milvus.connection.client import channels_are_watched, open_client
from fiftyone_milvus.connection.failures import Failure, describe, translate
from fiftyone_milvus.connection.quiet_logs import quiet
from fiftyone_milvus.connection.retries import RETRY_SECONDS, Retry
from fiftyone_milvus.connection.target import ENGINE_NAMES, Target
from fiftyone_milvus.errors import FiftyOneMilvusError

T = TypeVar("T")

_MIB = 1 << 20
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-(\w+))?\Z")
_SERVER_WINDOW = 16384
_LITE_INDEX_TYPES = ("FLAT", "BRUTE_FORCE", "HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8", "AUTOINDEX")
_OUR_INDEX_TYPES = ("IVF_RABITQ",)
"""Those that the service has beside Milvus Lite's."""


@dataclass(frozen=True)
class Engine:
    """What a Milvus can do.

    Attributes:
        lite: whether it is Milvus Lite
        version: the version that it reports
        max_window: the largest ``limit``, and number of queries in a search; None is unlimited
        max_message_bytes: the size that a request or response must stay below
        index_types: the vector indexes it offers; None if they are not known
    """

    lite: bool
    version: str
    max_window: int | None
    max_message_bytes: int
    index_types: tuple[str, ...] | None

    @property
    def title(self) -> str:
        """The name and version, for messages."""
        return f"{ENGINE_NAMES['embedded' if self.lite else 'server']} {self.version}"

    @property
    def release(self) -> tuple[int, int, int] | None:
        """The version in numbers; None if it is not one of Milvus, as on Zilliz Cloud."""
        found = _VERSION.match(self.version)
        return (int(found[1]), int(found[2]), int(found[3])) if found else None

    @property
    def build(self) -> str | None:
        """The build: ``"gpu"``, ``"lite"`` for the one on PyPI, else ``""``; None if unknown."""
        found = _VERSION.match(self.version)
        return found[4] or "" if found else None


def plain_version(reported: str) -> str:
    """Returns the version that a Milvus reports, without a prefix."""
    return reported.removeprefix("milvus_lite-").removeprefix("v")


class Connection:
    """A connection to a target, shared by every index there.

    It opens when it is first used. A forked process opens its own.

    Args:
        target: where Milvus is
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self._lock = threading.RLock()
        self._client: Any = None
        self._pid = 0
        self._opened_before = False
        self._endpoint: embedded.Endpoint | None = None  # of the embedded engine's service
        self._retired: Any = None
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
        """What the engine can do, from one request."""
        if self._engine is None:
            version = str(self.run(lambda client: client.get_server_version(timeout=RETRY_SECONDS)))
            lite = version.startswith("milvus_lite")
            # Somebody may serve a plain Milvus Lite
            ours = _OUR_INDEX_TYPES if self.target.deployment == "embedded" else ()
            self._engine = Engine(
                lite=lite,
                version=plain_version(version),
                max_window=None if lite else _SERVER_WINDOW,
                max_message_bytes=(256 if lite else 64) * _MIB,
                index_types=(*_LITE_INDEX_TYPES, *ours) if lite else None,
            )
        return self._engine

    def run(
        self,
        operation: Callable[[Any], T],
        *,
        timeout: float | None = None,
        retry: float | Retry = RETRY_SECONDS,
    ) -> T:
        """Calls Milvus, and retries after a transient error.

        Before a retry, the embedded engine's service is started again if necessary. A server that
        has never answered is not asked again.

        Args:
            operation: is called with the ``MilvusClient``, maybe several times; the call before a
                retry may have succeeded
            timeout: the seconds that ``operation`` gives pymilvus, for the error's message; those
                of a :class:`Request` by default
            retry: for how many seconds to retry, or a :class:`Retry`. The default is another one
                within :func:`default_retry`

        Returns:
            what ``operation`` returns

        Raises:
            FiftyOneMilvusError: one line for whatever pymilvus or gRPC raised
        """
        if retry == RETRY_SECONDS:
            retry = _default_retry.get() or retry
        reported = isinstance(retry, Retry) and retry.on_wait is not None
        attempt = _Attempt(self, operation, reported=reported)
        try:
            return attempt()
        except Exception as error:
            problem = error
        if attempt.transient(problem):
            if not isinstance(retry, Retry):
                retry = Retry(retry)
            retrying = retry.retrying(
                attempt.transient, attempt.prepare, lambda e: describe(e, self.target)
            )
            try:
                # Before the clock starts: a service may take longer to start than the retries
                attempt.prepare()
                if self.target.path is not None and retry.seconds <= RETRY_SECONDS:
                    embedded.check(self.target.path)
                return retrying(attempt)
            except Exception as error:
                problem = error
        if isinstance(problem, FiftyOneMilvusError):
            raise problem
        timeout = timeout or getattr(operation, "timeout", None)
        raise translate(problem, self.target, timeout=timeout) from problem

    def register_orm(self) -> bool:
        """Makes this target the default of ``pymilvus.utility`` and the rest of the ORM.

        Hides the ORM's deprecation warnings in this process.

        Returns:
            False if pymilvus has no ORM, it takes no such address, or the user has set another
            default connection
        """
        if not (orm.available() and orm.takes(self.target)):
            return False
        return self._register(orm.default_alias())

    def collection(self, name: str) -> Any:
        """Returns the ORM's ``pymilvus.Collection``, for users; this package does not use it.

        Args:
            name: of an existing collection

        Raises:
            CollectionNotFoundError: if it does not exist
            EngineError: if this pymilvus has no ORM, or it takes no such address
        """
        if not (orm.available() and orm.takes(self.target)):
            raise orm.no_orm(self.target)
        digest = hashlib.sha256(repr(_key(self.target)).encode()).hexdigest()[:12]
        alias = f"fiftyone_milvus-{digest}"
        self.run(lambda client: client.describe_collection(name, timeout=RETRY_SECONDS))
        self._register(alias)
        self.register_orm()
        return self.run(lambda _: orm.collection(alias, name))

    def close(self) -> None:
        """Closes the client, if it is open; the next use opens another."""
        with self._lock:
            clients = self._client, self._retired
            self._client = self._retired = None
            if self._pid == os.getpid():
                self._close(clients)

    @staticmethod
    def _close(clients: Iterable[Any]) -> None:
        for client in clients:
            if client is not None:
                with quiet(), suppress(Exception):
                    client.close()

    def _register(self, alias: str) -> bool:
        try:
            return orm.register(alias, self.target)
        except Exception as error:
            raise translate(error, self.target) from error

    def _live(self) -> Any:
        """Returns the client of this process; raises what pymilvus raises."""
        if self._client is not None and self._pid == os.getpid() and self._current():
            return self._client
        with self._lock:
            if self._client is not None and self._pid != os.getpid():
                orm.inherited += [self._client, self._retired]
                self._client = self._retired = None
            if self._client is not None and not self._current():
                # Another program may listen at its address by now, and the token is not valid any
                # more. Other threads may still wait for an answer of the service that is ending
                self._close([self._retired])
                self._client, self._retired = None, self._client
            if self._client is None:
                if self.target.path is not None:
                    # Before: if it is restarted meanwhile, the client is replaced at its next use
                    self._endpoint = embedded.ensure(self.target.path)
                self._client = open_client(self.target)
                self._pid = os.getpid()
                if self.target.path is not None and self._opened_before:
                    orm.renew(self.target)
                self._opened_before = True
                if channels_are_watched():
                    _delay_forks(_FORK_DELAY)
            return self._client

    def _current(self) -> bool:
        """Returns whether the service that the client was opened for still runs."""
        return self._endpoint is None or embedded.is_current(self._endpoint)

    def _after_fork(self) -> None:
        # Another thread of the parent may have held it
        self._lock = threading.RLock()


class _Attempt(Generic[T]):
    """One call of Milvus, which can be retried.

    Args:
        connection: to the Milvus
        operation: what is called
        reported: whether the caller says itself that it waits for retries
    """

    def __init__(
        self, connection: Connection, operation: Callable[[Any], T], *, reported: bool
    ) -> None:
        self._connection = connection
        self._operation = operation
        self._reported = reported
        self._reopen = False

    def __call__(self) -> T:
        call = slow_calls.begin(self._connection.target, self._operation)
        try:
            client = self._connection._live()
            with quiet():
                return self._operation(client)
        finally:
            slow_calls.end(call)

    def transient(self, error: BaseException) -> bool:
        """Returns whether the same call may soon succeed, and may be made again."""
        if isinstance(error, FiftyOneMilvusError) or not isinstance(error, Exception):
            return False
        connection = self._connection
        failure = Failure(error)
        service_ended = connection.target.path is not None and (
            failure.unreachable or failure.unauthenticated
        )
        self._reopen = failure.closed or (service_ended and failure.unauthenticated)
        if not service_ended and failure.unreachable and not connection._opened_before:
            return False
        return service_ended or failure.transient

    def prepare(self) -> None:
        """Starts the service again if necessary, and closes a client that can't be used."""
        connection = self._connection
        if connection.target.path is not None:
            # Its client is replaced at the next use; other threads may be using it now
            self._ensure(connection.target.path)
        if self._reopen:
            connection.close()

    def _ensure(self, path: Path) -> embedded.Endpoint:
        if self._reported:
            return embedded.ensure(path)
        call = slow_calls.begin(self._connection.target, embedded.ensure)
        try:
            return embedded.ensure(path)
        finally:
            slow_calls.end(call)


_FORK_DELAY = 0.3
"""Seconds after pymilvus 2 opens a channel during which a fork would break gRPC.

A thread of gRPC, which wakes up every 0.2 s, watches the new channel. pymilvus 3 needs no such
thread, and no delay.
"""
_forks_from = 0.0

_pool: dict[tuple[object, ...], Connection] = {}
_pool_lock = threading.Lock()


_default_retry: ContextVar[Retry | None] = ContextVar("fiftyone-milvus-retry", default=None)


@contextmanager
def default_retry(retry: Retry) -> Iterator[None]:
    """Within it, the calls of this thread that take the default of :meth:`Connection.run` retry so.

    For work of many calls, each of which may be the first that Milvus does not answer.

    Args:
        retry: the default until then
    """
    token = _default_retry.set(retry)
    try:
        yield
    finally:
        _default_retry.reset(token)


def connect(target: Target) -> Connection:
    """Returns the connection to a target, which opens when it is first used.

    A process has one for each address, database, credentials and TLS files. A file that was
    modified counts as another.

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
    where = target.deployment, target.address, settings.db_name or "default"
    return *where, settings.login, settings.server_name, files


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _delay_forks(seconds: float) -> None:
    global _forks_from
    _forks_from = time.monotonic() + seconds


def _before_fork() -> None:
    time.sleep(max(0.0, _forks_from - time.monotonic()))


def _after_fork() -> None:
    global _pool_lock
    _pool_lock = threading.Lock()
    for connection in _pool.values():
        connection._after_fork()
    orm.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
atexit.register(close_all)
