"""Milvus Lite's own servicer, for all requests that have no fast path."""

from __future__ import annotations

import json
from typing import Any

from milvus_lite.adapter.grpc import MilvusServicer
from milvus_lite.adapter.grpc.errors import to_status_kwargs
from milvus_lite.exceptions import MilvusLiteError
from pymilvus.grpc_gen import common_pb2, milvus_pb2

from fiftyone_milvus.embedded.metadata import Metadata
from fiftyone_milvus.embedded.storage import own_types

_BUILD_PARAMS = (
    "nlist", "M", "efConstruction", "m", "nbits", "sq_type", "refine", "refine_type"
)  # fmt: skip


class PlainServicer(MilvusServicer):
    """Milvus Lite's servicer; collections that are not open are described without opening them.

    Args:
        db: an open ``milvus_lite.db.MilvusLite``
    """

    def __init__(self, db: Any) -> None:
        super().__init__(db)
        self._metadata = Metadata(db)
        self._describing = MilvusServicer(self._metadata)

    def ShowCollections(self, request: Any, context: Any) -> Any:
        """The names of the collections; those that are damaged are not loaded."""
        answer = self._describing.ShowCollections(request, context)
        if not answer.status.code:
            return answer
        database = self._database_name(request, context)
        names = self._db.list_collections(database_name=database)
        if request.collection_names:
            names = [name for name in names if name in request.collection_names]
        loaded = [self._is_loaded(name, database) for name in names]
        return milvus_pb2.ShowCollectionsResponse(
            status=common_pb2.Status(),
            collection_names=names,
            inMemory_percentages=[100 * is_loaded for is_loaded in loaded],
            query_service_available=loaded,
            shards_num=[1] * len(names),
        )

    def _is_loaded(self, name: str, database: str) -> bool:
        try:
            col = self._metadata.get_collection(name, database_name=database)
        except MilvusLiteError:
            return False
        return bool(col.load_state == "loaded")

    def DescribeCollection(self, request: Any, context: Any) -> Any:
        """The schema and the properties."""
        return self._describing.DescribeCollection(request, context)

    def DescribeIndex(self, request: Any, context: Any) -> Any:
        """The indexes."""
        return with_own_types(self._describing.DescribeIndex(request, context))

    def GetCollectionStatistics(self, request: Any, context: Any) -> Any:
        """The number of rows; of a closed collection, those in sealed segments."""
        return self._describing.GetCollectionStatistics(request, context)

    def GetLoadState(self, request: Any, context: Any) -> Any:
        """Whether the collection can be read."""
        return self._describing.GetLoadState(request, context)

    def GetLoadingProgress(self, request: Any, context: Any) -> Any:
        """How much of the collection can be read."""
        return self._describing.GetLoadingProgress(request, context)

    def HasPartition(self, request: Any, context: Any) -> Any:
        """Whether there is a partition."""
        return self._describing.HasPartition(request, context)

    def ShowPartitions(self, request: Any, context: Any) -> Any:
        """The names of the partitions."""
        return self._describing.ShowPartitions(request, context)

    def CreateIndex(self, request: Any, context: Any) -> Any:
        """Creates an index with the build parameters that were given.

        MilvusClient sends ``nlist``, ``M`` and others next to ``index_type``. Milvus Lite looks
        for them in one parameter ``params`` only, and would build with its own defaults.
        """
        given = {pair.key: pair.value for pair in request.extra_params}
        build = {name: decoded(given[name]) for name in _BUILD_PARAMS if name in given}
        if "params" in given:
            inner = decoded(given["params"])
            build = inner if isinstance(inner, dict) else {}
        name = given.get("index_type", "").upper()
        if name in own_types.NAMES:
            try:
                given["index_type"], build = own_types.to_kept(name, build)
            except MilvusLiteError as error:
                return common_pb2.Status(**to_status_kwargs(error))
        if build:
            given["params"] = json.dumps(build)
        del request.extra_params[:]
        request.extra_params.extend(
            common_pb2.KeyValuePair(key=key, value=value) for key, value in given.items()
        )
        return super().CreateIndex(request, context)


def with_own_types(answer: Any) -> Any:
    """Names the index types of a ``DescribeIndexResponse`` that Milvus Lite does not have."""
    for index in answer.index_descriptions:
        found = {pair.key: pair for pair in index.params}
        if "params" in found:
            kept = found["index_type"].value, json.loads(found["params"].value)
            found["index_type"].value, params = own_types.from_kept(*kept)
            found["params"].value = json.dumps(params)
    return answer


def decoded(text: str) -> Any:
    """A parameter of a request: JSON, or a name such as ``SQ8``."""
    try:
        return json.loads(text)
    except ValueError:
        return text
