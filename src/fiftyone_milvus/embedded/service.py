"""The service process: opens the data directory, serves it, and shuts down in order."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import milvus_lite
from pymilvus.grpc_gen import milvus_pb2_grpc

from fiftyone_milvus._version import __version__
from fiftyone_milvus.embedded import files, logs, paths, service_file
from fiftyone_milvus.embedded.control_server import Control
from fiftyone_milvus.embedded.database import count_collections, open_database
from fiftyone_milvus.embedded.executor import build_servicer
from fiftyone_milvus.embedded.interceptors import (
    ActivityInterceptor,
    LockingInterceptor,
    SpaceInterceptor,
    TokenInterceptor,
)
from fiftyone_milvus.embedded.lifetime import Activity, Lifetime
from fiftyone_milvus.embedded.self_test import choose_mode
from fiftyone_milvus.embedded.service_file import ServiceFile

logger = logging.getLogger(__name__)

# What Milvus Lite's own server and Milvus standalone take.
_MESSAGE_BYTES = 256 << 20

# Writes wait for each other in these threads: there must be enough for all other requests
# meanwhile. A thread is made when it is first needed.
_THREADS = 256

# Together less than the 30 s that a client waits for a service which is about to end.
_REQUESTS_SECONDS = 10.0
_CLOSE_SECONDS = 15.0

_OPTIONS = [
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    # With it, two processes could listen on one port.
    ("grpc.so_reuseport", 0),
    # pymilvus pings every 10 s, which gRPC servers take for abuse: they would hang up in the
    # middle of any request that takes longer, such as building an index.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
    ("grpc.http2.max_ping_strikes", 0),
]


class Service:
    """The service of one data directory.

    Args:
        path: the resolved data directory
        lifetime: when to end

    Raises:
        EmbeddedServiceError: if the directory can't be opened
        OSError: if the addresses can't be used
    """

    def __init__(self, path: Path, lifetime: Lifetime) -> None:
        self._path = path
        self._lifetime = lifetime
        self._ended = threading.Event()
        self._activity = Activity()
        self._began = time.monotonic()
        self._files: list[Path] = []
        self._database = open_database(path)
        # Before it can be seen, as who sees it may end it
        for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), lambda *_: self.end())
        try:
            self._listen(service_file.load_or_create(path))
        except BaseException:
            self._database.close()
            self._remove_files()
            raise

    def _listen(self, known: ServiceFile) -> None:
        servicer = build_servicer(self._database)
        locking = LockingInterceptor(servicer, self._database)
        self._idle = locking.idle
        self._server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="request"),
            interceptors=[
                TokenInterceptor(known.token),
                ActivityInterceptor(self._activity),
                locking,
                SpaceInterceptor(self._path, self._database),
            ],
            options=_OPTIONS,
        )
        milvus_pb2_grpc.add_MilvusServiceServicer_to_server(servicer, self._server)
        pointer = paths.runtime_directory() / f"{known.id}.json"
        sockets: list[Path] = []
        if known.milvus.startswith("unix:"):
            sockets = [Path(known.milvus.removeprefix("unix:")), Path(known.control)]
        self._files, self._sockets = [pointer, *sockets], sockets
        milvus = self._bind(known.milvus)
        self._server.start()
        self._control = Control(
            known.control, known.key, self._activity, self._status, self.end, self._verify
        )
        self.addresses = dataclasses.replace(known, milvus=milvus, control=self._control.address)
        service_file.save(self.addresses)
        self._inode = _inode(self._path / paths.SERVICE_FILE)
        self._pointer = pointer
        self._point()
        for socket in sockets:
            socket.chmod(0o600)

    def _point(self) -> None:
        """Lets the list of services find this one."""
        with contextlib.suppress(OSError):  # on a full disk, only the list lacks it
            text = json.dumps({"path": str(self._path), "pid": os.getpid()})
            files.write(self._pointer, text)

    def _bind(self, address: str) -> str:
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError:
            if address.startswith("unix:"):
                raise
            port = self._server.add_insecure_port("127.0.0.1:0")  # another program uses it by now
        return address if address.startswith("unix:") else f"127.0.0.1:{port}"

    def end(self) -> None:
        """Asks the service to end; returns at once."""
        self._ended.set()

    def run(self) -> None:
        """Serves until a client stops it or its lifetime is over, then shuts down in order."""
        seconds = [1.0, self._lifetime.idle_seconds / 4, self._lifetime.grace_seconds / 4]
        seconds.append(self._lifetime.close_seconds / 4)
        interval = max(0.05, min(value for value in seconds if value > 0))
        while not self._ended.wait(interval):
            if _inode(self._path / paths.SERVICE_FILE) != self._inode:
                self._abandon()
                return
            if not all(socket.exists() for socket in self._sockets):
                # By a cleaner of temporary files: no client can come any more. The next one finds
                # no service, and starts one that makes them again
                logger.warning("the sockets in '%s' were removed; ending", self._pointer.parent)
                self._files = []  # the next service's, from when this one has closed
                break
            if not self._pointer.exists():
                self._point()
            if reason := self._activity.reason_to_end(self._lifetime):
                logger.info("ending: %s", reason)
                break
            self._idle.close(self._lifetime.close_seconds)
            logs.bound(self._path)
        self._close()

    def _close(self) -> None:
        # Clients learn it first: those that come from now on wait for the end, and then start the
        # next service.
        self._control.detach_all()
        self._server.stop(_REQUESTS_SECONDS).wait(_REQUESTS_SECONDS + 1)

        # Closing waits for a running index build, which can take minutes. Without it nothing is
        # lost: acknowledged writes are in the log.
        closing = threading.Thread(target=self._database.close, daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)
        if closing.is_alive():
            logger.warning("an index build was still running; it is done again when needed")
        self._remove_files()
        logger.info("ended")
        self._control.close()

    def _abandon(self) -> None:
        # Closing would write into a directory that is not this service's any more.
        logger.warning("'%s' was moved or deleted; ending", self._path)
        self._control.detach_all()
        self._server.stop(0).wait(1)
        self._remove_files()

    def _remove_files(self) -> None:
        for file in self._files:
            with contextlib.suppress(OSError):
                file.unlink()

    def _status(self) -> dict[str, Any]:
        mode = choose_mode()
        return {
            "address": self.addresses.address,
            "uptime_seconds": round(time.monotonic() - self._began, 3),
            "idle_seconds": round(self._activity.idle_seconds(), 3),
            "clients": self._activity.clients,
            "collections": count_collections(self._database),
            "version": __version__,
            "milvus_lite_version": milvus_lite.__version__,
            "rss_bytes": _resident_bytes(),
            "mode": mode.name,
            "mode_reason": mode.reason,
            "unprotected": mode.unprotected,
        }

    def _verify(self) -> dict[str, Any]:
        found = [
            {"collection": folder.name, **dataclasses.asdict(damage)}
            for folder, damages in self._database.damages()
            for damage in damages
        ]
        return {"damages": found}


def serve(path: Path, lifetime: Lifetime, announce: Callable[[dict[str, Any]], None]) -> None:
    """Serves a data directory in this process until it ends.

    Args:
        path: the resolved data directory
        lifetime: when to end
        announce: called once, when the service is ready
    """
    service = Service(path, lifetime)
    logger.info("serving '%s' at %s", path, service.addresses.address)
    announce({"ready": os.getpid()})
    service.run()


def _inode(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _resident_bytes() -> int | None:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
