"""Milvus Lite's servicer, with the common requests made fast.

The data directory stays a plain Milvus Lite directory, and every answer is Milvus Lite's, from its
own segments, memtable, tombstones and indexes; only the way there is vectorized. What has no fast
path is answered by Milvus Lite's own code.
"""

from __future__ import annotations

from typing import Any


def build_servicer(db: Any) -> Any:
    """Returns the gRPC servicer for an open Milvus Lite database.

    Args:
        db: a ``milvus_lite.db.MilvusLite``, which nothing else may write to. Requests must come
            through :class:`fiftyone_milvus.embedded.interceptors.LockingInterceptor`.

    Returns:
        a ``FastServicer``, or a ``PlainServicer`` where the installed Milvus Lite does not fit the
        fast paths; see :func:`fiftyone_milvus.embedded.self_test.choose_mode`

    Raises:
        ImportError: if Milvus Lite has no servicer where it is expected
    """
    from fiftyone_milvus.embedded.self_test import choose_mode

    if choose_mode().name == "plain":
        from fiftyone_milvus.embedded.executor.plain import PlainServicer

        return PlainServicer(db)
    from fiftyone_milvus.embedded.executor.servicer import FastServicer

    return FastServicer(db)
