"""Index types, their build and search parameters, and the defaults for each engine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fiftyone_milvus.connection import Engine
from fiftyone_milvus.errors import InvalidInputError

Range = tuple[int, int]
Names = dict[str, "Range | None"]
"""Parameters, and the range of each; None takes any value."""

_GRAPH: Names = {"M": (2, 2_048), "efConstruction": (1, 1_000_000)}
_LISTS: Names = {"nlist": (1, 65_536)}
_PRODUCT: Names = {**_LISTS, "m": (1, 32_768), "nbits": (1, 64)}
_REFINE: Names = {"refine": None, "refine_type": None}

BUILD: dict[str, Names | None] = {
    "FLAT": {},
    "IVF_FLAT": _LISTS,
    "IVF_SQ8": _LISTS,
    "IVF_PQ": _PRODUCT,
    "IVF_RABITQ": {**_LISTS, **_REFINE},
    "HNSW": _GRAPH,
    "HNSW_SQ": {**_GRAPH, **_REFINE, "sq_type": None},
    "HNSW_PQ": {**_GRAPH, **_REFINE, "m": (1, 32_768), "nbits": (1, 64)},
    "SCANN": {**_LISTS, "with_raw_data": None},
    "DISKANN": None,
    "GPU_IVF_FLAT": None,
    "GPU_IVF_PQ": None,
    "GPU_CAGRA": None,
    "GPU_BRUTE_FORCE": {},
    "AUTOINDEX": None,
}
"""The vector indexes and their build parameters; None takes any: https://milvus.io/docs/index.md."""

SEARCH_RANGES: dict[str, Range] = {
    "ef": (1, 32_768),
    "nprobe": (1, 65_536),
    "search_list": (1, 65_535),
}
"""The search parameters that bound how much of an index is looked at."""

_EF: Names = {"ef": SEARCH_RANGES["ef"]}
_PROBES: Names = {"nprobe": SEARCH_RANGES["nprobe"]}

SEARCH: dict[str, Names | None] = {
    "FLAT": {},
    "IVF_FLAT": _PROBES,
    "IVF_SQ8": _PROBES,
    "IVF_PQ": _PROBES,
    "IVF_RABITQ": {**_PROBES, "rbq_query_bits": (0, 8), "refine_k": None},
    "HNSW": _EF,
    "HNSW_SQ": {**_EF, "refine_k": None},
    "HNSW_PQ": {**_EF, "refine_k": None},
    "SCANN": {**_PROBES, "reorder_k": (1, 1_000_000)},
    "DISKANN": {"search_list": SEARCH_RANGES["search_list"]},
    "GPU_IVF_FLAT": None,
    "GPU_IVF_PQ": None,
    "GPU_CAGRA": None,
    "GPU_BRUTE_FORCE": {},
    "AUTOINDEX": None,
}
"""The search parameters of each index; None takes any."""

FOR_RESULTS = "k"
"""The search parameter that is ours: for how many results the others are enough."""

_RESULTS: Range = (1, 1_000_000)

_DEFAULT_BUILD: dict[str, dict[str, Any]] = {
    "HNSW": {"M": 16, "efConstruction": 200},
    "HNSW_SQ": {"M": 16, "efConstruction": 200, "sq_type": "SQ8"},
    "IVF_FLAT": {"nlist": 1_024},
    "IVF_SQ8": {"nlist": 1_024},
    "SCANN": {"nlist": 1_024},
    "GPU_IVF_FLAT": {"nlist": 1_024},
}

_MIN_EF = 128
_MIN_SEARCH_LIST = 100
_NPROBE = 64


def default_index_type(engine: Engine) -> str:
    """Returns the index type of a new collection where the user names none.

    Chosen by measurement (``docs/performance.md``): on a server HNSW; on the embedded engine an
    exact scan, which needs no build and takes milliseconds at the sizes it is for.
    """
    return "FLAT" if engine.lite else "HNSW"


def build_params(index_type: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the build parameters of an index: the user's over the defaults."""
    return {**_DEFAULT_BUILD.get(index_type, {}), **(params or {})}


def search_parameter(index_type: str) -> str | None:
    """Returns the search parameter that bounds how much of an index is looked at, or None."""
    if index_type.startswith("HNSW"):
        return "ef"
    return next((name for name in SEARCH.get(index_type) or () if name in SEARCH_RANGES), None)


def search_params(index_type: str, params: Mapping[str, Any] | None, limit: int) -> dict[str, Any]:
    """Returns the parameters of a search for ``limit`` rows: the user's over the defaults.

    Those that bound how much is looked at grow with ``limit``: Milvus refuses ``ef < limit``, and
    recall of the last results falls off where they are equal. Where the user's are for ``k``
    results (:data:`FOR_RESULTS`), they grow in proportion for more, up to the default.
    """
    found = dict(params or {})
    enough_for = found.pop(FOR_RESULTS, None)
    name = search_parameter(index_type)
    if name is None:
        return found
    default = _default_search(name, limit)
    value = found.get(name, default)
    if enough_for is not None and limit > enough_for:
        value = max(value, min(default, math.ceil(value * limit / enough_for)))
    if name != "nprobe":
        value = max(value, limit)
    found[name] = min(value, SEARCH_RANGES[name][1])
    return found


def _default_search(name: str, limit: int) -> int:
    if name == "ef":
        return max(_MIN_EF, 2 * limit)
    if name == "search_list":
        return max(_MIN_SEARCH_LIST, 2 * limit)
    # Lists may be short: as many as rows are asked for hold enough of them
    return max(_NPROBE, limit)


def check_index(
    index_type: Any, build: Any, search: Any
) -> tuple[str | None, dict[str, Any] | None, dict[str, Any] | None]:
    """Validates the index parameters of a config.

    Returns:
        the index type in Milvus' own spelling, the build and the search parameters

    Raises:
        InvalidInputError: naming the parameter, its value and what was expected
    """
    if index_type is not None:
        name = str(index_type).upper()
        if name not in BUILD:
            raise InvalidInputError(
                f"Unsupported index_type {index_type!r}; expected one of {', '.join(BUILD)}"
            )
        index_type = name
    for title, params, table in (
        ("index_params", build, BUILD),
        ("search_params", search, SEARCH),
    ):
        if params is None:
            continue
        if not isinstance(params, Mapping) or not all(isinstance(k, str) for k in params):
            raise InvalidInputError(
                f"{title}={params!r} is no dictionary; expected one like {{'M': 16}}"
            )
        given = dict(params)
        if title == "search_params" and FOR_RESULTS in given:
            _check_range(title, FOR_RESULTS, given.pop(FOR_RESULTS), _RESULTS)
        _check_ranges(title, given, table, index_type)
    return (
        index_type,
        None if build is None else dict(build),
        None if search is None else dict(search),
    )


def _check_ranges(
    title: str, params: Mapping[str, Any], table: Mapping[str, Names | None], index_type: str | None
) -> None:
    if index_type is not None:
        known = table[index_type]
        if known is None:
            return
        whose = f"index_type {index_type!r} takes {sorted(known) or 'none'}"
    else:
        known = {k: v for names in table.values() for k, v in (names or {}).items()}
        whose = f"say which index_type, or give some of {sorted(known)}"
    for name, value in params.items():
        if name not in known:
            raise InvalidInputError(f"Unknown {title} {name!r}; {whose}")
        limits = known[name]
        if limits is not None:
            _check_range(title, name, value, limits)


def _check_range(title: str, name: str, value: Any, limits: Range) -> None:
    low, high = limits
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidInputError(
            f"{title}[{name!r}] is {value!r}; expected an integer from {low} to {high}"
        )
