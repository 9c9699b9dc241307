"""The address of a Milvus."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from fiftyone_milvus.connection.settings import Settings

Deployment = Literal["embedded", "server"]

DEFAULT_PORT = 19530

ENGINE_NAMES: dict[Deployment, str] = {"embedded": "Milvus Lite", "server": "Milvus"}


@dataclass(frozen=True)
class Target:
    """The address of a Milvus, and how to connect to it.

    Attributes:
        deployment: ``"embedded"`` or ``"server"``
        address: for messages: a URL without credentials, or the path of the data directory
        settings: the connection parameters
        path: the data directory of the embedded engine; None for servers
    """

    deployment: Deployment
    address: str
    settings: Settings
    path: Path | None = None

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.address.startswith("https://")

    @property
    def host(self) -> str:
        """The host of a server; empty for unix sockets and the embedded engine."""
        return urlsplit(self.address).hostname or "" if "://" in self.address else ""

    @property
    def local(self) -> bool:
        """Whether it is on this machine, so that no proxy is needed to reach it."""
        host = self.host.lower()
        return not host or host == "localhost" or host == "::1" or host.startswith("127.")

    @property
    def port(self) -> int:
        """The TCP port of a server."""
        return urlsplit(self.address).port or (443 if self.tls else DEFAULT_PORT)
