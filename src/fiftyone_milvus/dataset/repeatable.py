"""Tells whether an aggregation returns the same documents again, and of which collections.

It does if its stages are known to depend on nothing but the documents: not on the time, on random
numbers or on code. ``$limit`` and ``$skip`` depend on the order, too, which after a ``$match`` is
that of whichever index MongoDB chooses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_STAGES = {
    "$addFields", "$limit", "$lookup", "$match", "$project", "$replaceRoot", "$replaceWith",
    "$set", "$skip", "$sort", "$unionWith", "$unset", "$unwind",
}  # fmt: skip
_OPERATORS = {"$accumulator", "$function", "$rand", "$sampleRate", "$where"}
_VARIABLES = ("$$NOW", "$$CLUSTER_TIME", "$$USER_ROLES")


def collections_of(pipeline: Sequence[Mapping[str, Any]]) -> set[str] | None:
    """Returns the other collections that an aggregation reads.

    Args:
        pipeline: its stages

    Returns:
        the names of the collections, or None if it may return other documents each time
    """
    names: set[str] = set()
    chosen = False
    for stage in pipeline:
        ((operator, argument),) = stage.items()
        if operator not in _STAGES or not _depends_on_documents(argument):
            return None
        if operator == "$match":
            chosen = True
        elif operator in ("$limit", "$skip") and chosen:
            return None
        elif operator in ("$lookup", "$unionWith"):
            plain = isinstance(argument, str)
            name = argument if plain else argument.get("from", argument.get("coll"))
            found = collections_of(() if plain else argument.get("pipeline", ()))
            if found is None or not isinstance(name, str):
                return None
            names |= {name} | found
            chosen = True
    return names


def _depends_on_documents(value: Any) -> bool:
    if isinstance(value, str):
        return not value.startswith(_VARIABLES)
    if isinstance(value, Mapping):
        return not (_OPERATORS & value.keys()) and all(map(_depends_on_documents, value.values()))
    if isinstance(value, (list, tuple)):
        # Long lists are of IDs
        kinds = set(map(type, value))
        if any(issubclass(kind, (Mapping, list, tuple, str)) for kind in kinds):
            return all(map(_depends_on_documents, value))
    return True
