"""Find, start and stop services from any process of the user."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import filelock

from fiftyone_milvus.embedded import files, paths, processes, service_file
from fiftyone_milvus.embedded.control_client import Attachment, ask, attach
from fiftyone_milvus.embedded.launch import launch
from fiftyone_milvus.embedded.lifetime import Lifetime
from fiftyone_milvus.embedded.service_file import ServiceFile
from fiftyone_milvus.embedded.status import Endpoint, Status
from fiftyone_milvus.errors import EmbeddedServiceError

PathLike = str | os.PathLike[str]

_ANSWER_SECONDS = 5.0
_LIST_SECONDS = 2.0
_START_SECONDS = 30.0
_VERIFY_SECONDS = 600.0


class _Process:
    """The connections that this process keeps open, and a lock for each data directory."""

    def __init__(self) -> None:
        self.attachments: dict[Path, Attachment] = {}
        self._guard = threading.Lock()
        self._locks: dict[Path, threading.Lock] = {}

    def lock(self, path: Path) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(path, threading.Lock())

    def drop(self, path: Path) -> None:
        if (attachment := self.attachments.pop(path, None)) is not None:
            attachment.close()

    def endpoint(self, path: Path) -> Endpoint | None:
        attachment = self.attachments.get(path)
        return attachment.endpoint if attachment is not None and attachment.is_alive() else None


_process = _Process()


def _after_fork() -> None:
    # The child's copies would keep the parent's connections open after the parent has died, and
    # the parent's locks may have been held by threads that the child does not have.
    global _process
    inherited, _process = _process.attachments, _Process()
    for attachment in inherited.values():
        attachment.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def ensure(
    path: PathLike, *, timeout: float = _START_SECONDS, lifetime: Lifetime | None = None
) -> Endpoint:
    """Finds the service of a data directory, or starts it.

    From then on, this process is attached to the service, which does not end while it has
    clients.

    Args:
        path: the data directory; created if there is none
        timeout: seconds to wait until it answers
        lifetime: when a service that is started here ends itself; by default what
            ``$FIFTYONE_MILVUS_IDLE_SECONDS`` (600), ``$FIFTYONE_MILVUS_GRACE_SECONDS`` (5) and
            ``$FIFTYONE_MILVUS_CLOSE_SECONDS`` (300) say

    Returns:
        where it answers, and the token, which is another one when the service was restarted

    Raises:
        EmbeddedServiceError: if it can't be started, or does not answer in time
    """
    resolved = paths.resolve(path)
    if (endpoint := _process.endpoint(resolved)) is not None:
        return endpoint
    with _process.lock(resolved):
        if (endpoint := _process.endpoint(resolved)) is not None:
            return endpoint
        _process.drop(resolved)
        deadline = time.monotonic() + timeout
        attachment = attach(resolved, deadline) or _start(resolved, deadline, lifetime)
        _process.attachments[resolved] = attachment
        return attachment.endpoint


def is_current(endpoint: Endpoint) -> bool:
    """Whether the service at an endpoint still runs, without asking it."""
    return _process.endpoint(endpoint.path) == endpoint


def holder(path: PathLike) -> str:
    """Returns which process serves a data directory, and what to do if it does not answer.

    Args:
        path: the data directory

    Returns:
        a few words, for the end of a message
    """
    resolved = paths.resolve(path)
    service = service_file.load(resolved)
    return "it is not ready yet" if service is None else processes.describe(service)


def check(path: PathLike) -> None:
    """Checks that the service that this process is attached to has not been stopped.

    Args:
        path: the data directory

    Raises:
        EmbeddedServiceError: if its process gets no processor time (``SIGSTOP``, Ctrl-Z)
    """
    endpoint = _process.endpoint(paths.resolve(path))
    if endpoint is not None and processes.is_stopped(endpoint.pid):
        raise EmbeddedServiceError(
            f"the Milvus Lite service of '{endpoint.path}' does not answer; {holder(path)}"
        )


def status(path: PathLike, *, timeout: float = _ANSWER_SECONDS) -> Status | None:
    """Returns the status of the service of a data directory.

    Args:
        path: the data directory
        timeout: seconds to wait for its answer

    Returns:
        None if no service runs

    Raises:
        EmbeddedServiceError: if one runs that does not answer
    """
    resolved = paths.resolve(path)
    reply = ask(resolved, "status", timeout)
    if reply is None or "address" not in reply:
        return None
    # A service of another version of this package may tell more
    known = {field.name for field in dataclasses.fields(Status)}
    return Status(path=resolved, **{n: v for n, v in reply.items() if n in known})


def stop(path: PathLike, *, timeout: float = _START_SECONDS) -> bool:
    """Stops the service of a data directory: its requests end, then its data is flushed.

    Args:
        path: the data directory
        timeout: seconds to wait until it has ended

    Returns:
        False if no service ran

    Raises:
        EmbeddedServiceError: if it has not ended in time
    """
    resolved = paths.resolve(path)
    deadline = time.monotonic() + timeout
    reply = ask(resolved, "stop", min(timeout, _ANSWER_SECONDS))
    if reply is None:
        return False
    ended = reply["pid"]
    while reply is not None and reply["pid"] == ended:
        if time.monotonic() >= deadline:
            raise EmbeddedServiceError(
                f"the Milvus Lite service of '{resolved}' (process {ended}) has not ended within "
                f"{timeout:g} s; wait, or end it with 'kill -9 {ended}', which loses nothing that "
                "was acknowledged"
            )
        time.sleep(0.02)
        reply = ask(resolved, "ping", _ANSWER_SECONDS)
    return True


def serve(
    path: PathLike,
    *,
    idle_seconds: float = 0,
    grace_seconds: float = -1,
    foreground: bool = True,
    timeout: float = _START_SECONDS,
) -> None:
    """Starts the service of a data directory, for all processes of the user.

    Args:
        path: the data directory; created if there is none
        idle_seconds: how long without a request until it ends itself; 0 for never
        grace_seconds: how long after its last client process until it ends itself; negative for
            never
        foreground: whether to stay until it ends, with its log on standard error
        timeout: seconds to wait until it answers

    Raises:
        EmbeddedServiceError: if it runs already, or can't be started
    """
    resolved = paths.resolve(path)
    deadline = time.monotonic() + timeout
    with _start_lock(resolved, deadline):
        if (running := status(resolved)) is not None:
            raise EmbeddedServiceError(
                f"'{resolved}' is served already, by process {running.pid}; stop it first with "
                f"'fiftyone-milvus stop'"
            )
        lifetime = Lifetime(idle_seconds, grace_seconds)
        process = launch(resolved, lifetime, deadline - time.monotonic(), detach=not foreground)
    while foreground:
        # Ctrl-C reaches the service too, which then ends in order.
        with contextlib.suppress(KeyboardInterrupt):
            process.wait()
            return


def verify(path: PathLike) -> list[dict[str, str]] | None:
    """Verifies all files of a data directory; its service reads them, and is started if need be.

    Args:
        path: the data directory

    Returns:
        for each damaged file, a dict with the ``collection``, the ``file`` in the collection's
        folder, ``what`` is wrong with it and what it ``affects``; None if the service that runs is
        of an earlier version, which can't verify

    Raises:
        EmbeddedServiceError: if the service can't be started, or does not answer within 10 minutes
    """
    ensure(path)
    reply = ask(paths.resolve(path), "verify", _VERIFY_SECONDS)
    return None if reply is None else reply.get("damages")


def repair(path: PathLike) -> list[Any]:
    """Repairs the damaged collections of a data directory; its service is stopped meanwhile.

    What is intact is brought back. What is damaged is moved into the folder ``quarantine`` of the
    collection's folder. The keys of rows that are missing then are in its file ``lost.txt``, as far
    as they are known.

    Args:
        path: the data directory

    Returns:
        a :class:`fiftyone_milvus.embedded.storage.repair.Repair` for each damaged collection

    Raises:
        EmbeddedServiceError: if there is no such directory, or a program has it open
    """
    from fiftyone_milvus.embedded.database import open_database

    resolved = paths.resolve(path)
    if not (resolved / "collections").is_dir():
        raise EmbeddedServiceError(
            f"'{resolved}' is not a data directory of the embedded engine: there is nothing to "
            "repair; check the path"
        )
    deadline = time.monotonic() + _START_SECONDS
    with _start_lock(resolved, deadline):
        stop(resolved)
        database = open_database(resolved)
        try:
            return database.repair()
        finally:
            database.close()


def list_services() -> list[Status]:
    """Every running service of this user, by path.

    One that does not answer within two seconds is among them; its ``error`` says why.

    Services whose sockets are in another runtime directory (``$FIFTYONE_MILVUS_RUNTIME_DIR``,
    ``$TMPDIR``) are not among them.
    """
    known_services = []
    for pointer in sorted(paths.runtime_directory().glob("*.json")):
        try:
            path = Path(json.loads(files.read(pointer))["path"])
            known = service_file.load(path)
        except (OSError, ValueError, KeyError, TypeError):  # also what is not this user's
            continue
        if known is None or known.id != pointer.stem:
            for suffix in (".json", ".sock", ".control"):
                with contextlib.suppress(OSError):
                    pointer.with_suffix(suffix).unlink()
            continue
        known_services.append(known)
    if not known_services:
        return []
    # Each in a thread: one that does not answer must not hold up the others
    with ThreadPoolExecutor(min(len(known_services), 16)) as pool:
        found = [state for state in pool.map(_state, known_services) if state is not None]
    return sorted(found, key=lambda state: state.path)


def _state(service: ServiceFile) -> Status | None:
    path = Path(service.path)
    try:
        return status(path, timeout=_LIST_SECONDS)
    except EmbeddedServiceError:
        pid = processes.find(service)
        error = f"does not answer; {processes.describe(service)}"
        return None if pid is None else Status.silent(path, pid, service.address, error)


def _start(path: Path, deadline: float, lifetime: Lifetime | None) -> Attachment:
    lifetime = lifetime or Lifetime.from_environment()
    with _start_lock(path, deadline):
        attachment = attach(path, deadline)  # another process may have been first
        if attachment is None:
            try:
                launch(path, lifetime, deadline - time.monotonic(), detach=True)
            except EmbeddedServiceError as error:
                if f"locked by process {os.getpid()}:" in str(error):
                    raise EmbeddedServiceError(
                        f"'{path}' is open in this process, by a MilvusClient('{path}'); close "
                        "that, and call milvus_lite.server_manager.server_manager_instance."
                        f"release_server('{path}'), which MilvusClient.close() does not do"
                    ) from error
                raise
            attachment = attach(path, deadline)
    if attachment is None:
        raise EmbeddedServiceError(
            f"the Milvus Lite service of '{path}' ended right after it had started; see "
            f"'{path / paths.LOG}'"
        )
    return attachment


@contextlib.contextmanager
def _start_lock(path: Path, deadline: float) -> Iterator[Any]:
    paths.prepare(path)
    try:
        os.close(files.open_own(path / paths.START_LOCK, os.O_RDWR | os.O_CREAT))
    except OSError as error:
        raise paths.unusable(path, error) from error
    lock = filelock.FileLock(path / paths.START_LOCK, mode=0o600)
    try:
        held = lock.acquire(timeout=max(deadline - time.monotonic(), 0.0), poll_interval=0.02)
    except filelock.Timeout:
        pid = processes.lock_holder(path / paths.START_LOCK)
        who = "another process" if pid is None else f"process {pid}"
        raise EmbeddedServiceError(
            f"{who} has been starting the Milvus Lite service of '{path}' for too long; try again, "
            "or end that process"
        ) from None
    except OSError as error:
        raise paths.unusable(path, error) from error
    with held:
        yield
