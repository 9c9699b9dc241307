"""Searches the Faiss indexes that are attached to segments: Milvus Lite's, and ``IVF_RABITQ``."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fiftyone_milvus.embedded.executor.parts import LivePart
from fiftyone_milvus.embedded.executor.scan import Hits, ordered
from fiftyone_milvus.embedded.executor.vectors import THREADS, Floats, Rows, threads
from fiftyone_milvus.embedded.storage.automatic_index import RabitqIndex
from fiftyone_milvus.embedded.storage.codes import Codes

#: With a larger share of dead rows, a graph search would mostly visit dead rows.
_MAX_DEAD_SHARE = 0.2
_EMPTY_SLOT = 1e30
#: Milvus compares no more rows exactly than are asked for, by default; here more cost little.
_NPROBE, _REFINE_K = 8, 10.0
#: Without rounding (0), Faiss takes fifty times as long, and finds the same rows.
_QUERY_BITS = 8


def usable(part: LivePart, field: str, k: int, metric: str) -> Any:
    """The index attached to a part, if it answers well for all of its live rows; else None."""
    segment = part.part.segment
    index = None if segment is None else segment.indexes.get(field)
    if (
        index is not None
        and str(index.index_type).startswith(("IVF", "HNSW"))
        and index.metric == metric
        and index.num_vectors == part.rows
        and part.count >= (1.0 - _MAX_DEAD_SHARE) * part.rows
        and 2 * k <= part.count
        and getattr(index, "rabitq", index) is not None
    ):
        return index
    return None


def codes(part: LivePart, field: str, metric: str) -> Codes | None:
    """The codes of a part; None while it has none, and where it is small."""
    segment = part.part.segment
    found = None if segment is None else getattr(segment.indexes.get(field), "codes", None)
    return found if found is not None and found.metric == metric else None


def is_indexed(part: LivePart, field: str) -> bool:
    """Whether an index of a field, of vectors or scalars, is attached to the part."""
    segment = part.part.segment
    if segment is None:
        return False
    index = segment.indexes.get(field)
    return getattr(index, "is_ready", index is not None) or field in getattr(
        segment, "scalar_indexes", ()
    )


def search(
    index: Any,
    part: LivePart,
    field: str,
    queries: Floats,
    k: int,
    metric: str,
    params: Mapping[str, Any],
) -> Hits:
    """Finds up to ``k`` rows for each query with an index, with Milvus' scores.

    Args:
        index: what :func:`usable` returned for the part.
        part: the part.
        field: the vector field.
        queries: float32 of shape ``(queries, dim)``; of length one under COSINE.
        k: number of hits.
        metric: ``COSINE``, ``IP`` or ``L2``.
        params: the request's; ``nprobe`` (default 10) or ``ef`` (default 64), as in Milvus Lite.
            Of ``IVF_RABITQ``: ``nprobe`` (default 8), ``refine_k`` (10), ``rbq_query_bits`` (8)
    """
    faiss: Any = importlib.import_module("faiss")
    faiss.omp_set_num_threads(THREADS)  # which share the queries
    if isinstance(index, RabitqIndex):
        return _search_rabitq(index, part, field, queries, k, metric, params)
    options: dict[str, Any] = {}
    if part.live is not None:
        options["sel"] = faiss.IDSelectorBitmap(np.packbits(part.live, bitorder="little"))
    # Passed with the call, because all threads share the attributes that Milvus Lite sets.
    if str(index.index_type).startswith("IVF"):
        search_params = faiss.SearchParametersIVF(nprobe=int(params.get("nprobe", 10)), **options)
    else:
        search_params = faiss.SearchParametersHNSW(efSearch=int(params.get("ef", 64)), **options)
    found = index._index.search(np.ascontiguousarray(queries), k, params=search_params)
    scores: Floats = found[0]
    rows = found[1].astype(np.int64)
    rows[np.abs(scores) >= _EMPTY_SLOT] = -1
    if metric == "L2":
        scores = np.maximum(scores, 0.0)
    return Hits(rows, scores)


def _search_rabitq(
    index: RabitqIndex,
    part: LivePart,
    field: str,
    queries: Floats,
    k: int,
    metric: str,
    params: Mapping[str, Any],
) -> Hits:
    """Codes choose the rows, exact comparisons the best of them."""
    assert index.rabitq is not None
    refine_k = float(params.get("refine_k", _REFINE_K)) if index.refine else 1.0
    count = min(max(k, math.ceil(k * refine_k)), part.count)
    nprobe = int(params.get("nprobe", _NPROBE))
    bits = int(params.get("rbq_query_bits", 0)) or _QUERY_BITS
    rows = index.rabitq.search(queries, count, nprobe, bits, part.live)
    scores = np.zeros(rows.shape, np.float32)
    vectors = part.vectors(field)

    def compare(query: Floats, some: Rows, line: Floats) -> None:
        line[:] = vectors.scores_of(np.maximum(some, 0), query, metric)

    list((threads.map if len(queries) > 1 else map)(compare, queries, rows, scores))
    if metric == "L2":
        scores = -scores
    elif metric == "COSINE":
        scores *= part.norms(field).inverse_of(np.maximum(rows, 0).ravel()).reshape(rows.shape)
        np.minimum(scores, 1.0, out=scores)
    return ordered(rows, scores, k, metric)
