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
from fiftyone_milvus.schema.columns import Column


def condition(query: Any, document: Document) -> Condition:
    """Returns the condition under which a document matches a query.

    Raises:
        Untranslatable: if the columns don't determine it
    """
    if not isinstance(query, Mapping):
        raise Untranslatable("a query of another form")
    return every(*(_clause(key, value, document) for key, value in query.items()))


def _clause(key: str, value: Any, document: Document) -> Condition:
    if key == "$expr":
        return aggregation.condition(value, document)
    if key in ("$and", "$or", "$nor"):
        parts = [condition(query, document) for query in value]
        if key == "$and":
            return every(*parts)
        return some(*parts) if key == "$or" else negated(some(*parts))
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
        raise Untranslatable("$in a value that is not a list")
    match value:
        case Scalar(column, visible):
            if op == "$in":
                found, finds_none = _scalar_in(column, argument), None in argument
            elif op in OPERATORS:
                found = predicates.queried(column, op, argument)
                finds_none = op == "$eq" and argument is None
            else:
                raise Untranslatable(op)
            # A hidden value is None
            return either(visible, found, ALL if finds_none else NONE)
        case Strings(column):
            return _strings(column, op, argument)
        case Id(field) if op == "$in":
            return predicates.with_id(field, argument)
        case Id(field) if op == "$eq" and isinstance(argument, ObjectId):
            return predicates.with_id(field, [argument])
    raise Untranslatable(f"{op} of {type(value).__name__}")


def _scalar_in(column: Column, values: Any) -> Condition:
    if any(isinstance(value, re.Pattern) for value in values):
        raise Untranslatable("a regular expression")
    found = predicates.one_of(column, [value for value in values if value is not None])
    return some(found, negated(predicates.is_set(column))) if None in values else found


def _strings(column: Column, op: str, argument: Any) -> Condition:
    values = argument if op in ("$in", "$all") else [argument]
    if not isinstance(values, (list, tuple)) or not all(isinstance(v, str) for v in values):
        raise Untranslatable("a list that is compared with other values than strings")
    match op:
        case "$eq" | "$in":
            return predicates.contains(column, values)
        case "$all":
            return predicates.contains(column, values, every_one=True) if values else NONE
    raise Untranslatable(f"{op} of a list")
