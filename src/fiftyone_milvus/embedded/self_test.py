"""Compares the fast paths with plain Milvus Lite, on a small collection, when a service starts."""

from __future__ import annotations

import functools
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2

from fiftyone_milvus.embedded import disk_space
from fiftyone_milvus.embedded.executor.compatibility import missing_internals
from fiftyone_milvus.embedded.storage import durability, flush

logger = logging.getLogger(__name__)

_NAME, _DIMENSION, _ROWS = "self_test", 8, 48
_VARCHAR, _INT64, _FLOAT_VECTOR = 21, 5, 101
_FILTERS = (
    "",
    'label == "b" and not (number < 20)',
    'pk in ["3", "11", "20", "none"]',
)

Answer = tuple[str, Any]


@dataclass(frozen=True)
class Mode:
    """How a service answers.

    Attributes:
        name: ``"fast"``, or ``"plain"`` where all answers come from Milvus Lite's own code
        reason: why it is plain, in one line; "" if it is fast
        unprotected: the protections of the files that are off, with what they lack
    """

    name: str
    reason: str = ""
    unprotected: tuple[str, ...] = ()


@functools.cache
def choose_mode() -> Mode:
    """Installs what works with the installed Milvus Lite: protections, then the fast paths.

    The answers of plain Milvus Lite decide: a protection or fast path that changes one is off.
    Only the first call does the work, some 0.1 s.

    Raises:
        ImportError: if Milvus Lite has no servicer, or no database, where it is expected
    """
    from milvus_lite.db import MilvusLite

    from fiftyone_milvus.embedded.database import Database
    from fiftyone_milvus.embedded.executor.plain import PlainServicer

    expected = _answers(MilvusLite, PlainServicer)
    unprotected = durability.install()
    reason = _fast_path_problem(expected)
    if reason:
        if difference := _difference(expected, _answers(Database, PlainServicer)):
            durability.uninstall()
            unprotected = [f"all of it ({difference})"]
        logger.warning("slower than usual, without fast paths: %s; upgrade fiftyone-milvus", reason)
    return Mode("plain" if reason else "fast", reason, tuple(unprotected))


def _fast_path_problem(expected: list[Answer]) -> str:
    """Installs the fast paths, or returns why not."""
    import milvus_lite

    installed = f"milvus-lite {milvus_lite.__version__}"
    if lacks := missing_internals():
        more = f" and {len(lacks) - 2} more" if len(lacks) > 2 else ""
        return f"{installed} has no {', '.join(lacks[:2])}{more}"
    if problem := expected[-1][1] if expected[-1][0] == "error" else "":
        return f"the self-test fails on plain {installed}: {problem}"
    if difference := _fast_path_difference(expected):
        flush.restore_files()
        return f"with {installed} the self-test found a difference: {difference}"
    return ""


def _fast_path_difference(expected: list[Answer]) -> str:
    from fiftyone_milvus.embedded.database import Database

    servicers: list[Any] = []

    def fast(database: Any) -> Any:
        from fiftyone_milvus.embedded.executor.servicer import FastServicer

        flush.speed_up_files()
        servicers.append(FastServicer(database))
        return servicers[-1]

    difference = _difference(expected, _answers(Database, fast))
    delegated = {reason for servicer in servicers for reason in servicer.delegated}
    return difference or (f"no fast path ({min(delegated)})" if delegated else "")


