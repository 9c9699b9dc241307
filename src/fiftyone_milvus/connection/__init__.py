"""Connections to Milvus: address, credentials, TLS, and one client for each address.

Example::

    from fiftyone_milvus.connection import Settings, connect, resolve

    connection = connect(resolve(Settings.parse({"uri": "http://localhost:19530"}), None))
    names = connection.run(lambda client: client.list_collections(timeout=5))
"""

from __future__ import annotations

from fiftyone_milvus.connection.connection import (
    Connection,
    Engine,
    close_all,
    connect,
    default_retry,
)
from fiftyone_milvus.connection.failures import translate
from fiftyone_milvus.connection.requests import Request
from fiftyone_milvus.connection.resolution import LOCAL_SERVER, new_indexes, resolve
from fiftyone_milvus.connection.retries import RETRY_SECONDS, Retry
from fiftyone_milvus.connection.settings import CREDENTIALS, Settings
from fiftyone_milvus.connection.target import Target

__all__ = [
    "CREDENTIALS",
    "LOCAL_SERVER",
    "RETRY_SECONDS",
    "Connection",
    "Engine",
    "Request",
    "Retry",
    "Settings",
    "Target",
    "close_all",
    "connect",
    "default_retry",
    "new_indexes",
    "resolve",
    "translate",
]
