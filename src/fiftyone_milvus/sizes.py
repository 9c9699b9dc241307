"""How much memory a vector index takes, as Milvus reports it, or else as it is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fiftyone_milvus.collection import EXACT, MilvusCollection

REPORTED = "reported by Milvus"
ESTIMATED = "estimated"

_ID = 8
_LINK = 4


class IndexSize(NamedTuple):
    """The memory of a vector index.

    Attributes:
        bytes: of the index with the vectors in it; None if nothing tells
        source: :data:`REPORTED` for the segments that are loaded, or :data:`ESTIMATED`, see
            :func:`estimate`
    """

    bytes: int | None
    source: str


def index_size(collection: MilvusCollection, rows: int) -> IndexSize:
    """Returns the memory of a collection's vector index.

    Args:
        collection: an existing collection
        rows: how many vectors it has
    """
    reported = collection.loaded_bytes()
    if reported:
        return IndexSize(reported, REPORTED)
    layout = collection.layout
    params = collection.built().params
    return IndexSize(estimate(str(layout.index_type), rows, layout.dimension, params), ESTIMATED)


def estimate(index_type: str, rows: int, dimension: int, params: Mapping[str, Any]) -> int | None:
    """Returns the bytes that an index consists of; sparse upper layers and overhead come on top.

    By https://github.com/facebookresearch/faiss/wiki/Guidelines-to-choose-an-index, as Milvus'
    Knowhere and Milvus Lite build on Faiss: HNSW keeps ``2 M`` links of 4 bytes per vector, IVF an
    ID of 8 bytes per vector and a centroid per list; SQ8 stores a byte per dimension, PQ
    ``m * nbits`` bits per vector. SCANN has 4 bits for each two dimensions, and the vectors.

    Args:
        index_type: as ``"HNSW"``
        rows: how many vectors
        dimension: of the vectors
        params: the build parameters

    Returns:
        None for indexes of which this is not known, as those on disk and ``AUTOINDEX``
    """
    vector = 4 * dimension
    if index_type in EXACT:
        return rows * vector
    name, _, compression = index_type.partition("_")
    if index_type == "SCANN":
        name, vector = "IVF", vector + dimension // 4
    elif compression in ("SQ", "SQ8"):
        vector = dimension
    elif compression == "PQ":
        vector = -(-_number(params, "m", dimension) * _number(params, "nbits", 8) // 8)
    elif compression not in ("", "FLAT"):
        return None
    if name == "HNSW":
        return rows * (vector + 2 * _number(params, "M", 16) * _LINK)
    if name == "IVF":
        lists = min(_number(params, "nlist", 128), rows)
        return rows * (vector + _ID) + lists * 4 * dimension
    return None


def _number(params: Mapping[str, Any], name: str, default: int) -> int:
    return int(params.get(name, default))
