"""Conversion of columns between Arrow, numpy and Milvus' messages, in bulk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from milvus_lite.adapter.grpc.translators import records
from milvus_lite.exceptions import SchemaValidationError
from pymilvus.grpc_gen import schema_pb2

from fiftyone_milvus.embedded.executor.live_rows import UnsupportedError, View
from fiftyone_milvus.embedded.executor.parts import LivePart
from fiftyone_milvus.embedded.executor.vectors import Floats, Rows

_FLOAT_VECTOR = 101
_ARRAY = 22
_SCALARS = {
    "BOOL": 1,
    "INT8": 2,
    "INT16": 3,
    "INT32": 4,
    "INT64": 5,
    "FLOAT": 10,
    "DOUBLE": 11,
    "VARCHAR": 21,
}


def pks_at(view: View, rows: Rows) -> list[Any]:
    """Primary keys of rows, by row number."""

    def keys(part: LivePart, local: Rows) -> Any:
        found = np.empty(len(local), dtype=object)
        found[:] = part.part.keys.at(local)
        return found

    return _gathered(view, rows, keys)


def vectors_at(view: View, field: str, rows: Rows, dim: int) -> Floats:
    """Vectors of rows, float32 of shape ``(rows, dim)``."""
    groups = _by_part(view, rows)
    if len(groups) == 1:
        number, _ = groups[0]
        return view.parts[number].vectors(field).take(rows - view.offsets[number])
    found = np.empty((len(rows), dim), dtype=np.float32)
    for number, where in groups:
        local = rows[where] - view.offsets[number]
        found[where] = view.parts[number].vectors(field).take(local)
    return found


def values_at(view: View, field: str, rows: Rows) -> list[Any]:
    """Values of a scalar field, None where null."""

    def values(part: LivePart, local: Rows) -> Any:
        taken = np.empty(len(local), dtype=object)
        taken[:] = part.column(field).take(pa.array(local)).to_pylist()
        return taken

    return _gathered(view, rows, values)


def _gathered(view: View, rows: Rows, values: Callable[[LivePart, Rows], Any]) -> list[Any]:
    found = np.empty(len(rows), dtype=object)
    for number, where in _by_part(view, rows):
        found[where] = values(view.parts[number], rows[where] - view.offsets[number])
    listed: list[Any] = found.tolist()
    return listed


def _by_part(view: View, rows: Rows) -> list[tuple[int, Rows]]:
    if not len(rows):
        return []
    numbers = np.searchsorted(view.offsets, rows, side="right") - 1
    first = int(numbers[0])
    if (numbers == first).all():
        return [(first, np.arange(len(rows), dtype=np.int64))]
    return [(int(n), np.flatnonzero(numbers == n)) for n in np.unique(numbers)]


def fields_data(view: View, rows: Rows, col: Any, plan: Any) -> list[Any]:
    """The output fields of rows as FieldData messages, in Milvus Lite's form.

    Args:
        view: the state to read.
        rows: row numbers.
        col: Milvus Lite's collection.
        plan: its ``ProjectionPlan`` of the request.
    """
    schema = col._schema
    if plan.include_all_dynamic or plan.explicit_dynamic_fields:
        raise UnsupportedError("dynamic fields")
    names = set(plan.response_schema_fields)
    if plan.api_kind != "search":
        names.add(col._pk_name)
    messages = []
    for field in schema.fields:
        if field.name not in names:
            continue
        if field.dtype.name == "FLOAT_VECTOR":
            messages.append(_vector_field(field, vectors_at(view, field.name, rows, field.dim)))
        elif field.name == col._pk_name and field.dtype.name == "VARCHAR":
            message = schema_pb2.FieldData(field_name=field.name, type=_SCALARS["VARCHAR"])
            message.scalars.string_data.data.extend(pks_at(view, rows))
            messages.append(message)
        else:
            values = values_at(view, field.name, rows)
            messages.append(records._build_field_data(field.name, field, values))
    if schema.enable_dynamic_field:
        message = schema_pb2.FieldData(field_name="$meta", type=23, is_dynamic=True)
        message.scalars.json_data.data.extend([b"{}"] * len(rows))
        messages.append(message)
    return messages


def _vector_field(field: Any, vectors: Floats) -> Any:
    message = schema_pb2.FieldData(field_name=field.name, type=_FLOAT_VECTOR)
    message.vectors.dim = field.dim
    message.vectors.float_vector.SetInParent()
    if vectors.size:
        payload = np.ascontiguousarray(vectors, dtype="<f4").reshape(-1).view(np.uint8)
        head, size = bytearray(b"\x0a"), payload.nbytes
        while size > 0x7F:
            head.append(size & 0x7F | 0x80)
            size >>= 7
        head.append(size)
        # Field 1, packed floats, as bytes: without a Python object per number
        message.vectors.float_vector.MergeFromString(b"".join((head, payload.data)))
    return message


def _unpacked(message: Any) -> Floats:
    payload = message.SerializeToString()
    if not payload:
        return np.zeros(0, dtype=np.float32)
    start = 1
    while payload[start] & 0x80:
        start += 1
    return np.frombuffer(payload, dtype="<f4", offset=start + 1).astype(np.float32)


def reject_not_finite(fields: Sequence[Any], num_rows: int) -> None:
    """Refuses vectors with NaN or infinity, which Milvus Lite would store, unlike servers.

    Raises:
        SchemaValidationError: names the field and the first bad row.
    """
    for data in fields:
        if data.type == _FLOAT_VECTOR and data.vectors.HasField("float_vector"):
            _require_finite(data, _unpacked(data.vectors.float_vector), num_rows)


def _require_finite(data: Any, flat: Floats, num_rows: int) -> None:
    # A sum is finite only if all its terms are; it may overflow where they are.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(flat.sum()):
            return
    bad = np.flatnonzero(~np.isfinite(flat))
    if len(bad):
        row = int(bad[0]) // max(int(data.vectors.dim), 1)
        raise SchemaValidationError(
            f"vector field {data.field_name!r} of row {row} of {num_rows} holds {flat[bad[0]]}, "
            "expected finite numbers: nothing was written"
        )


def record_batch(
    fields: Sequence[Any], num_rows: int, col: Any, partition: str, first_seq: int
) -> tuple[pa.RecordBatch, list[Any]]:
    """Converts the columns of an insert to what Milvus Lite's log and memtable store.

    Args:
        fields: the request's FieldData messages.
        num_rows: number of rows.
        col: Milvus Lite's collection.
        partition: name of the partition.
        first_seq: sequence number of the first row.

    Returns:
        The batch, and the primary keys.

    Raises:
        UnsupportedError: a field is missing, not valid, or has no fast path.
        SchemaValidationError: a vector is not finite.
    """
    given = {data.field_name: data for data in fields}
    if len(given) != len(fields) or any(data.is_dynamic for data in fields):
        raise UnsupportedError("dynamic or repeated fields")
    if given.keys() != {f.name for f in col._schema.fields}:
        raise UnsupportedError("fields other than those of the schema")
    arrays: dict[str, Any] = {
        "_seq": pa.array(np.arange(first_seq, first_seq + num_rows, dtype=np.uint64)),
        "_partition": pa.repeat(pa.scalar(partition, pa.string()), num_rows),
    }
    pks: list[Any] = []
    for field in col._schema.fields:
        data = given[field.name]
        arrow_type = col._wal_data_schema.field(field.name).type
        if field.dtype.name == "FLOAT_VECTOR":
            arrays[field.name] = _vector_array(data, field, num_rows)
            continue
        if field.dtype.name == "ARRAY":
            values = _lists_of_strings(data, field, num_rows)
        else:
            values = _scalar_values(data, field, num_rows)
        if field.is_primary:
            pks = values
        try:
            arrays[field.name] = pa.array(values, type=arrow_type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as exc:
            raise UnsupportedError(str(exc)) from exc
    names = col._wal_data_schema.names
    if set(names) != arrays.keys():
        raise UnsupportedError("other columns")
    batch = pa.RecordBatch.from_arrays([arrays[n] for n in names], schema=col._wal_data_schema)
    return batch, pks


def _scalar_values(data: Any, field: Any, num_rows: int) -> list[Any]:
    if _SCALARS.get(field.dtype.name) != data.type or not data.HasField("scalars"):
        raise UnsupportedError(f"type of field {field.name}")
    values: list[Any] = records._extract_column(data, num_rows)
    if None in values and (not field.nullable or field.default_value is not None):
        raise UnsupportedError(f"null in {field.name}")
    if field.dtype.name == "VARCHAR" and field.max_length is not None:
        longest = max((len(v) for v in values if v is not None), default=0)
        if longest > field.max_length:
            raise UnsupportedError(f"length of {field.name}")
    return values


def _lists_of_strings(data: Any, field: Any, num_rows: int) -> list[list[str]]:
    if (
        field.element_type.name != "VARCHAR"
        or data.type != _ARRAY
        or not data.scalars.HasField("array_data")
        or len(data.valid_data)
    ):
        raise UnsupportedError(f"type of field {field.name}")
    given = data.scalars.array_data.data
    if len(given) != num_rows or {row.WhichOneof("data") for row in given} - {"string_data", None}:
        raise UnsupportedError(f"values of field {field.name}")
    values = [list(row.string_data.data) for row in given]
    if field.max_capacity is not None and max(map(len, values)) > field.max_capacity:
        raise UnsupportedError(f"length of {field.name}")
    return values


def _vector_array(data: Any, field: Any, num_rows: int) -> pa.Array:
    if data.type != _FLOAT_VECTOR or not data.vectors.HasField("float_vector"):
        raise UnsupportedError(f"type of field {field.name}")
    flat = _unpacked(data.vectors.float_vector)
    if data.vectors.dim != field.dim or flat.size != num_rows * field.dim:
        raise UnsupportedError(f"shape of field {field.name}")
    _require_finite(data, flat, num_rows)
    if len(data.valid_data) and not all(data.valid_data):
        raise UnsupportedError(f"null in {field.name}")
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), field.dim)
