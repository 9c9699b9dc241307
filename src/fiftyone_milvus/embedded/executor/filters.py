"""Evaluates filter expressions to masks over the rows of a view."""

from __future__ import annotations

from typing import Any

import numpy as np
from milvus_lite.search.filter import compile_filter, evaluate_mask
from milvus_lite.search.indexed_filter import evaluate_segment_filter

from fiftyone_milvus.embedded.executor import in_lists
from fiftyone_milvus.embedded.executor.conditions import Conditions
from fiftyone_milvus.embedded.executor.kept_masks import KeptMasks
from fiftyone_milvus.embedded.executor.live_rows import UnsupportedError, View
from fiftyone_milvus.embedded.executor.long_lists import take_out
from fiftyone_milvus.embedded.executor.parts import Mask

#: Milvus Lite caches 256 compiled expressions; longer ones would take gigabytes.
_MAX_CACHED = 4096
_KEPT = KeptMasks()


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
    member = in_lists.parse(expr, col)
    if member is not None:
        found = _split(view, in_lists.mask_of(view, member, col._pk_name))
    else:
        found = _evaluate(view, col, expr)
    return [
        mask if part.live is None else mask & part.live
        for part, mask in zip(view.parts, found, strict=True)
    ]


def _split(view: View, mask: Mask) -> list[Mask]:
    return [
        mask[start:stop] for start, stop in zip(view.offsets[:-1], view.offsets[1:], strict=True)
    ]


def _evaluate(view: View, col: Any, expr: str) -> list[Mask]:
    short, lists = take_out(expr)
    if len(short) <= _MAX_CACHED:
        compiled = col._compile_filter(short)
    else:
        compiled = compile_filter(short, col._schema, default_timezone=col._effective_timezone())
    dynamic = col._schema.enable_dynamic_field
    if not lists and (compiled.backend != "python" or dynamic):
        return _by_milvus_lite(view, col, compiled)
    if compiled.backend == "hybrid" or dynamic:
        raise UnsupportedError("a long list together with dynamic fields")
    return _split(view, Conditions(view, col, compiled, lists).mask())


def _by_milvus_lite(view: View, col: Any, compiled: Any) -> list[Mask]:
    plan = col._indexed_filter_plan(compiled)
    found: list[Mask] = []
    for part in view.parts:
        if part.part.segment is not None:
            mask = evaluate_segment_filter(part.part.segment, compiled, plan)
        else:
            mask = evaluate_mask(compiled, part.table())
        found.append(np.asarray(mask, dtype=bool))
    return found
