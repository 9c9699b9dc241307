"""The embedded engine: Milvus Lite's servicer, with the common requests made fast.

The data directory stays a plain Milvus Lite directory, and every answer is Milvus Lite's, from its
own segments, memtable, tombstones and indexes; only the way there is vectorized. What has no fast
path is Milvus Lite's own code, untouched.
"""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger(__name__)


def build_servicer(db: Any) -> Any:
    """The gRPC servicer for an open Milvus Lite database.

    Args:
        db: a ``milvus_lite.db.MilvusLite``, which nothing else may write to. Writes must come one
            at a time per collection; reads may run beside them.

    Returns:
        A ``milvus_lite.adapter.grpc.servicer.MilvusServicer``: the fast one, or, with a warning,
        the plain one if the installed Milvus Lite is not built as the fast one expects.
    """
    from milvus_lite.adapter.grpc.servicer import MilvusServicer

    from fiftyone_milvus.embedded.executor.compatibility import missing_internals

    missing = missing_internals()
    if missing:
        logger.warning(
            "this milvus-lite is unknown to fiftyone-milvus, which works but is slower with it "
            "(not as expected: %s); upgrade fiftyone-milvus",
            ", ".join(missing),
        )
        return MilvusServicer(db)

    from fiftyone_milvus.embedded.executor.servicer import FastServicer
    from fiftyone_milvus.embedded.storage import durability, flush

    durability.install()
    flush.speed_up_files()
    return FastServicer(db)
