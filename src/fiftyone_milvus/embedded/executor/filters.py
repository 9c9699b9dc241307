"""Evaluates filter expressions to masks over the rows of a view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from milvus_lite.search.filter import compile_filter, evaluate_mask
from milvus_lite.search.indexed_filter import evaluate_segment_filter

from fiftyone_milvus.embedded.executor import in_lists
from fiftyone_milvus.embedded.executor.conditions import (
    Conditions,
    has_dynamic_fields,
    names_of,
    plain_table,
)
from fiftyone_milvus.embedded.executor.in_lists import Membership
from fiftyone_milvus.embedded.executor.kept_masks import KeptMasks
from fiftyone_milvus.embedded.executor.live_rows import UnsupportedError, View
from fiftyone_milvus.embedded.executor.long_lists import LongLists, take_out
from fiftyone_milvus.embedded.executor.parts import LivePart, Mask
from fiftyone_milvus.embedded.markers import name_of
from fiftyone_milvus.embedded.storage.kept import Kept

Evaluation = Callable[[LivePart], Mask]

#: Milvus Lite caches 256 compiled expressions; longer ones would take gigabytes.
_MAX_CACHED = 4096
_KEPT = KeptMasks()
#: Which rows of a part match, a bit for each. Parts never change, so that a write changes only
#: the masks of the rows that it adds.
_OF_PARTS: Kept[npt.NDArray[np.uint8]] = Kept(32 << 20)
_SHORT = 256


def masks(view: View, col: Any, expr: str) -> list[Mask | None]:
    """The rows of each part of a view that are live and match, or None if all are.

    Raises:
        MilvusLiteError: Milvus Lite refuses the expression.
        UnsupportedError: Milvus Lite must evaluate it as a whole.
    """
    if not expr:
        return [part.live for part in view.parts]
    return _KEPT.get(view, expr, lambda: _masks(view, col, expr))


def _masks(view: View, col: Any, expr: str) -> list[Mask | None]:
    return [
        mask if part.live is None else mask & part.live
        for part, mask in zip(view.parts, _found(view, col, expr), strict=True)
    ]


def _found(view: View, col: Any, expr: str) -> list[Mask]:
    """The rows of each part that match; dead rows may match, too."""
    timezone = col._effective_timezone()
    name = f"{timezone} {expr if len(expr) <= _SHORT else name_of(expr)}"
    names = [f"{part.rows} {name}" for part in view.parts]
    kept = [_OF_PARTS.get(p.part, name) for p, name in zip(view.parts, names, strict=True)]
    evaluate = None
    if not kept or any(bits is None for bits in kept):
        member = in_lists.parse(expr, col)
        if member is not None and member.field == col._pk_name:
            return _split(view, in_lists.mask_of(view, member, col._pk_name))
        evaluate = _of_member(member, col) if member is not None else _evaluation(col, expr)
    found = []
    for part, bits, name in zip(view.parts, kept, names, strict=True):
        if bits is None:
            assert evaluate is not None
            mask = evaluate(part)
            bits = np.packbits(mask)
            _OF_PARTS.put(part.part, name, bits, bits.nbytes + len(name))
        else:
            mask = np.unpackbits(bits, count=part.rows).view(bool)
        found.append(mask)
    return found


def _split(view: View, mask: Mask) -> list[Mask]:
    return [
        mask[start:stop] for start, stop in zip(view.offsets[:-1], view.offsets[1:], strict=True)
    ]


def _of_member(member: Membership, col: Any) -> Evaluation:
    def evaluate(part: LivePart) -> Mask:
        found = in_lists.mask_of_part(part, member, col._pk_name)
        return ~found if member.negated else found

    return evaluate


def _evaluation(col: Any, expr: str) -> Evaluation:
    """Reads an expression.

    Raises:
        MilvusLiteError: Milvus Lite refuses it.
        UnsupportedError: Milvus Lite must evaluate it as a whole.
    """
    short, lists = take_out(expr)
    if len(short) <= _MAX_CACHED:
        compiled = col._compile_filter(short)
    else:
        compiled = compile_filter(short, col._schema, default_timezone=col._effective_timezone())
    if not has_dynamic_fields(compiled):
        plan = None if lists else col._indexed_filter_plan(compiled)
        return lambda part: _by_conditions(part, col, compiled, lists, plan)
    if lists:
        raise UnsupportedError("a long list together with dynamic fields")
    names = [*names_of(compiled), "$meta"]
    return lambda part: np.asarray(evaluate_mask(compiled, plain_table(part, names)), dtype=bool)


def _by_conditions(part: LivePart, col: Any, compiled: Any, lists: LongLists, plan: Any) -> Mask:
    segment = part.part.segment
    indexed = getattr(segment, "scalar_indexes", {})
    if plan is not None and plan.required_fields <= indexed.keys():
        return np.asarray(evaluate_segment_filter(segment, compiled, plan), dtype=bool)
    return Conditions(part, col, compiled, lists).mask()
