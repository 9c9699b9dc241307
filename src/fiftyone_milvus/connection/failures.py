"""Translates the exceptions of pymilvus and gRPC into those of this package."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fiftyone_milvus import embedded
from fiftyone_milvus.connection.diagnosis import diagnose
from fiftyone_milvus.connection.target import Target
from fiftyone_milvus.errors import (
    AuthenticationError,
    CollectionDamagedError,
    CollectionNotFoundError,
    DatabaseNotFoundError,
    EmbeddedServiceError,
    EngineError,
    FiftyOneMilvusError,
    NotLoadedError,
    PermissionDeniedError,
    UnreachableError,
)

_CONNECT_FAILED = 2
_RATE_LIMIT, _QUOTA_EXCEEDED = 8, 9
_COLLECTION_NOT_FOUND = 100
_NOT_LOADED = frozenset({101, 103})
_DATABASE_NOT_FOUND = 800
_NOT_AUTHENTICATED, _PRIVILEGE_NOT_PERMITTED = 1400, 1401

# Too many requests, time tick delayed, resources short, collection recovering, replica, channel and
# nodes not available: https://github.com/milvus-io/milvus/blob/master/pkg/util/merr/errors.go
_BUSY_CODES = frozenset({4, _RATE_LIMIT, 11, 12, 106, 401, 503, 902, 903, 904, 905})
_BUSY = (
    "service not ready", "find no available", "is not ready", "channel not available",
    "node offline", "node not match", "time tick long delay", "leader changed", "no leader",
)  # fmt: skip
_DISK_FULL = "no space left on device"
# Milvus Lite, and servers
_RELEASED = ("call load() before", "collection not loaded", "not fully loaded")
_DAMAGED = re.compile(r"^(collection|database) '.*' is damaged: ")
_NO_DATABASE = re.compile(r"database not found|^database '[^']*' does not exist$")
_CLOSED = ("closed channel", "should create connection first")
_LIMIT = 600

Explained = tuple[type[FiftyOneMilvusError], str]


class Failure:
    """A failed call, from the causes and contexts that pymilvus chains.

    Attributes:
        status: the name of gRPC's status code, or None if Milvus itself refused
        code: Milvus' error code, or None
        message: one line, from Milvus or gRPC
        closed: whether the client was closed
        retriable: whether Milvus says that the same call may succeed
    """

    def __init__(self, error: BaseException) -> None:
        import grpc
        from pymilvus.exceptions import MilvusException

        self.status: str | None = None
        self.code: int | None = None
        self.message = ""
        self.closed = False
        self.retriable = False
        for link in _chain(error):
            if isinstance(link, grpc.RpcError) and hasattr(link, "code"):
                if self.status is None:
                    self.status = link.code().name
                    self.message = link.details() or self.message
            elif isinstance(link, MilvusException):
                if isinstance(link.code, int) and self.code is None:
                    self.code = link.code
                    self.retriable = bool(getattr(link, "retriable", False))
                self.message = self.message or str(link.message)
            if any(words in str(link) for words in _CLOSED):
                self.closed = True
        self.message = _one_line(self.message or str(error) or type(error).__name__)

    @property
    def unauthenticated(self) -> bool:
        """Whether the credentials are missing or wrong."""
        return (
            self.status == "UNAUTHENTICATED"
            or self.code == _NOT_AUTHENTICATED
            or "auth check failure" in self.message.lower()
        )

    @property
    def unreachable(self) -> bool:
        """Whether there was no answer."""
        if self.status is not None:
            return self.status == "UNAVAILABLE"
        return self.closed or self.code == _CONNECT_FAILED

    @property
    def busy(self) -> bool:
        """Whether Milvus can't do it now: it starts, recovers, or limits the rate."""
        return self.status is None and (
            self.retriable
            or self.code in _BUSY_CODES
            or any(words in self.message.lower() for words in _BUSY)
        )

    @property
    def transient(self) -> bool:
        """Whether the same call may soon succeed."""
        return self.unreachable or self.busy


def describe(error: BaseException, target: Target) -> str:
    """Returns in a few words why a call is retried."""
    failure = Failure(error)
    where = f"The service of {target.address}" if target.path else f"Milvus at {target.address}"
    if failure.unreachable:
        return f"{where} does not answer"
    return _redact(f"{where} is not ready ({failure.message})", target)


def translate(
    error: BaseException, target: Target, *, timeout: float | None = None, probe: bool = True
) -> FiftyOneMilvusError:
    """Returns the error to raise for what a call of pymilvus raised.

    Args:
        error: what was raised
        target: the Milvus that was called
        timeout: the seconds that the call was given, for the message
        probe: whether to open a socket to find out why a server is unreachable

    Returns:
        an error whose message is one line, with the address and the remedy, without secrets
    """
    if isinstance(error, FiftyOneMilvusError):
        return error
    kind, message = _explain(Failure(error), target, timeout, probe)
    return kind(_redact(message, target))


