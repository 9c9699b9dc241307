"""Batches of any size → requests of about one size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fiftyone_milvus.collection.packing import pack
from fiftyone_milvus.schema.layout import Layout
from fiftyone_milvus.writing.validation import Batch

BATCH_BYTES = 4 << 20
"""Bytes of vectors and IDs per request, about: far below every engine's message limit."""

FIELD_BYTES = 16 << 20
"""Bytes of other fields per request, at most, but for a row that has more alone."""

_ID_BYTES = 64
_MAX_CHARACTER = 4


def batch_rows(dimension: int) -> int:
    """Returns how many vectors of a dimension go into one request."""
    return max(1, BATCH_BYTES // (4 * dimension + _ID_BYTES))


class Cutter:
    """Cuts large batches and joins small ones, in order, without copying their vectors.

    Args:
        rows: of one request, at most
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._parts: list[Batch] = []
        self._count = 0
        self._field_bytes = 0

    def add(self, batch: Batch) -> Iterator[list[Batch]]:
        """Takes a batch in and yields the requests that are full with it."""
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
        """Returns what is left, which may be nothing, and starts anew."""
        parts, self._parts = self._parts, []
        self._count = self._field_bytes = 0
        return parts

    def _stop(self, batch: Batch, start: int) -> int:
        """Returns where the rows end that the request has room for."""
        stop = min(len(batch), start + self._rows - self._count)
        if not batch.fields:
            return stop
        for i in range(start, stop):
            size = _bytes(batch.fields[i])
            has_rows = self._count > 0 or i > start
            if has_rows and self._field_bytes + size > FIELD_BYTES:
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
