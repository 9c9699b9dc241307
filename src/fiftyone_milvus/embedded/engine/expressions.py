"""Filter expressions as masks over the rows of a view.

``field in ["a", "b", ...]`` with its list read as JSON takes milliseconds for lists on which
Milvus Lite's parser, written in Python, spends seconds; its compiled form of everything else is
used as it is.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fiftyone_milvus.embedded.engine.liveview import View
from fiftyone_milvus.embedded.engine.parts import LivePart, Mask, Rows

#: Longer expressions are compiled each time: 256 of them, which Milvus Lite keeps, could be GBs.
_MAX_CACHED = 4096

_MEMBERSHIP = re.compile(
    r"\s*([A-Za-z_][A-Za-z0-9_]*)\s+(?:(not|NOT)\s+)?(?:in|IN)\s*(\[.*\])\s*\Z", re.DOTALL
)
_EQUALITY = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_]*)\s*==\s*("(?:[^"\\]|\\.)*")\s*\Z', re.DOTALL)
# Escapes on which JSON and Milvus Lite agree.
_FOREIGN_ESCAPE = re.compile(r"\\[^\"\\/nrtbfu]")


#: How many rows of a column are hashed in the time of one key's lookup.
_LOOKUP_COST = 16


@dataclass(frozen=True)
class Membership:
    """``field in values``, or ``field not in values``."""

    field: str
    values: list[Any]
    negated: bool = False


def parse_membership(expr: str, col: Any) -> Membership | None:
    """Read the common forms of a filter; None for any other, and for what is not valid.

    The list may hold strings for a VARCHAR field, or integers for an INT64 primary key.
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
    values = _plain_strings(body) if is_text else None
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


def _plain_strings(body: str) -> list[str] | None:
    # Three times as fast as JSON where no string needs an escape.
    if "\\" in body or not (body.startswith('["') and body.endswith('"]')):
        return None
    values = body[2:-2].split('", "')
    return values if body.count('"') == 2 * len(values) else None


def masks(view: View, col: Any, expr: str) -> list[Mask | None]:
    """For each part of the view, which rows are live and match; None: all of them.

    Raises:
        MilvusLiteError: Milvus Lite refuses the expression.
    """
    if not expr:
        return [part.live for part in view.parts]
    membership = parse_membership(expr, col)
    if membership is not None:
        found = _member_masks(view, membership, col._pk_name)
    else:
        found = _evaluate(view, col, expr)
    return [
        mask if part.live is None else mask & part.live
        for part, mask in zip(view.parts, found, strict=True)
    ]


def rows_of(view: View, pks: list[Any]) -> Rows:
    """Live row number of each primary key, -1 where there is none."""
    rows = np.full(len(pks), -1, dtype=np.int64)
    for part, start in zip(view.parts, view.offsets[:-1], strict=True):
        local = _lookup(part, pks)
        if part.live is not None:
            local[~part.live[local]] = -1
        np.copyto(rows, local + start, where=local >= 0)
    return rows


def _lookup(part: LivePart, pks: list[Any]) -> Rows:
    local = np.fromiter(
        map(part.part.pk_to_row.get, pks, repeat(-1)), dtype=np.int64, count=len(pks)
    )
    local[local >= part.rows] = -1
    return local


def _member_masks(view: View, membership: Membership, pk_name: str) -> list[Mask]:
    values = membership.values
    found: list[Mask] = []
    # A lookup in a dictionary of all keys misses the CPU's caches: good for a few keys only.
    if membership.field == pk_name and len(values) * _LOOKUP_COST < view.offsets[-1]:
        for part in view.parts:
            mask = np.zeros(part.rows, dtype=bool)
            local = _lookup(part, values)
            mask[local[local >= 0]] = True
            found.append(mask)
    elif view.parts:
        chunks = [c for part in view.parts for c in part.table().column(membership.field).chunks]
        column = pa.chunked_array(chunks)
        whole = pc.is_in(column, value_set=pa.array(values, type=column.type))
        mask = whole.to_numpy().astype(bool, copy=False)
        found = [
            mask[start:stop]
            for start, stop in zip(view.offsets[:-1], view.offsets[1:], strict=True)
        ]
    return [~mask for mask in found] if membership.negated else found


def _evaluate(view: View, col: Any, expr: str) -> list[Mask]:
    from milvus_lite.search.filter import compile_filter, evaluate_mask
    from milvus_lite.search.indexed_filter import evaluate_segment_filter

    if len(expr) <= _MAX_CACHED:
        compiled = col._compile_filter(expr)
    else:
        compiled = compile_filter(expr, col._schema, default_timezone=col._effective_timezone())
    plan = col._indexed_filter_plan(compiled)
    found: list[Mask] = []
    for part in view.parts:
        if part.part.segment is not None:
            mask = evaluate_segment_filter(part.part.segment, compiled, plan)
        else:
            mask = evaluate_mask(compiled, part.table())
        found.append(np.asarray(mask, dtype=bool))
    return found
