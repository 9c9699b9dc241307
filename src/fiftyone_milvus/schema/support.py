"""Checks whether an engine supports a vector index, before anything is made.

Milvus itself accepts some that it can't build: Milvus Lite accepts every name, and a Milvus 2.3
without DiskANN or a GPU accepts their indexes, never finishes them, and scans meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fiftyone_milvus.connection import Connection
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.schema.index_types import BUILD

SINCE: dict[str, tuple[int, int]] = {
    "SCANN": (2, 3),
    "GPU_IVF_FLAT": (2, 3),
    "GPU_IVF_PQ": (2, 3),
    "GPU_CAGRA": (2, 4),
    "GPU_BRUTE_FORCE": (2, 4),
    "HNSW_SQ": (2, 5),
    "HNSW_PQ": (2, 5),
    "HNSW_PRQ": (2, 5),
    "IVF_RABITQ": (2, 6),
}
"""The first Milvus release with an index type; all have the others."""

SQ4U_SINCE = (2, 6, 8)
"""The first Milvus release with ``sq_type`` SQ4U: https://milvus.io/docs/hnsw-sq.md."""

_PYPI_BUILD = "lite"


def check_offered(
    connection: Connection, index_type: str, params: Mapping[str, Any] | None = None
) -> None:
    """Checks that an engine can build an index.

    Args:
        connection: a connection to the engine
        index_type: a key of :data:`fiftyone_milvus.schema.index_types.BUILD`
        params: the build parameters, the user's or as Milvus reads them

    Raises:
        InvalidInputError: if it can't; the message names the engine, what it has and the remedy
    """
    engine = connection.engine
    where = f"{engine.title} at {connection.target.address}"
    if engine.lite:
        known = [name for name in BUILD if name in (engine.index_types or BUILD)]
        if index_type not in known:
            raise InvalidInputError(
                f"{where} has no {index_type} index; expected one of {', '.join(known)}, or "
                "the address of a Milvus server (uri=)"
            )
        _check_lite(where, index_type, params or {})
        return
    release, build = engine.release, engine.build
    if release is None:
        # For example Zilliz Cloud, which refuses what it lacks
        return
    since = SINCE.get(index_type, (0, 0))
    if release[:2] < since:
        raise InvalidInputError(
            f"{where} has no {index_type} index, which needs Milvus {since[0]}.{since[1]}; upgrade "
            "it, or use another index_type"
        )
    if (params or {}).get("sq_type") == "SQ4U" and release < SQ4U_SINCE:
        raise InvalidInputError(
            f"{where} has no sq_type 'SQ4U', which needs Milvus "
            f"{'.'.join(map(str, SQ4U_SINCE))}; upgrade it, or use another sq_type"
        )
    if index_type.startswith("GPU_") and build in ("", _PYPI_BUILD):
        raise InvalidInputError(
            f"{where} is built without GPU support, which {index_type} needs; use a Milvus whose "
            "version ends in -gpu (the image milvusdb/milvus:v...-gpu), or another index_type"
        )
    if index_type == "DISKANN" and build == _PYPI_BUILD:
        raise InvalidInputError(
            f"{where} is built without DiskANN; use Milvus' own image with "
            "queryNode.enableDisk: true, or another index_type"
        )


def offered(connection: Connection) -> list[str]:
    """Returns the index types that an engine can build with parameters that suit it.

    Args:
        connection: a connection to the engine

    Raises:
        ConnectionFailedError: if it does not answer
    """
    return [name for name in BUILD if _is_offered(connection, name)]


def _is_offered(connection: Connection, index_type: str) -> bool:
    try:
        check_offered(connection, index_type)
    except InvalidInputError:
        return False
    return True


def _check_lite(where: str, index_type: str, params: Mapping[str, Any]) -> None:
    """Refuses what Milvus Lite would ignore silently."""
    if index_type != "HNSW_SQ":
        return
    # A string where it is as Milvus reads it
    refined = str(params.get("refine")).lower() == "true"
    if params.get("sq_type", "SQ8") != "SQ8" or refined:
        raise InvalidInputError(
            f"{where} builds HNSW_SQ only with sq_type 'SQ8' and without refine, not with "
            f"{dict(params)}; leave these out, or give a Milvus server (uri=)"
        )
