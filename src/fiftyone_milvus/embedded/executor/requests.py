"""Search and query requests, read without a Python object per number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pymilvus.grpc_gen import common_pb2

from fiftyone_milvus.embedded.executor.live_rows import UnsupportedError
from fiftyone_milvus.embedded.executor.plain import decoded
from fiftyone_milvus.embedded.executor.vectors import Floats
from fiftyone_milvus.embedded.markers import FARTHEST

_FLOAT_VECTOR_PLACEHOLDER = 101
_METRICS = ("COSINE", "IP", "L2")

#: Search parameters that have no fast path.
_DELEGATED = (
    "group_by_field",
    "group_size",
    "strict_group_size",
    "order_by_fields",
    "radius",
    "range_filter",
    "time_fields",
    "timezone",
)


@dataclass(frozen=True)
class SearchRequest:
    """A request for nearest neighbors.

    Attributes:
        queries: float32 of shape ``(queries, dim)``, finite.
        k: number of hits to return.
        offset: number of hits to skip.
        metric: ``COSINE``, ``IP`` or ``L2``.
        field: the vector field.
        expr: the filter, or "".
        output_fields: names of the fields to return, or None for all.
        params: the index' own search parameters.
        exact: whether every allowed row must be compared.
        farthest: whether to return the farthest rows instead.
    """

    queries: Floats
    k: int
    offset: int
    metric: str
    field: str
    expr: str
    output_fields: list[str] | None
    params: Mapping[str, Any]
    exact: bool = False
    farthest: bool = False


def read_search(request: Any, col: Any) -> SearchRequest:
    """Reads Milvus' SearchRequest for a collection of Milvus Lite.

    Raises:
        UnsupportedError: it has a parameter without a fast path, or is not valid
    """
    if request.partition_names:
        raise UnsupportedError("partitions")
    for name in ("function_score", "highlighter"):
        if name in request.DESCRIPTOR.fields_by_name and request.HasField(name):
            raise UnsupportedError(name)
    if len(getattr(request, "function_chains", ())):
        raise UnsupportedError("function_chains")
    raw = {pair.key: decoded(pair.value) for pair in request.search_params}
    inner = raw.get("params") or {}
    if not isinstance(inner, dict):
        raise UnsupportedError("params")
    for name in _DELEGATED:
        if raw.get(name) not in (None, "", -1) or inner.get(name) is not None:
            raise UnsupportedError(name)
    if raw.get("round_decimal", -1) != -1:
        raise UnsupportedError("round_decimal")
    k, offset = raw.get("topk"), raw.get("offset", 0)
    if type(k) is not int or type(offset) is not int or k <= 0 or offset < 0:
        raise UnsupportedError("topk or offset")

    field = raw.get("anns_field") or col._vector_name
    schema_field = next((f for f in col._schema.fields if f.name == field), None)
    if schema_field is None or schema_field.dtype.name != "FLOAT_VECTOR":
        raise UnsupportedError("vector field")
    spec = col._index_specs.get(field)
    metric = raw.get("metric_type") or (spec.metric_type if spec is not None else "COSINE")
    if request.dsl.startswith(FARTHEST) and metric != "L2":
        raise UnsupportedError("the farthest rows under another metric than L2")
    if metric not in _METRICS or (spec is not None and spec.metric_type != metric):
        raise UnsupportedError("metric")
    return SearchRequest(
        queries=_queries(request.placeholder_group, schema_field.dim),
        k=k,
        offset=offset,
        metric=metric,
        field=field,
        expr=request.dsl.removeprefix(FARTHEST),
        output_fields=list(request.output_fields) or None,
        params=inner,
        exact=inner.get("exact") is True,
        farthest=request.dsl.startswith(FARTHEST),
    )


@dataclass(frozen=True)
class QueryRequest:
    """A plain query.

    Attributes:
        limit: number of rows to return, or None for all.
        offset: number of rows to skip.
        by_key: whether rows are sorted by primary key, as iterators need.
        output_fields: names of the fields to return, or None for all.
    """

    limit: int | None
    offset: int
    by_key: bool
    output_fields: list[str] | None


def read_query(request: Any) -> QueryRequest:
    """Reads Milvus' QueryRequest.

    Raises:
        UnsupportedError: it has more than a filter, limit, offset and the order by key
    """
    if request.partition_names:
        raise UnsupportedError("partitions")
    raw = {pair.key: decoded(pair.value) for pair in request.query_params}
    for name in ("timezone", "time_fields", "order_by_fields", "group_by_fields"):
        if raw.get(name) not in (None, ""):
            raise UnsupportedError(name)
    limit, offset = raw.get("limit"), raw.get("offset", 0)
    if limit is not None and (type(limit) is not int or limit <= 0):
        raise UnsupportedError("limit")
    if type(offset) is not int or offset < 0:
        raise UnsupportedError("offset")
    return QueryRequest(
        limit=limit,
        offset=offset,
        by_key="iterator" in raw,
        output_fields=list(request.output_fields) or None,
    )


def _queries(placeholder_group: bytes, dim: int) -> Floats:
    group = common_pb2.PlaceholderGroup()
    group.ParseFromString(placeholder_group)
    if not group.placeholders or group.placeholders[0].type != _FLOAT_VECTOR_PLACEHOLDER:
        raise UnsupportedError("kind of query")
    blobs = group.placeholders[0].values
    if not blobs or any(len(blob) != 4 * dim for blob in blobs):
        raise UnsupportedError("dimension of query")
    queries = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), dim)
    if not np.isfinite(queries).all():
        raise UnsupportedError("query is not finite")
    return queries.astype(np.float32)
