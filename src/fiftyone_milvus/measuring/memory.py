"""Estimates the memory of a vector index from its build parameters, as no Milvus reports it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fiftyone_milvus.collection import EXACT, MilvusCollection

_ID = 8
_LINK = 4
_FACTORS = 8
"""Of RaBitQ: two numbers beside the bits."""
_MAPPED_ROW = 60
"""Of the embedded engine, for a row of which the vector stays in its file: keys and masks."""

COPIED_BYTES = 256 << 20
"""From so many bytes of vectors on, the embedded engine keeps codes instead of copies."""

_COPIED = ("HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8")

_WIDTHS = {"SQ4U": 0.5, "SQ6": 0.75, "SQ8": 1, "FP16": 2, "BF16": 2, "FP32": 4}
"""The bytes of a dimension."""


def index_size(collection: MilvusCollection, rows: int) -> int | None:
    """Returns the memory of a collection's vector index in bytes, by :func:`estimate`.

    Args:
        collection: an existing collection
        rows: the number of its vectors
    """
    layout = collection.layout
    return estimate(
        str(layout.index_type),
        rows,
        layout.dimension,
        collection.built().params,
        embedded=collection.connection.engine.lite,
    )


def estimate(
    index_type: str,
    rows: int,
    dimension: int,
    params: Mapping[str, Any],
    *,
    embedded: bool = False,
) -> int | None:
    """Returns the size of an index in bytes, without sparse upper layers and overhead.

    According to https://github.com/facebookresearch/faiss/wiki/Guidelines-to-choose-an-index, as
    Milvus and Milvus Lite build on Faiss: HNSW keeps ``2 M`` links of 4 bytes per vector, IVF an
    ID of 8 bytes per vector and a centroid per list; SQ8 stores a byte per dimension, PQ
    ``m * nbits`` bits per vector. SCANN stores 4 bits for two dimensions, and the vectors unless
    ``with_raw_data`` is off; ``refine`` adds vectors of its ``refine_type``. On the embedded engine
    the vectors stay in their files, and an index is beside them; AUTOINDEX has codes of 2 bits a
    dimension there (measured, see ``docs/sizing.md``), and so have HNSW, HNSW_SQ, IVF_FLAT and
    IVF_SQ8 from :data:`COPIED_BYTES` of vectors on. RaBitQ stores a bit a dimension.

    Args:
        index_type: for example ``"HNSW"``
        rows: the number of vectors
        dimension: their dimension
        params: the build parameters
        embedded (False): whether the index is on the embedded engine

    Returns:
        the size, or None where it is unknown, for example for DISKANN, and AUTOINDEX on a server
    """
    large = index_type in _COPIED and 4 * rows * dimension >= COPIED_BYTES
    if embedded and (index_type in (*EXACT, "AUTOINDEX") or large):
        codes = 0 if index_type in EXACT else dimension // 4
        return rows * (_MAPPED_ROW + codes)
    if index_type in EXACT:
        return rows * 4 * dimension
    size = _built(index_type, rows, dimension, params, embedded)
    return size if size is None or not embedded else size + rows * _MAPPED_ROW


def _built(
    index_type: str, rows: int, dimension: int, params: Mapping[str, Any], embedded: bool
) -> int | None:
    vector: float = 4 * dimension
    name, _, compression = index_type.partition("_")
    if index_type == "SCANN":
        name, codes = "IVF", dimension // 4
        vector = codes + (vector if _flag(params, "with_raw_data", True) else 0)
    elif compression in ("SQ", "SQ8"):
        vector = _width(params.get("sq_type", "SQ8")) * dimension
    elif compression == "PQ":
        vector = -(-int(params.get("m", dimension)) * int(params.get("nbits", 8)) // 8)
    elif compression == "RABITQ":
        vector = dimension / 8 + _FACTORS
    elif compression not in ("", "FLAT"):
        return None
    # On the embedded engine, it is the vectors in their files that refine
    if _flag(params, "refine", False) and not embedded:
        vector += _width(params.get("refine_type", "FP32")) * dimension
    if name == "HNSW":
        return round(rows * (vector + 2 * int(params.get("M", 16)) * _LINK))
    if name == "IVF":
        lists = min(int(params.get("nlist", 128)), rows)
        return round(rows * (vector + _ID) + lists * 4 * dimension)
    return None


def _width(precision: Any) -> float:
    return _WIDTHS.get(str(precision).upper(), _WIDTHS["FP32"])


def _flag(params: Mapping[str, Any], name: str, default: bool) -> bool:
    """Returns a boolean parameter, which Milvus reports as a string."""
    return str(params.get(name, default)).lower() == "true"
