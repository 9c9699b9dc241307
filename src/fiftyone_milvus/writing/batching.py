"""Batches of any size as requests of about the same size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fiftyone_milvus.collection.packing import pack
from fiftyone_milvus.schema.layout import Layout
from fiftyone_milvus.writing.validation import Batch

REQUEST_BYTES = 4 << 20
"""About how many bytes of vectors and IDs a request has: far below every engine's message limit."""

FIELD_BYTES = 16 << 20
"""The most bytes of other fields in a request, unless one row alone has more."""

_ID_BYTES = 64
_MAX_CHARACTER = 4


def request_rows(dimension: int) -> int:
    """Returns how many vectors of a dimension go into one request."""
    return max(1, REQUEST_BYTES // (4 * dimension + _ID_BYTES))


class Requests:
    """Splits large batches and joins small ones, in order, without copying their vectors.

    Args:
        rows: the most rows of one request
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._parts: list[Batch] = []
        self._count = 0
        self._field_bytes = 0

    def add(self, batch: Batch) -> Iterator[list[Batch]]:
        """Adds a batch, and yields the requests that are full."""
        start = 0
        while start < len(batch):
            stop = self._stop(batch, start)
            if stop > start:
                self._parts.append(batch.part(slice(start, stop)))
                self._count += stop - start
            if stop < len(batch) or self._count == self._rows:
                yield self.rest()
            start = stop

    def rest(self) -> list[Batch]:
        """Returns the request that is not full, which may be empty, and begins another."""
        parts, self._parts = self._parts, []
        self._count = self._field_bytes = 0
        return parts

    def _stop(self, batch: Batch, start: int) -> int:
        """Returns the end of the rows that still fit into the request."""
        stop = min(len(batch), start + self._rows - self._count)
        if not batch.fields:
            return stop
        for i in range(start, stop):
            size = _bytes(batch.fields[i])
            if (self._count > 0 or i > start) and self._field_bytes + size > FIELD_BYTES:
                return i
            self._field_bytes += size
        return stop


def to_rows(parts: Sequence[Batch], layout: Layout) -> list[dict[str, Any]]:
    """Returns the rows of a request as ``MilvusClient`` takes them."""
    rows: list[dict[str, Any]] = []
    for part in parts:
        new = [
            {layout.id_field: _id, layout.vector_field: vector}
            for _id, vector in zip(part.ids, pack(part.vectors))
        ]
        if layout.sample_field is not None:
            for row, sample_id in zip(new, part.sample_ids):
                row[layout.sample_field] = sample_id
        for row, values in zip(new, part.fields):
            row.update(values)
        rows += new
    return rows


def _bytes(values: Mapping[str, Any]) -> int:
    used = 0
    for value in values.values():
        if isinstance(value, str):
            used += _MAX_CHARACTER * len(value)
        elif isinstance(value, list):
            used += _MAX_CHARACTER * sum(map(len, value))
        else:
            used += 8
    return used
