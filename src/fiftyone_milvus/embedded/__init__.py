"""The embedded engine: Milvus Lite in one local service, shared by all processes of a user.

Milvus Lite locks its directory to one process; FiftyOne is several (Python, notebook, the App's
server, delegated workers). So a service process opens the directory. The first client starts it.
It answers only on a unix socket or on loopback, only to clients with its token, and ends itself
when it has no clients left.

Example::

    from pymilvus import MilvusClient
    from fiftyone_milvus import embedded

    endpoint = embedded.ensure(embedded.default_path())
    client = MilvusClient(endpoint.address, token=endpoint.token)
"""

from __future__ import annotations

from fiftyone_milvus.embedded.lifetime import Lifetime
from fiftyone_milvus.embedded.paths import default_path
from fiftyone_milvus.embedded.services import (
    check,
    ensure,
    holder,
    is_current,
    list_services,
    repair,
    serve,
    status,
    stop,
    verify,
)
from fiftyone_milvus.embedded.status import Endpoint, Status

__all__ = [
    "Endpoint",
    "Lifetime",
    "Status",
    "check",
    "default_path",
    "ensure",
    "holder",
    "is_current",
    "list_services",
    "repair",
    "serve",
    "status",
    "stop",
    "verify",
]
