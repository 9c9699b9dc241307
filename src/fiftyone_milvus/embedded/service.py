"""The service process: opens the data directory, serves it, and ends in order."""

from __future__ import annotations

import contextlib
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
from fiftyone_milvus.embedded import logs, paths
from fiftyone_milvus.embedded import service_file as identities
from fiftyone_milvus.embedded.control import Control
from fiftyone_milvus.embedded.database import count_collections, open_database
from fiftyone_milvus.embedded.executor import build_servicer
from fiftyone_milvus.embedded.interceptors import (
    ActivityInterceptor,
    LockingInterceptor,
    SpaceInterceptor,
    TokenInterceptor,
)
from fiftyone_milvus.embedded.lifetime import Activity, Lifetime
from fiftyone_milvus.embedded.service_file import Identity

logger = logging.getLogger(__name__)

# What Milvus Lite's own server and Milvus standalone take.
_MESSAGE_BYTES = 256 << 20

# Requests wait for locks in these threads: enough that a long write does not starve the rest.
_THREADS = 64

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
    """One data directory, served.

    Args:
        path: the resolved data directory
        lifetime: when to end

    Raises:
        EmbeddedServiceError: if the directory can't be opened
        OSError: if the addresses can't be had
    """

    def __init__(self, path: Path, lifetime: Lifetime) -> None:
        self._path = path
        self._lifetime = lifetime
        self._ended = threading.Event()
        self._activity = Activity()
        self._began = time.monotonic()
        self._files: list[Path] = []
        self._database = open_database(path)
        try:
            self._listen(identities.load_or_create(path))
        except BaseException:
            self._database.close()
            self._remove_files()
            raise

    def _listen(self, identity: Identity) -> None:
        servicer = build_servicer(self._database)
        self._server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="request"),
            interceptors=[
                TokenInterceptor(identity.token),
                ActivityInterceptor(self._activity),
                LockingInterceptor(servicer, self._database),
                SpaceInterceptor(self._path, self._database),
            ],
            options=_OPTIONS,
        )
        milvus_pb2_grpc.add_MilvusServiceServicer_to_server(servicer, self._server)
        pointer = paths.runtime_directory() / f"{identity.id}.json"
        sockets: list[Path] = []
        if identity.milvus.startswith("unix:"):
            sockets = [Path(identity.milvus[len("unix:") :]), Path(identity.control)]
        self._files = [pointer, *sockets]
        milvus = self._bind(identity.milvus)
        self._server.start()
        self._control = Control(
            identity.control, identity.token, self._activity, self._status, self.end
        )
        self.identity = Identity(
            identity.id, identity.path, identity.token, milvus, self._control.address
        )
        identities.save(self.identity)
        self._identity_file = _inode(self._path / paths.IDENTITY)
        with contextlib.suppress(OSError):  # on a full disk, only the list of services lacks it
            pointer.write_text(json.dumps({"path": str(self._path)}), "utf-8")
        for socket in sockets:
            socket.chmod(0o600)

    def _bind(self, address: str) -> str:
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError:
            if address.startswith("unix:"):
                raise
            port = self._server.add_insecure_port("127.0.0.1:0")  # it is somebody else's by now
        return address if address.startswith("unix:") else f"127.0.0.1:{port}"

    def end(self) -> None:
        """Asks the service to end; returns at once."""
        self._ended.set()

    def run(self) -> None:
        """Serves until it is asked to end or nobody needs it, then ends in order."""
        seconds = [1.0, self._lifetime.idle_seconds / 4, self._lifetime.grace_seconds / 4]
        interval = max(0.05, min(value for value in seconds if value > 0))
        while not self._ended.wait(interval):
            if _inode(self._path / paths.IDENTITY) != self._identity_file:
                self._abandon()
                return
            if reason := self._activity.reason_to_end(self._lifetime):
                logger.info("ending: %s", reason)
                break
            logs.bound(self._path)
        self._close()

    def _close(self) -> None:
        # Clients learn it first, so that whoever comes from now on waits for the end and starts
        # the next service, rather than running into this one's closed door.
        self._control.detach_all()
        self._server.stop(_REQUESTS_SECONDS).wait(_REQUESTS_SECONDS + 1)

        # Closing waits for a running index build, which can take minutes. Nothing is lost without
        # it: what was acknowledged is in the log, as after a crash.
        closing = threading.Thread(target=self._database.close, daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)
        if closing.is_alive():
            logger.warning("an index build was still running; it is done again when needed")
        self._remove_files()
        logger.info("ended")
        self._control.close()

    def _abandon(self) -> None:
        # Moved or deleted: closing would write into a directory that is not ours any more.
        logger.warning("'%s' was moved or deleted; ending", self._path)
        self._control.detach_all()
        self._server.stop(0).wait(1)
        self._remove_files()

    def _remove_files(self) -> None:
        for file in self._files:
            with contextlib.suppress(OSError):
                file.unlink()

    def _status(self) -> dict[str, Any]:
        return {
            "address": self.identity.address,
            "uptime_seconds": round(time.monotonic() - self._began, 3),
            "idle_seconds": round(self._activity.idle_seconds(), 3),
            "clients": self._activity.clients,
            "collections": count_collections(self._database),
            "version": __version__,
            "milvus_lite_version": milvus_lite.__version__,
            "rss_bytes": _resident_bytes(),
        }


def serve(path: Path, lifetime: Lifetime, announce: Callable[[dict[str, Any]], None]) -> None:
    """Serves a data directory in this process until it ends.

    Args:
        path: the resolved data directory
        lifetime: when to end
        announce: told once that the service is ready
    """
    service = Service(path, lifetime)
    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: service.end())
    logger.info("serving '%s' at %s", path, service.identity.address)
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