def _difference(expected: list[Answer], found: list[Answer]) -> str:
    """Returns the first step whose answers differ, or what was raised instead; or ""."""
    for (step, one), (other_step, other) in zip(expected, found):
        if step != other_step:
            return f"{step}: {other}"
        if not _same(one, other):
            return step
    return ""


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and np.allclose(one, other, rtol=1e-4, atol=1e-5)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _answers(database: Callable[[str], Any], servicer: Callable[[Any], Any]) -> list[Answer]:
    """Returns the answer of each step, up to an ``"error"``, if one is raised."""
    found: list[Answer] = []
    try:
        with tempfile.TemporaryDirectory(
            prefix="fiftyone-milvus-", dir=_memory_folder(), ignore_cleanup_errors=True
        ) as folder:
            for steps in (_first_steps, _last_steps):
                opened = database(os.path.join(folder, "data.db"))
                try:
                    found.extend(steps(_Requests(servicer(opened))))
                finally:
                    opened.close()
    except Exception as error:
        logger.debug("the self-test failed", exc_info=True)
        found.append(("error", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"))
    return found


def _memory_folder() -> str | None:
    """A folder in memory, where syncing a file takes no time; None if there is none with room."""
    memory = "/dev/shm"
    usable = os.access(memory, os.W_OK | os.X_OK) and disk_space.free_bytes(memory) > 1 << 24
    return memory if usable else None


def _first_steps(requests: _Requests) -> Iterator[Answer]:
    requests.create()
    yield "insert", requests.write("Insert", range(_ROWS))
    yield "upsert", requests.write("Upsert", range(_ROWS - 4, _ROWS + 4), shift=1)
    yield "delete", requests.delete('pk in ["5", "6"]')
    yield from _reads(requests, "before a flush")
    requests.flush()
    yield "upsert", requests.write("Upsert", range(8, 16), shift=2)
    yield "delete", requests.delete('label == "d"')
    yield from _reads(requests, "after changes of a segment")
    requests.flush()


def _last_steps(requests: _Requests) -> Iterator[Answer]:
    requests.load()
    yield from _reads(requests, "after a restart")


def _reads(requests: _Requests, when: str) -> Iterator[Answer]:
    for expression in _FILTERS:
        yield f"search '{expression}' {when}", requests.search(expression)
        yield f"query '{expression}' {when}", requests.query(expression)
    yield f"count {when}", requests.count(_FILTERS[1])


class _Context:
    """What a servicer asks of gRPC's context: no metadata, no deadline."""

    def invocation_metadata(self) -> tuple[Any, ...]:
        return ()

    def time_remaining(self) -> None:
        return None

    def is_active(self) -> bool:
        return True


class _Requests:
    """Sends requests to a servicer, without gRPC.

    Args:
        servicer: a ``MilvusServicer``
    """

    def __init__(self, servicer: Any) -> None:
        self._servicer = servicer
        # Without numpy.random, whose import would take longer than the test
        numbers = np.arange(2 * _ROWS * _DIMENSION, dtype=np.float64)
        self._vectors = np.sin(numbers**1.5).reshape(-1, _DIMENSION).astype(np.float32)

    def _send(self, method: str, request: Any) -> Any:
        answer = getattr(self._servicer, method)(request, _Context())
        status = getattr(answer, "status", answer)
        if status.code or status.error_code:
            raise RuntimeError(f"{method}: {status.reason}")
        return answer

    def create(self) -> None:
        field = schema_pb2.FieldSchema
        schema = schema_pb2.CollectionSchema(name=_NAME)
        schema.fields.extend(
            [
                field(name="pk", is_primary_key=True, data_type=_VARCHAR),
                field(name="vector", data_type=_FLOAT_VECTOR),
                field(name="label", data_type=_VARCHAR),
                field(name="number", data_type=_INT64),
            ]
        )
        for number, parameters in enumerate(
            ({"max_length": 64}, {"dim": _DIMENSION}, {"max_length": 64})
        ):
            schema.fields[number].type_params.extend(_pairs(parameters))
        self._send(
            "CreateCollection",
            milvus_pb2.CreateCollectionRequest(
                collection_name=_NAME, schema=schema.SerializeToString()
            ),
        )
        index = _pairs({"index_type": "FLAT", "metric_type": "COSINE"})
        self._send(
            "CreateIndex",
            milvus_pb2.CreateIndexRequest(
                collection_name=_NAME, field_name="vector", extra_params=index
            ),
        )
        self.load()

    def load(self) -> None:
        self._send("LoadCollection", milvus_pb2.LoadCollectionRequest(collection_name=_NAME))

    def flush(self) -> None:
        self._send("Flush", milvus_pb2.FlushRequest(collection_names=[_NAME]))

    def write(self, method: str, keys: range, shift: int = 0) -> Any:
        vectors = np.array([self._vectors[(key + 7 * shift) % len(self._vectors)] for key in keys])
        data = schema_pb2.FieldData
        pk = data(field_name="pk", type=_VARCHAR)
        pk.scalars.string_data.data.extend(map(str, keys))
        vector = data(field_name="vector", type=_FLOAT_VECTOR)
        vector.vectors.dim = _DIMENSION
        vector.vectors.float_vector.data.extend(vectors.ravel().tolist())
        label = data(field_name="label", type=_VARCHAR)
        label.scalars.string_data.data.extend("abcd"[(key + shift) % 4] for key in keys)
        number = data(field_name="number", type=_INT64)
        number.scalars.long_data.data.extend(key - shift for key in keys)
        kind = getattr(milvus_pb2, f"{method}Request")
        request = kind(
            collection_name=_NAME, num_rows=len(keys), fields_data=[pk, vector, label, number]
        )
        return tuple(self._send(method, request).IDs.str_id.data)

    def delete(self, expression: str) -> Any:
        request = milvus_pb2.DeleteRequest(collection_name=_NAME, expr=expression)
        return self._send("Delete", request).delete_cnt

    def search(self, expression: str) -> Any:
        queries = common_pb2.PlaceholderValue(tag="$0", type=_FLOAT_VECTOR)
        queries.values.extend(vector.astype("<f4").tobytes() for vector in self._vectors[:3])
        request = milvus_pb2.SearchRequest(
            collection_name=_NAME,
            dsl=expression,
            dsl_type=common_pb2.DslType.BoolExprV1,
            nq=3,
            output_fields=["label", "number"],
            placeholder_group=common_pb2.PlaceholderGroup(
                placeholders=[queries]
            ).SerializeToString(),
            search_params=_pairs({"anns_field": "vector", "topk": 5, "metric_type": "COSINE"}),
        )
        results = self._send("Search", request).results
        fields = sorted((field.field_name, _values(field)) for field in results.fields_data)
        ids = tuple(results.ids.str_id.data)
        return ids, tuple(results.topks), np.array(results.scores), tuple(fields)

    def query(self, expression: str) -> Any:
        request = milvus_pb2.QueryRequest(
            collection_name=_NAME,
            expr=expression,
            output_fields=["pk", "vector", "label", "number"],
            query_params=_pairs({"limit": 2 * _ROWS}),
        )
        found = {f.field_name: f for f in self._send("Query", request).fields_data}
        vectors = np.reshape(found["vector"].vectors.float_vector.data, (-1, _DIMENSION))
        columns = [_values(found[name]) for name in ("pk", "label", "number")]
        # Milvus promises no order
        order = sorted(range(len(vectors)), key=columns[0].__getitem__)
        return tuple(tuple(c[at] for at in order) for c in columns), vectors[order]

    def count(self, expression: str) -> Any:
        request = milvus_pb2.QueryRequest(
            collection_name=_NAME, expr=expression, output_fields=["count(*)"]
        )
        return _values(self._send("Query", request).fields_data[0])


def _pairs(values: dict[str, Any]) -> list[Any]:
    return [
        common_pb2.KeyValuePair(key=key, value=v if isinstance(v, str) else json.dumps(v))
        for key, v in values.items()
    ]


def _values(field: Any) -> tuple[Any, ...]:
    kind = field.scalars.WhichOneof("data")
    return tuple(getattr(field.scalars, kind).data) if kind else ()
