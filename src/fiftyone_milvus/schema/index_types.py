"""Index types, their build and search parameters, and the defaults for each engine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fiftyone_milvus.connection import Engine
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.numbers import as_integer, as_number

Range = tuple[int, int]

Allowed = tuple[int, int] | tuple[float, float] | tuple[str, ...] | type[bool] | None
"""Integers of a range, numbers of a range, one of some names, a boolean, or any value."""

Names = dict[str, Allowed]
"""Parameters, and the allowed values of each."""

_INT = (1, 2**31 - 1)
_GRAPH: Names = {"M": (2, 2_048), "efConstruction": _INT}
_LISTS: Names = {"nlist": (1, 65_536)}
_PRODUCT: Names = {"m": (1, 65_536), "nbits": (1, 24)}
_REFINE: Names = {"refine": bool, "refine_type": ("SQ6", "SQ8", "BF16", "FP16", "FP32")}
_ON_DEVICE: Names = {"cache_dataset_on_device": bool}

BUILD: dict[str, Names | None] = {
    "FLAT": {},
    "IVF_FLAT": _LISTS,
    "IVF_SQ8": _LISTS,
    "IVF_PQ": {**_LISTS, **_PRODUCT},
    "IVF_RABITQ": {**_LISTS, **_REFINE},
    "HNSW": _GRAPH,
    "HNSW_SQ": {**_GRAPH, **_REFINE, "sq_type": ("SQ4U", "SQ6", "SQ8", "BF16", "FP16")},
    "HNSW_PQ": {**_GRAPH, **_REFINE, **_PRODUCT},
    "HNSW_PRQ": {**_GRAPH, **_REFINE, **_PRODUCT, "nrq": (1, 16)},
    "SCANN": {**_LISTS, "with_raw_data": bool},
    "DISKANN": None,
    "GPU_IVF_FLAT": {**_LISTS, **_ON_DEVICE},
    "GPU_IVF_PQ": {**_LISTS, **_PRODUCT, **_ON_DEVICE},
    "GPU_CAGRA": {
        **_ON_DEVICE,
        "intermediate_graph_degree": _INT,
        "graph_degree": _INT,
        "build_algo": ("IVF_PQ", "NN_DESCENT"),
        "adapt_for_cpu": bool,
    },
    "GPU_BRUTE_FORCE": {},
    "AUTOINDEX": None,
}
"""The index types and their build parameters; None allows any.

