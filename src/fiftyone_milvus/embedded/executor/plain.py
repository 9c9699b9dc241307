"""Milvus Lite's own servicer, for all requests that have no fast path."""

from __future__ import annotations

import json
from typing import Any

from milvus_lite.adapter.grpc import MilvusServicer

_BUILD_PARAMS = ("nlist", "M", "efConstruction", "m", "nbits", "sq_type")


class PlainServicer(MilvusServicer):
    """Milvus Lite's servicer, which gets an index's build parameters where it looks for them."""

    def CreateIndex(self, request: Any, context: Any) -> Any:
        """Creates an index with the build parameters that were given.

        MilvusClient sends ``nlist``, ``M`` and others next to ``index_type``. Milvus Lite looks
        for them in one parameter ``params`` only, and would build with its own defaults.
        """
        given = {pair.key: pair.value for pair in request.extra_params}
        build = {name: decoded(given[name]) for name in _BUILD_PARAMS if name in given}
        if build and "params" not in given:
            request.extra_params.add(key="params", value=json.dumps(build))
        return super().CreateIndex(request, context)


def decoded(text: str) -> Any:
    """A parameter of a request: JSON, or a name such as ``SQ8``."""
    try:
        return json.loads(text)
    except ValueError:
        return text
