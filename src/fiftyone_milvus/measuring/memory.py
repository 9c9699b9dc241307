"""How much memory a vector index takes, by how it is built: no Milvus reports it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fiftyone_milvus.collection import EXACT, MilvusCollection

_ID = 8
_LINK = 4
_COPIES = 4
_WIDTHS = {"SQ4U": 0.5, "SQ6": 0.75, "SQ8": 1, "FP16": 2, "BF16": 2, "FP32": 4}
"""The bytes of a dimension."""


def index_size(collection: MilvusCollection, rows: int) -> int | None:
    """Returns the bytes of memory of a collection's vector index, as :func:`estimate` does.

    Args:
        collection: an existing collection
        rows: how many vectors it has
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
    """Returns the bytes that an index consists of; sparse upper layers and overhead come on top.

    By https://github.com/facebookresearch/faiss/wiki/Guidelines-to-choose-an-index, as Milvus'
    Knowhere and Milvus Lite build on Faiss: HNSW keeps ``2 M`` links of 4 bytes per vector, IVF an
    ID of 8 bytes per vector and a centroid per list; SQ8 stores a byte per dimension, PQ
    ``m * nbits`` bits per vector. SCANN has 4 bits for each two dimensions, and the vectors unless
    ``with_raw_data`` is off; ``refine`` adds vectors of its ``refine_type``.

    The embedded engine keeps four copies of the vectors beside any index (measured, see
    ``docs/performance.md``).

    Args:
        index_type: as ``"HNSW"``
        rows: how many vectors
        dimension: of the vectors
        params: the build parameters
        embedded (False): whether it is on the embedded engine

    Returns:
        None for indexes of which this is not known, as those on disk and ``AUTOINDEX``
    """
    copies = _COPIES * rows * 4 * dimension if embedded else 0
    if index_type in EXACT:
        return copies or rows * 4 * dimension
    size = _built(index_type, rows, dimension, params)
    return None if size is None else copies + size


def _built(index_type: str, rows: int, dimension: int, params: Mapping[str, Any]) -> int | None:
    vector: float = 4 * dimension
    name, _, compression = index_type.partition("_")
    if index_type == "SCANN":
        name, codes = "IVF", dimension // 4
        vector = codes + (vector if _is(params, "with_raw_data", True) else 0)
    elif compression in ("SQ", "SQ8"):
        vector = _width(params.get("sq_type", "SQ8")) * dimension
    elif compression == "PQ":
        vector = -(-_number(params, "m", dimension) * _number(params, "nbits", 8) // 8)
    elif compression not in ("", "FLAT"):
        return None
    if _is(params, "refine", False):
        vector += _width(params.get("refine_type", "FP32")) * dimension
    if name == "HNSW":
        return round(rows * (vector + 2 * _number(params, "M", 16) * _LINK))
    if name == "IVF":
        lists = min(_number(params, "nlist", 128), rows)
        return round(rows * (vector + _ID) + lists * 4 * dimension)
    return None


def _width(precision: Any) -> float:
    return _WIDTHS.get(str(precision).upper(), _WIDTHS["FP32"])


def _number(params: Mapping[str, Any], name: str, default: int) -> int:
    return int(params.get(name, default))


def _is(params: Mapping[str, Any], name: str, default: bool) -> bool:
    """Returns a boolean that may be Milvus', which is a string."""
    return str(params.get(name, default)).lower() == "true"