Ranges are those of https://milvus.io/docs/index-explained.md and the pages of the index types, or
of Knowhere, which builds them, where that allows less.
"""

SEARCH_RANGES: dict[str, Range] = {
    "ef": (1, 32_768),
    "nprobe": (1, 65_536),
    "search_list": (1, 65_535),
}
"""The search parameters that bound how much of an index is searched."""

_EF: Names = {"ef": SEARCH_RANGES["ef"]}
_NPROBE: Names = {"nprobe": SEARCH_RANGES["nprobe"]}
_REFINE_K: Names = {"refine_k": (1.0, 1000.0)}

SEARCH: dict[str, Names | None] = {
    "FLAT": {},
    "HNSW": _EF,
    **{name: {**_EF, **_REFINE_K} for name in ("HNSW_SQ", "HNSW_PQ", "HNSW_PRQ")},
    **dict.fromkeys(("IVF_FLAT", "IVF_SQ8", "IVF_PQ", "GPU_IVF_FLAT", "GPU_IVF_PQ"), _NPROBE),
    "IVF_RABITQ": {**_NPROBE, **_REFINE_K, "rbq_query_bits": (0, 8)},
    "SCANN": {**_NPROBE, "reorder_k": (1, 1_000_000)},
    "DISKANN": {"search_list": SEARCH_RANGES["search_list"]},
    "GPU_CAGRA": {
        **_EF,
        "itopk_size": _INT,
        "search_width": _INT,
        "min_iterations": (0, 2**31 - 1),
        "max_iterations": (0, 2**31 - 1),
        "team_size": (0, 32),
    },
    "GPU_BRUTE_FORCE": {},
    "AUTOINDEX": None,
}
"""The search parameters of each index type; None allows any."""

FOR_RESULTS = "k"
"""Our own search parameter: the number of results that the others suffice for."""

_RESULTS: Range = (1, 1_000_000)

_DEFAULT_GRAPH = {"M": 16, "efConstruction": 200}

DEFAULT_BUILD: dict[str, dict[str, Any]] = {
    "HNSW": _DEFAULT_GRAPH,
    "HNSW_SQ": {**_DEFAULT_GRAPH, "sq_type": "SQ8"},
    "HNSW_PQ": _DEFAULT_GRAPH,
    "HNSW_PRQ": _DEFAULT_GRAPH,
    **{name: {"nlist": 1_024} for name, params in BUILD.items() if "nlist" in (params or ())},
}
"""The build parameters that this package sets where the user does not."""

_GPU_LIMIT = 1_024

_MIN_EF = 128
_MIN_SEARCH_LIST = 100
_MIN_NPROBE = 64
_MIN_REORDER = 500


def default_index_type(engine: Engine) -> str:
    """Returns the index type of a new collection where the user names none.

    By measurement (``docs/performance.md``): HNSW on a server; on the embedded engine AUTOINDEX,
    which compares every vector of a small collection, and of a large one those that compact codes
    choose.
    """
    return "AUTOINDEX" if engine.lite else "HNSW"


def build_params(
    index_type: str, params: Mapping[str, Any] | None, dimension: int
) -> dict[str, Any]:
    """Returns the build parameters of an index as Milvus reads them: the user's over the defaults.

    Args:
        index_type: a key of :data:`BUILD`
        params: the user's build parameters
        dimension: the dimension of the vectors

    Raises:
        InvalidInputError: if the dimension is no multiple of ``m``
    """
    found = {**DEFAULT_BUILD.get(index_type, {}), **(params or {})}
    if "m" in (BUILD.get(index_type) or {}):
        # Milvus has no default, and recommends half the dimension: two numbers in a byte
        half = max(1, dimension // 2)
        parts = found.setdefault("m", next(m for m in range(half, 0, -1) if dimension % m == 0))
        if dimension % parts:
            raise InvalidInputError(
                f"index_params['m'] is {parts}; expected a divisor of {dimension}, the dimension "
                "of the vectors"
            )
    # pymilvus would write booleans in Python's spelling, which Milvus does not read
    return {k: str(v).lower() if isinstance(v, bool) else v for k, v in found.items()}


def window(index_type: str | None) -> int | None:
    """Returns the most rows that a search of an index returns, or None for Milvus' own limit.

    https://milvus.io/docs/gpu-index-overview.md
    """
    return _GPU_LIMIT if index_type in ("GPU_CAGRA", "GPU_IVF_FLAT", "GPU_IVF_PQ") else None


def search_parameter(index_type: str) -> str | None:
    """Returns the search parameter that bounds how much of an index is searched, or None."""
    if index_type.startswith("HNSW"):
        return "ef"
    if index_type == "GPU_CAGRA":
        # Its ef is for searches without a GPU
        return None
    return next((name for name in SEARCH.get(index_type) or () if name in SEARCH_RANGES), None)


def search_params(index_type: str, params: Mapping[str, Any] | None, limit: int) -> dict[str, Any]:
    """Returns the parameters of a search for ``limit`` rows: the user's over the defaults.

    Those that bound how much is searched grow with ``limit``: Milvus refuses ``ef < limit``, and
    the recall of the last results drops where they are equal. Where the user's are for ``k``
    results (:data:`FOR_RESULTS`), they grow in proportion up to the default for more results. That
    is a guess, and may find less than the default.
    """
    found = dict(params or {})
    enough_for = found.pop(FOR_RESULTS, None)
    name = search_parameter(index_type)
    if name is not None:
        default = _default_search(name, limit)
        value = found.get(name, default)
        if enough_for is not None and limit > enough_for:
            value = max(value, min(default, math.ceil(value * limit / enough_for)))
        if name != "nprobe":
            value = max(value, limit)
        found[name] = min(value, SEARCH_RANGES[name][1])
    if index_type == "SCANN":
        # Milvus' own default, the number of results, finds a third of the true neighbors
        found["reorder_k"] = max(found.get("reorder_k", max(_MIN_REORDER, 10 * limit)), limit)
    elif index_type == "GPU_CAGRA":
        found["itopk_size"] = max(found.get("itopk_size", max(_MIN_EF, 2 * limit)), limit)
    return found


def _default_search(name: str, limit: int) -> int:
    if name == "ef":
        return max(_MIN_EF, 2 * limit)
    if name == "search_list":
        return max(_MIN_SEARCH_LIST, 2 * limit)
    # Lists may be short, but as many lists as results hold enough rows
    return max(_MIN_NPROBE, limit)


def check_index(
    index_type: Any, build: Any, search: Any
) -> tuple[str | None, dict[str, Any] | None, dict[str, Any] | None]:
    """Checks the index parameters of a config.

    Args:
        index_type: the index type, or None for the default
        build: the build parameters, or None
        search: the search parameters, or None

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
                f"{title}={params!r} is not a dictionary; expected one such as {{'M': 16}}"
            )
        given = dict(params)
        if title == "search_params" and FOR_RESULTS in given:
            _check_value(title, FOR_RESULTS, given.pop(FOR_RESULTS), _RESULTS)
        _check_ranges(title, given, table, index_type)
    return (
        index_type,
        None if build is None else {name: _built_in(value) for name, value in build.items()},
        None if search is None else {name: _built_in(value) for name, value in search.items()},
    )


def check_metric(index_type: str | None, metric: str) -> None:
    """Checks that an index can be built for a metric.

    Args:
        index_type: a key of :data:`BUILD`, or None for the default
        metric: FiftyOne's name of the metric

    Raises:
        InvalidInputError: if it can't (https://milvus.io/docs/gpu-index-overview.md)
    """
    if metric == "cosine" and index_type is not None and index_type.startswith("GPU_"):
        raise InvalidInputError(
            f"index_type {index_type!r} has no metric 'cosine'; use metric='dotproduct' with "
            "vectors of length one, which ranks alike"
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
        _check_value(title, name, value, known[name])


def _built_in(value: Any) -> Any:
    number = as_number(value)
    return value if number is None else number


def _check_value(title: str, name: str, value: Any, allowed: Allowed) -> None:
    expected = _expected(value, allowed)
    if expected is not None:
        raise InvalidInputError(f"{title}[{name!r}] is {value!r}; expected {expected}")


def _expected(value: Any, allowed: Allowed) -> str | None:
    """Returns what was expected instead of a value, or None if the value is allowed."""
    if allowed is None:
        return None
    if allowed is bool:
        return None if isinstance(value, bool) else "True or False"
    assert isinstance(allowed, tuple)
    if isinstance(allowed[0], str):
        return None if value in allowed else f"one of {', '.join(map(str, allowed))}"
    low, high = allowed
    integers = isinstance(low, int)
    number = as_integer(value) if integers else as_number(value)
    if number is not None and low <= number <= high:
        return None
    return f"{'an integer' if integers else 'a number'} from {low} to {high}"
