"""Index types of this engine that Milvus Lite does not have, and how its files keep them.

Milvus Lite carries build parameters along as they are, also when it writes its manifest again. So
such an index is kept as one of a type that it has, which understands the same parameters, and one
parameter more says what it is. Plain Milvus Lite opens it, and builds the type that it knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from milvus_lite.exceptions import SchemaValidationError

IVF_RABITQ = "IVF_RABITQ"
"""A bit for each dimension, in lists; see :mod:`.rabitq`."""

_KEPT_AS = {IVF_RABITQ: "IVF_FLAT"}
_PARAMETER = "fiftyone_index_type"
_MOST_LISTS = 65_536

LISTS = 128
"""Of an index of which the number of lists is not given, as in Milvus."""

NAMES = tuple(_KEPT_AS)


def to_kept(index_type: str, params: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns type and build parameters as Milvus Lite keeps them.

    Args:
        index_type: one of :data:`NAMES`
        params: the build parameters that were given

    Raises:
        SchemaValidationError: if they can't be used
    """
    lists = params.get("nlist", LISTS)
    if not isinstance(lists, int) or not 1 <= lists <= _MOST_LISTS:
        raise SchemaValidationError(
            f"nlist is {lists!r}; expected an integer from 1 to {_MOST_LISTS}"
        )
    # Comparing exactly takes no memory here, as the vectors stay in their file
    return _KEPT_AS[index_type], {"refine": True, **params, _PARAMETER: index_type}


def from_kept(index_type: str, params: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns type and build parameters as they were given; see :func:`to_kept`."""
    found = dict(params)
    name = found.pop(_PARAMETER, None)
    return (name, found) if _KEPT_AS.get(str(name)) == index_type else (index_type, dict(params))


def of(spec: Any) -> str:
    """The index type of one of Milvus Lite's ``IndexSpec``."""
    return from_kept(spec.index_type, spec.build_params)[0]