def _explain(failure: Failure, target: Target, timeout: float | None, probe: bool) -> Explained:
    status, code, said = failure.status, failure.code, failure.message
    lower = said.lower()
    where = f"Milvus at {target.address}"

    if _DAMAGED.match(said):
        return CollectionDamagedError, said[0].upper() + said[1:]
    if failure.unauthenticated:
        return _unauthenticated(target)
    if (
        status == "PERMISSION_DENIED"
        or code == _PRIVILEGE_NOT_PERMITTED
        or "permission deny" in lower
        or "privilege not permitted" in lower
    ):
        user = _user(target)
        who = f"user '{user}'" if user else "this user"
        privilege = re.search(r"Privilege(\w+)", said)
        what = f" the privilege '{privilege.group(1)}'" if privilege else " a privilege"
        return PermissionDeniedError, (
            f"{where}: {who} lacks{what}; ask its administrator to grant it ({said})"
        )
    if code == _DATABASE_NOT_FOUND or _NO_DATABASE.search(lower):
        name = target.settings.db_name or "default"
        return DatabaseNotFoundError, (
            f"{where} has no database '{name}': create it first, or check 'db_name'"
        )
    if code == _COLLECTION_NOT_FOUND and "collection" in lower:
        return CollectionNotFoundError, (
            f"{where} has no such collection (any more): {said}; compute the index again"
        )
    if failure.unreachable or status == "DEADLINE_EXCEEDED":
        return _no_answer(failure, target, timeout, probe)
    if code in _NOT_LOADED or any(words in lower for words in _RELEASED):
        return NotLoadedError, f"{where} refused: {said}"
    if failure.busy:
        return UnreachableError, f"{where} is not ready: {said}; try again in a moment"
    if status == "UNIMPLEMENTED":
        return EngineError, f"{where} does not offer this operation: {said}; use a newer Milvus"
    if code == _QUOTA_EXCEEDED:
        return EngineError, (
            f"{where} refuses more: {said}; give it memory or disk, or raise its quota, and repeat "
            "the call"
        )
    if _DISK_FULL in lower:
        return EngineError, f"{where} has a full disk: {said}; free some, then repeat the call"
    if status == "RESOURCE_EXHAUSTED":
        return EngineError, f"{where} refuses a message of this size: {said}; send less at once"
    return EngineError, f"{where} refused: {said}"


def _unauthenticated(target: Target) -> Explained:
    settings = target.settings
    if target.path is not None:
        return EmbeddedServiceError, (
            f"The service of {target.address} refuses this process' token: "
            "run 'fiftyone-milvus stop' and try again"
        )
    if settings.token:
        problem = "refuses the token: check 'token'"
    elif settings.user:
        problem = f"refuses user '{settings.user}' with this password: check 'user' and 'password'"
    else:
        problem = "requires credentials: pass 'user' and 'password', or 'token'"
    return AuthenticationError, f"Milvus at {target.address} {problem}"


def _no_answer(failure: Failure, target: Target, timeout: float | None, probe: bool) -> Explained:
    if target.path is not None:
        if "waited too long for" in failure.message:
            return (
                EmbeddedServiceError,
                f"The service of {target.address} is busy: {failure.message}",
            )
        where = f"The service of {target.address}"
        if failure.status == "DEADLINE_EXCEEDED":
            return EmbeddedServiceError, (
                f"{where} did not answer{_within(timeout)}; {embedded.holder(target.path)}; or "
                "raise 'timeout'"
            )
        return EmbeddedServiceError, (
            f"{where} does not answer ({failure.message}); {embedded.holder(target.path)}"
        )
    if probe and (problem := diagnose(target)) is not None:
        return type(problem), str(problem)
    where = f"Milvus at {target.address}"
    if failure.status == "DEADLINE_EXCEEDED":
        return UnreachableError, (
            f"{where} did not answer{_within(timeout)}: check that it is Milvus, or raise 'timeout'"
        )
    return UnreachableError, (
        f"{where} did not answer ({failure.message}): check that Milvus is running there"
    )


def _within(timeout: float | None) -> str:
    return f" within {timeout:g} s" if timeout is not None else " in time"


def _user(target: Target) -> str | None:
    token = target.settings.token
    if token:
        return token.split(":", 1)[0] if ":" in token else None
    return target.settings.user


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and all its causes and contexts once; pymilvus ties them into circles."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop(0)
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            yield link
            waiting += [link.__cause__, link.__context__]


def _one_line(text: str) -> str:
    text = text.split("stack trace:", 1)[0]
    text = " ".join(text.split()).rstrip(" :,")
    return text if len(text) <= _LIMIT else f"{text[: _LIMIT - 3]}..."


def _redact(message: str, target: Target) -> str:
    # An engine may quote what it was sent, secrets included
    for secret in target.settings.secrets:
        if len(secret) >= 4:
            message = message.replace(secret, "***")
    return message
