"""What the embedded engine tells about a service."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """Where a running service answers.

    Attributes:
        address: what ``MilvusClient`` takes as its ``uri``: ``unix:<socket>``, or
            ``http://127.0.0.1:<port>`` where there are no unix sockets
        token: the secret that ``MilvusClient`` takes as its ``token``
        pid: the service's process ID
        path: the data directory
    """

    address: str
    token: str = dataclasses.field(repr=False)
    pid: int
    path: Path


@dataclasses.dataclass(frozen=True)
class Status:
    """How a running service is doing.

    Attributes:
        path: the data directory
        pid: the service's process ID
        address: where it answers
        uptime_seconds: seconds since it was ready
        idle_seconds: seconds since the last request ended; 0 while one runs
        clients: the number of processes attached to it
        collections: the number of collections, over all databases
        version: the version of this package that the service runs
        milvus_lite_version: the version of Milvus Lite that the service runs
        rss_bytes: its resident memory in bytes, or None where the system does not tell cheaply
        mode: ``"fast"``, or ``"plain"`` where every answer is computed by Milvus Lite's own code,
            because the installed Milvus Lite does not fit the fast paths
        mode_reason: why it is plain, in one line; "" if it is fast
        unprotected: the protections of the files that the installed Milvus Lite does not
            allow, each with what it lacks; none as a rule
        error: why it does not answer, in one line; "" if it does. Then only the path, the process
            and the address are known
    """

    path: Path
    pid: int
    address: str
    uptime_seconds: float
    idle_seconds: float
    clients: int
    collections: int
    version: str
    milvus_lite_version: str
    rss_bytes: int | None
    mode: str = "fast"
    mode_reason: str = ""
    unprotected: Sequence[str] = ()
    error: str = ""

    @staticmethod
    def silent(path: Path, pid: int, address: str, error: str) -> Status:
        """The status of a service that does not answer.

        Args:
            path: the data directory
            pid: the process that listens
            address: where it should answer
            error: why it does not, in one line
        """
        return Status(path, pid, address, 0.0, 0.0, 0, 0, "", "", None, mode="", error=error)

    @property
    def warning(self) -> str:
        """What is slower or less safe than usual, in one line, or ""."""
        parts = [self.error] if self.error else []
        parts += [f"slower, without fast paths: {self.mode_reason}"] if self.mode_reason else []
        if self.unprotected:
            parts.append(f"files are less protected: {', '.join(self.unprotected)}")
        return "; ".join(parts)
