"""The address of Milvus, and whether it answers."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from fiftyone_milvus.connection import Connection
from fiftyone_milvus.connection.client import RECONNECT_SECONDS
from fiftyone_milvus.connection.connection import plain_version
from fiftyone_milvus.connection.target import ENGINE_NAMES
from fiftyone_milvus.errors import FiftyOneMilvusError

ANSWER_SECONDS = 5.0
"""Seconds after which a Milvus counts as not answering."""


@dataclass(frozen=True)
class MilvusStatus:
    """The address of a Milvus, and whether it answers.

    Attributes:
        deployment: ``"embedded"`` or ``"server"``; empty if unknown
        address: a URL without credentials, or the data directory of the embedded engine
        engine: ``"Milvus Lite"`` or ``"Milvus"``
        version: as Milvus reports it, or None
        latency: seconds of a round trip, or None if it does not answer
        error: one line with the reason why it does not answer, or None
    """

    deployment: str
    address: str
    engine: str
    version: str | None = None
    latency: float | None = None
    error: str | None = None

    @property
    def title(self) -> str:
        """Engine and version."""
        return f"{self.engine} {self.version}"


def configured(uri: str | None = None) -> Connection:
    """Returns the connection to the Milvus that FiftyOne's brain config names; opens nothing.

    Args:
        uri (None): another address, with the credentials of the brain config

    Raises:
        FiftyOneMilvusError: if the configuration can't be used
    """
    from fiftyone_milvus.backend import MilvusSimilarityConfig

    config = MilvusSimilarityConfig(uri=uri)
    config.load_credentials()
    return config.connect()


def milvus_status(
    connection: Connection | None = None, *, timeout: float = ANSWER_SECONDS
) -> MilvusStatus:
    """Asks a Milvus for its version, twice.

    Args:
        connection (None): the Milvus; by default, the :func:`configured` one
        timeout (5): the deadline of an answer, in seconds
    """
    try:
        connection = connection or configured()
    except FiftyOneMilvusError as error:
        return MilvusStatus("", "", "Milvus", error=str(error))
    target = connection.target
    found = MilvusStatus(target.deployment, target.address, ENGINE_NAMES[target.deployment])
    try:
        # Before the first answer, a service may have to start
        ask(connection, timeout)
        start = time.perf_counter()
        version = ask(connection, timeout)
        latency = time.perf_counter() - start
    except FiftyOneMilvusError as error:
        return replace(found, error=str(error))
    return replace(found, version=plain_version(version), latency=latency)


def ask(connection: Connection, timeout: float = ANSWER_SECONDS) -> str:
    """Returns the version that a Milvus reports, also just after it has come back."""
    return str(
        connection.run(
            lambda client: client.get_server_version(timeout=timeout),
            timeout=timeout,
            retry=RECONNECT_SECONDS,
        )
    )
