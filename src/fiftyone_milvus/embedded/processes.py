"""Which process serves a data directory, for messages when it does not answer."""

from __future__ import annotations

import json
import os
import socket
import struct
from pathlib import Path

import psutil

from fiftyone_milvus.embedded import files, paths
from fiftyone_milvus.embedded.service_file import ServiceFile

_CONNECT_SECONDS = 0.2
# Of struct ucred: pid, uid, gid
_CREDENTIALS = struct.Struct("3i")


def find(service: ServiceFile) -> int | None:
    """Returns the ID of the process that listens at a service's control address.

    It need not answer: on Linux, the system tells who listens on a unix socket. Elsewhere, it is
    the process that the service wrote into the runtime directory.

    Args:
        service: where it should answer

    Returns:
        None if nothing listens there, or if that is not known
    """
    if hasattr(socket, "SO_PEERCRED") and service.milvus.startswith("unix:"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_CONNECT_SECONDS)
            try:
                connection.connect(service.control)
                found = connection.getsockopt(
                    socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
                )
                return int(_CREDENTIALS.unpack(found)[0]) or None
            except (BlockingIOError, TimeoutError):
                pass  # too many wait for it already
            except OSError:
                return None
    return _recorded(service)


def _recorded(service: ServiceFile) -> int | None:
    try:
        pointer = paths.runtime_directory() / f"{service.id}.json"
        pid = int(json.loads(files.read(pointer))["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid if psutil.pid_exists(pid) else None


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped (``SIGSTOP``, Ctrl-Z, a debugger)."""
    try:
        return bool(psutil.Process(pid).status() in (psutil.STATUS_STOPPED, "tracing-stop"))
    except psutil.Error:
        return False


def lock_holder(file: Path) -> int | None:
    """Returns the ID of the process that holds a file's lock; None if that is not known.

    Args:
        file: the lock, of a data directory
    """
    try:
        inode = str(file.stat().st_ino)
        lines = Path("/proc/locks").read_text("ascii").splitlines()
    except (OSError, ValueError):
        return None
    # 1: FLOCK ADVISORY WRITE <pid> <major>:<minor>:<inode> ...; "->" where another one waits
    locks = [line.split() for line in lines if "->" not in line]
    pids = [int(words[4]) for words in locks if words[5].rpartition(":")[2] == inode]
    return next((pid for pid in pids if _has_open(pid, file)), None)


def _has_open(pid: int, file: Path) -> bool:
    try:
        return any(os.path.samefile(fd, file) for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # it ended, or closed a file meanwhile
        return False


def is_service(pid: int) -> bool:
    """Whether a process is a service of this package."""
    try:
        command = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    return "--path" in command and any("fiftyone_milvus" in word for word in command)


def describe(service: ServiceFile) -> str:
    """Returns who a caller waits for, and what to do, in a few words.

    Args:
        service: where it should answer
    """
    pid = find(service)
    if pid is None:
        return f"see '{Path(service.path) / paths.LOG}'"
    if is_stopped(pid):
        return (
            f"process {pid} is stopped: 'kill -CONT {pid}' lets it go on, 'kill -9 {pid}' ends it"
        )
    return f"process {pid} is busy or hangs: wait, or end it with 'kill -9 {pid}'"
