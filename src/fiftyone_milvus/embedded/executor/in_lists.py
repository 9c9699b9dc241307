"""Filters of the form ``field in [...]``, the most common one, read as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fiftyone_milvus.embedded.executor.live_rows import View
from fiftyone_milvus.embedded.executor.long_lists import plain_strings
from fiftyone_milvus.embedded.executor.parts import LivePart, Mask
from fiftyone_milvus.embedded.executor.vectors import Rows
from fiftyone_milvus.embedded.storage.keys import ObjectIds

_MEMBERSHIP = re.compile(
    r"\s*([A-Za-z_][A-Za-z0-9_]*)\s+(?:(not|NOT)\s+)?(?:in|IN)\s*(\[.*\])\s*\Z", re.DOTALL
)
_START = re.compile(r"\s*[A-Za-z_][A-Za-z0-9_]*\s+(?:(?:not|NOT)\s+)?(?:in|IN)\s*\[")
_EQUALITY = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_]*)\s*==\s*("(?:[^"\\]|\\.)*")\s*\Z', re.DOTALL)
# Escapes that JSON and Milvus Lite do not read alike.
_FOREIGN_ESCAPE = re.compile(r"\\[^\"\\/nrtbfu]")

#: One lookup of a key takes as long as hashing this many rows of a column.
_LOOKUP_COST = 16


@dataclass(frozen=True)
class Membership:
    """``field in values``, or ``field not in values``."""

    field: str
    values: Sequence[Any]
    negated: bool = False


def parse(expr: str, col: Any) -> Membership | None:
    """Reads a filter on one list; None for any other filter, and for one that is not valid.

    The list may have strings for a VARCHAR field, or integers for an INT64 primary key.
    """
    match = _MEMBERSHIP.match(expr)
    if match is not None:
        field, negated, body = match.group(1), match.group(2) is not None, match.group(3)
        if "'" in body and '"' not in body and "\\" not in body:
            body = body.replace("'", '"')  # as pymilvus writes the IDs of get() and delete()
    else:
        match = _EQUALITY.match(expr)
        if match is None:
            return None
        field, negated, body = match.group(1), False, f"[{match.group(2)}]"
    if "\\" in body and _FOREIGN_ESCAPE.search(body):
        return None
    schema_field = next((f for f in col._schema.fields if f.name == field), None)
    if schema_field is None:
        return None
    is_text = schema_field.dtype.name == "VARCHAR"
    values: Sequence[Any] | None = None
    if is_text:
        values = ObjectIds.of_list(body) or plain_strings(body)
    if values is None:
        try:
            values = json.loads(body, strict=False)
        except ValueError:
            return None
        kinds = set(map(type, values))
        is_key = schema_field.dtype.name == "INT64" and schema_field.is_primary
        if not ((is_text and kinds <= {str}) or (is_key and kinds <= {int})):
            return None
    return Membership(field, values, negated)


def is_one_list(expr: str) -> bool:
    """Whether a filter has one list and nothing else, so that only rows decide what it means."""
    return _START.match(expr) is not None and expr.rstrip().endswith("]") and expr.count("[") == 1


def rows_of(view: View, pks: Sequence[Any]) -> Rows:
    """Live row number of each primary key, -1 where there is none."""
    rows = np.full(len(pks), -1, dtype=np.int64)
    for part, start in zip(view.parts, view.offsets[:-1], strict=True):
        local = _lookup(part, pks)
        if part.live is not None:
            local[~part.live[local]] = -1
        np.copyto(rows, local + start, where=local >= 0)
    return rows


def _lookup(part: LivePart, pks: Sequence[Any]) -> Rows:
    local = part.part.keys.rows(pks)
    local[local >= part.rows] = -1
    return local


def mask_of(view: View, membership: Membership, pk_name: str) -> Mask:
    """Which rows of a view match; dead rows may match, too.

    A null is in no list, so ``not in`` is true for it.
    """
    values = membership.values
    mask = np.zeros(int(view.offsets[-1]), dtype=bool)
    # Lookups in a dictionary of all keys miss the CPU's caches: they pay for a few keys only.
    few = len(values) * _LOOKUP_COST < len(mask)
    if membership.field == pk_name and (few or isinstance(values, ObjectIds)):
        found = view.mark(values, mask) if isinstance(values, ObjectIds) else 0
        for part, start in zip(view.parts[found:], view.offsets[found:-1], strict=True):
            local = _lookup(part, values)
            mask[local[local >= 0] + start] = True
    else:
        for part, start in zip(view.parts, view.offsets[:-1], strict=True):
            mask[start : start + part.rows] = mask_of_part(part, membership, pk_name)
    return ~mask if membership.negated else mask


def mask_of_part(part: LivePart, membership: Membership, pk_name: str) -> Mask:
    """Which rows of a part have one of the values, also where they are negated."""
    values = membership.values
    if membership.field == pk_name and len(values) * _LOOKUP_COST < part.rows:
        mask = np.zeros(part.rows, dtype=bool)
        local = _lookup(part, values)
        mask[local[local >= 0]] = True
        return mask
    column = part.column(membership.field)
    encoded = pa.types.is_dictionary(column.type)
    among = column.dictionary if encoded else column
    asked = pa.array(list(values), type=among.type)
    found = pc.is_in(among, value_set=asked).to_numpy(zero_copy_only=False)
    if encoded:
        # A null has the code of no value
        found = np.append(found, False)
        found = found.take(pc.fill_null(column.indices, len(among)).to_numpy())
    return np.asarray(found, dtype=bool)
