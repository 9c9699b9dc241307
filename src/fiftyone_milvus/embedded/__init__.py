"""The embedded engine: Milvus Lite in one local service process, shared by all of a user's.

Milvus Lite locks its directory to one process; FiftyOne is several (Python, notebook, the App's
server, delegated workers). So the directory is opened by a service of its own, which is started
by whoever needs it first, answers on a unix socket or on loopback only, to holders of its token
only, and ends itself once nobody needs it.

Example::

    from pymilvus import MilvusClient
    from fiftyone_milvus import embedded

    endpoint = embedded.ensure(embedded.default_path())
    client = MilvusClient(endpoint.address, token=endpoint.token)
"""

from __future__ import annotations

from fiftyone_milvus.embedded.lifetime import Lifetime
from fiftyone_milvus.embedded.paths import default_path
from fiftyone_milvus.embedded.services import ensure, list_services, serve, status, stop
from fiftyone_milvus.embedded.status import Endpoint, Status

__all__ = [
    "Endpoint",
    "Lifetime",
    "Status",
    "default_path",
    "ensure",
    "list_services",
    "serve",
    "status",
    "stop",
]
