"""Where Milvus is, and whether it answers."""

from __future__ import annotations

import time
from dataclasses import dataclass

from fiftyone_milvus.connection import Connection
from fiftyone_milvus.errors import FiftyOneMilvusError

ANSWER_SECONDS = 5.0
"""How long a Milvus may take to answer before it counts as silent."""


@dataclass(frozen=True)
class MilvusStatus:
    """Where a Milvus is, and whether it answers.

    Attributes:
        deployment: ``"embedded"`` or ``"server"``; empty if that is not known
        address: an URL without credentials, or the path of the embedded engine's data
        engine: ``"Milvus Lite"`` or ``"Milvus"``
        version: as it reports it, or None
        latency: the seconds of a round trip, or None if it does not answer
        error: one line that says why it does not, or None
    """

    deployment: str
    address: str
    engine: str
    version: str | None = None
    latency: float | None = None
    error: str | None = None


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
        timeout (5): seconds that an answer may take
    """
    try:
        connection = connection or configured()
    except FiftyOneMilvusError as error:
        return MilvusStatus("", "", "Milvus", error=str(error))
    target = connection.target
    engine = "Milvus Lite" if target.deployment == "embedded" else "Milvus"
    try:
        # The first answer may have to wait for a connection, or for a service to start
        ask(connection, timeout)
        start = time.perf_counter()
        version = ask(connection, timeout)
        latency = time.perf_counter() - start
    except FiftyOneMilvusError as error:
        return MilvusStatus(target.deployment, target.address, engine, error=str(error))
    version = version.removeprefix("milvus_lite-").removeprefix("v")
    return MilvusStatus(target.deployment, target.address, engine, version, latency)


def ask(connection: Connection, timeout: float = ANSWER_SECONDS) -> str:
    """Returns the version that a Milvus reports; raises soon if it is silent."""
    return str(
        connection.run(
            lambda client: client.get_server_version(timeout=timeout), timeout=timeout, retry=0
        )
    )
