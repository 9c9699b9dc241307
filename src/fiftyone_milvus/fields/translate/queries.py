"""MongoDB's query language: the argument of ``$match``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bson import ObjectId

from fiftyone_milvus.fields.translate import aggregation, predicates
from fiftyone_milvus.fields.translate.conditions import (
    ALL,
    NONE,
    Condition,
    Untranslatable,
    either,
    every,
    negated,
    some,
)
from fiftyone_milvus.fields.translate.documents import Document, Id, Scalar, Strings, Value
from fiftyone_milvus.fields.translate.predicates import OPERATORS


def condition(query: Any, document: Document) -> Condition:
    """Returns which documents match a query.

    Raises:
        Untranslatable: if the columns don't tell
    """
    if not isinstance(query, Mapping):
        raise Untranslatable("a query of another form")
    return every(*(_clause(key, value, document) for key, value in query.items()))


def _clause(key: str, value: Any, document: Document) -> Condition:
    match key:
        case "$and":
            return every(*(condition(query, document) for query in value))
        case "$or":
            return some(*(condition(query, document) for query in value))
        case "$nor":
            return negated(some(*(condition(query, document) for query in value)))
        case "$expr":
            return aggregation.condition(value, document)
    if key.startswith("$"):
        raise Untranslatable(key)
    return _field(document.find(key), value)


def _field(value: Value, query: Any) -> Condition:
    if not isinstance(query, Mapping) or not any(str(key).startswith("$") for key in query):
        return _operator(value, "$eq", query)
    return every(*(_operator(value, op, argument) for op, argument in query.items()))


def _operator(value: Value, op: str, argument: Any) -> Condition:
    if op == "$not" and isinstance(argument, Mapping):
        return negated(_field(value, argument))
    if op == "$ne":
        return negated(_operator(value, "$eq", argument))
    if op == "$nin":
        return negated(_operator(value, "$in", argument))
    if isinstance(argument, re.Pattern):
        raise Untranslatable("a regular expression")
    if op == "$in" and not isinstance(argument, (list, tuple)):
        raise Untranslatable("$in what is no list")
    match value:
        case Scalar(column, visible):
            if op == "$in":
                found = _scalar_in(value, argument)
            elif op in OPERATORS:
                found = predicates.queried(column, op, argument)
            else:
                raise Untranslatable(op)
            # Where it is hidden, it is None
            return either(visible, found, _matches_none(op, argument))
        case Strings(column):
            return _strings(column, op, argument)
        case Id(field) if op == "$in":
            return predicates.with_id(field, argument)
        case Id(field) if op == "$eq" and isinstance(argument, ObjectId):
            return predicates.with_id(field, [argument])
    raise Untranslatable(f"{op} of {type(value).__name__}")


def _scalar_in(value: Scalar, argument: Any) -> Condition:
    if any(isinstance(element, re.Pattern) for element in argument):
        raise Untranslatable("a regular expression")
    found = predicates.one_of(value.column, [e for e in argument if e is not None])
    if None in argument:
        return some(found, negated(predicates.is_set(value.column)))
    return found


def _matches_none(op: str, argument: Any) -> Condition:
    if op == "$in":
        return ALL if None in argument else NONE
    return ALL if op == "$eq" and argument is None else NONE


def _strings(column: Any, op: str, argument: Any) -> Condition:
    values = argument if op in ("$in", "$all") else [argument]
    if not isinstance(values, (list, tuple)) or not all(isinstance(v, str) for v in values):
        raise Untranslatable("a list that is asked for something else than strings")
    match op:
        case "$eq" | "$in":
            return predicates.contains(column, values)
        case "$all":
            return predicates.contains(column, values, every_one=True) if values else NONE
    raise Untranslatable(f"{op} of a list")
