"""The values of metadata fields, read from FiftyOne's database in Milvus' form."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Any

from bson import ObjectId

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.schema.columns import (
    MAX_STRING_BYTES,
    MAX_STRINGS,
    NEUTRAL,
    Column,
    Kind,
    label_attribute,
    label_root,
)

BATCH = 5_000
"""The number of samples in one read."""

Row = tuple[Any, ...]
"""One value for each column, in Milvus' form; None where there is none."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MILLISECOND = timedelta(milliseconds=1)
INT64 = 1 << 63
"""The first integer that a Milvus INT64 does not hold."""


class ValueReader:
    """Reads the values of columns for the rows of an index.

    Args:
        dataset: the :class:`fiftyone.core.dataset.Dataset`
        patches_field: the field of the patches that the index holds, or None for samples
        columns: the columns
    """

    def __init__(self, dataset: Any, patches_field: str | None, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self._samples = dataset._sample_collection
        self._patches = patches_field is not None
        self._on_samples = [c for c in columns if not c.on_label]
        self._on_labels = [c for c in columns if c.on_label]
        read = [*self._on_samples, *self._on_labels]
        self._order = [read.index(column) for column in self.columns]
        self._project = self._projection(dataset, patches_field)

    def read(self, ids: Sequence[str], sample_ids: Sequence[str]) -> list[Row]:
        """Returns the values of rows: a tuple for each, all None where its sample does not exist.

        Args:
            ids: the primary keys: label IDs in an index of patches, else sample IDs
            sample_ids: the sample ID of each row

        Raises:
            InvalidInputError: if a value is not of its field's type, or too long for Milvus
        """
        samples = [ObjectId(i) for i in dict.fromkeys(sample_ids) if ObjectId.is_valid(i)]
        table: dict[str, Row] = {}
        keep = set(ids)
        for start in range(0, len(samples), BATCH):
            match = {"_id": {"$in": samples[start : start + BATCH]}}
            for rows in self._documents(match):
                table.update((_id, row) for _id, row in rows.items() if _id in keep)
        nothing = (None,) * len(self.columns)
        return [table.get(i, nothing) for i in ids]

    def batches(self, match: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Row]]]:
        """Yields the values of possible rows by primary key, in bounded memory.

        Args:
            match: a MongoDB query for samples

        Yields:
            the number of samples in this batch, and the values
        """
        samples, batch = 0, dict[str, Row]()
        for rows in self._documents(match):
            samples += 1
            batch.update(rows)
            if max(samples, len(batch)) >= BATCH:
                yield samples, batch
                samples, batch = 0, {}
        if samples:
            yield samples, batch

    def _projection(self, dataset: Any, patches_field: str | None) -> dict[str, Any]:
        project: dict[str, Any] = {"samples": [f"${c.path}" for c in self._on_samples]}
        if patches_field is None:
            return project
        root, is_list = label_root(dataset, patches_field)
        attributes = [label_attribute(dataset, patches_field, c.path) for c in self._on_labels]

        def label(start: str) -> list[str]:
            return [f"{start}._id", *(f"{start}.{attribute}" for attribute in attributes)]

        if is_list:
            each = {"input": {"$ifNull": [f"${root}", []]}, "as": "label", "in": label("$$label")}
            project["labels"] = {"$map": each}
        else:
            project["labels"] = [label(f"${root}")]
        return project

    def _documents(self, match: Mapping[str, Any]) -> Iterator[dict[str, Row]]:
        """Yields the possible rows of each sample by primary key."""
        pipeline = [{"$match": dict(match)}, {"$project": self._project}]
        for doc in self._samples.aggregate(pipeline, batchSize=BATCH):
            sample_id = str(doc["_id"])
            of_sample = _encoded(self._on_samples, doc["samples"], "sample", sample_id)
            if not self._patches:
                yield {sample_id: tuple(of_sample)}
                continue
            rows: dict[str, Row] = {}
            for _id, *values in doc["labels"]:
                if _id is not None:
                    label_id = str(_id)
                    row = of_sample + _encoded(self._on_labels, values, "label", label_id)
                    rows[label_id] = tuple([row[at] for at in self._order])
            yield rows


def _encoded(columns: Sequence[Column], values: Sequence[Any], what: str, _id: str) -> list[Any]:
    encoded: list[Any] = []
    try:
        for column, value in zip(columns, values):
            encoded.append(None if value is None else _ENCODERS[column.kind](value))
    except _UnfitError as unfit:
        path = columns[len(encoded)].path
        raise InvalidInputError(
            f"Field '{path}' of {what} '{_id}' holds {unfit}; change it, or leave the field out of "
            "fields"
        ) from None
    return encoded


class MilvusValues(Sequence[Mapping[str, Any]]):
    """The values of rows as Milvus takes them: a mapping of Milvus fields for each row.

    Args:
        columns: the columns
        rows: the values of each row
    """

    def __init__(self, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        self._columns = tuple(columns)
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return MilvusValues(self._columns, self._rows[at])
        return as_milvus(self._columns, self._rows[at])


def as_milvus(columns: Sequence[Column], row: Row) -> dict[str, Any]:
    """Returns the Milvus fields of a row of values."""
    fields: dict[str, Any] = {}
    for column, value in zip(columns, row):
        fields[column.name] = NEUTRAL[column.kind] if value is None else value
        fields[column.presence] = value is not None
    return fields


class _UnfitError(Exception):
    """A value that a column can't hold; the message says what was expected."""


def _unfit(value: Any, expected: str) -> _UnfitError:
    shown = repr(value)
    return _UnfitError(f"{shown[:60]}{'...' * (len(shown) > 60)}, expected {expected}")


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise _unfit(value, "a string")
    # A character has at most four bytes
    if 4 * len(value) > MAX_STRING_BYTES and len(value.encode()) > MAX_STRING_BYTES:
        raise _unfit(value, f"at most {MAX_STRING_BYTES} bytes")
    return value


def _int(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -INT64 <= value < INT64:
        raise _unfit(value, "an integer")
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _unfit(value, "a number")
    # MongoDB sorts NaN below all numbers, Milvus does not sort it; -inf must stay above it
    return -math.inf if math.isnan(value) else max(float(value), -sys.float_info.max)


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _unfit(value, "True or False")
    return value


def _milliseconds(value: Any) -> int:
    if not isinstance(value, datetime):
        raise _unfit(value, "a date")
    return milliseconds(value)


def _strings(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise _unfit(value, "a list of strings")
    found = list(dict.fromkeys(_string(v) for v in value if v is not None))
    if len(found) > MAX_STRINGS:
        raise _UnfitError(f"{len(found)} strings, expected at most {MAX_STRINGS}")
    return found


def milliseconds(value: date) -> int:
    """Returns milliseconds since 1970, UTC; a naive datetime or a date is UTC, as in MongoDB."""
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if value.tzinfo is None:
        value = value.replace(tzinfo=timezone.utc)
    return (value - _EPOCH) // _MILLISECOND


def from_milliseconds(value: int) -> datetime:
    """Returns the aware datetime of milliseconds since 1970."""
    return _EPOCH + value * _MILLISECOND


_ENCODERS: Mapping[Kind, Any] = {
    Kind.STRING: _string,
    Kind.INT: _int,
    Kind.FLOAT: _float,
    Kind.BOOL: _bool,
    Kind.DATE: _milliseconds,
    Kind.DATETIME: _milliseconds,
    Kind.STRINGS: _strings,
}
