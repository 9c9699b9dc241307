"""Comparisons of columns with literals, with MongoDB's results.

MongoDB has two languages. An *aggregation* compares values of any types, by the order of the types:
None and missing < numbers < strings < lists < booleans < dates. A *query* compares only values of
one type. Both compare numbers of any type: ``3 == 3.0``.
"""

from __future__ import annotations

import json
import math
import operator
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import date
from typing import Any

from bson import ObjectId

from fiftyone_milvus.collection.filters import MAX_EXPRESSION_IDS
from fiftyone_milvus.fields.translate.conditions import (
    ALL,
    NONE,
    Atom,
    Condition,
    Constant,
    Untranslatable,
    either,
    every,
    negated,
    some,
)
from fiftyone_milvus.fields.values import INT64, milliseconds
from fiftyone_milvus.schema.columns import NEUTRAL, Column, Kind

OPERATORS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "$eq": ("==", operator.eq),
    "$ne": ("!=", operator.ne),
    "$lt": ("<", operator.lt),
    "$lte": ("<=", operator.le),
    "$gt": (">", operator.gt),
    "$gte": (">=", operator.ge),
}
"""MongoDB's comparisons: their Milvus operators, and what they mean."""

MIRRORED = {"$lt": "$gt", "$lte": "$gte", "$gt": "$lt", "$gte": "$lte"}
"""The comparisons that change when their sides are exchanged."""

_INVERSE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}

_NUMBER, _STRING, _LIST, _ID, _BOOL, _DATE = 10, 15, 25, 35, 40, 45
_RANKS = {
    Kind.INT: _NUMBER,
    Kind.FLOAT: _NUMBER,
    Kind.STRING: _STRING,
    Kind.STRINGS: _LIST,
    Kind.BOOL: _BOOL,
    Kind.DATE: _DATE,
    Kind.DATETIME: _DATE,
}
_LARGEST = sys.float_info.max
"""The largest float. -inf is stored as the smallest finite float, and NaN as -inf."""

_LAST_CHARACTER, _SURROGATES = "\U0010ffff", ("\ud7ff", "\ue000")


def is_set(column: Column) -> Condition:
    """Returns the condition that a column has a value."""
    return Atom(f"{column.presence} == true", f"{column.presence} == false", column.path, False)


def compared(column: Column, op: str, value: Any) -> Condition:
    """Returns the condition that a column's value compares with a literal, in an aggregation.

    Args:
        column: the column, whose value is None where there is none
        op: one of :data:`OPERATORS`
        value: the literal

    Raises:
        Untranslatable: if MongoDB distinguishes None from missing, or for unusual types
    """
    if value is None:
        # None == None, but missing < None
        if op in ("$gt", "$lte"):
            return is_set(column) if op == "$gt" else negated(is_set(column))
        raise Untranslatable(f"{op} null")
    ours, theirs = _RANKS[column.kind], _rank(value)
    unset = _decided(op, -1)
    if ours != theirs:
        return either(is_set(column), _decided(op, ours - theirs), unset)
    return _guarded(column, op, value, unset)


def queried(column: Column, op: str, value: Any) -> Condition:
    """Returns the condition of :func:`compared` for a query."""
    if op == "$ne":
        return negated(queried(column, "$eq", value))
    if value is None:
        if op == "$eq":
            return negated(is_set(column))
        raise Untranslatable(f"{op} null")
    if _RANKS[column.kind] != _rank(value):
        return NONE
    found = _guarded(column, op, value, NONE)
    if column.kind is Kind.FLOAT and op != "$eq":
        if value != value:
            raise Untranslatable(f"{op} NaN")
        if op in ("$lt", "$lte"):  # In a query, NaN is not less than a number
            found = every(_guarded(column, "$gte", -_LARGEST, NONE), found)
    return found


def one_of(column: Column, values: Iterable[Any]) -> Condition:
    """Returns the condition that a column has one of some values, which are not None."""
    ours = _RANKS[column.kind]
    same = [value for value in values if _rank(value) == ours]
    if column.kind is Kind.STRING:
        literals = [quoted(value) for value in dict.fromkeys(same)]
    elif column.kind is Kind.FLOAT:
        # Milvus Lite does not find -0.0 in [0.0]
        odd = [value for value in same if _infinite(value) or value == 0]
        if odd:
            others = one_of(column, [v for v in same if not (_infinite(v) or v == 0)])
            return some(others, *(_guarded(column, "$eq", value, NONE) for value in odd))
        literals = [repr(value) for value in dict.fromkeys(map(_float, same))]
    elif column.kind is Kind.BOOL:
        return some(*(_guarded(column, "$eq", value, NONE) for value in set(same)))
    else:
        scaled = [milliseconds(v) if ours == _DATE else v for v in same]
        whole = {int(v) for v in scaled if not _infinite(v) and v == int(v)}
        literals = [str(v) for v in sorted(whole) if -INT64 < v < INT64]
        if -INT64 in whole:
            raise Untranslatable("the smallest integer")
    if not literals:
        return NONE
    if len(literals) == 1:
        text, negation = (f"{column.name} {op} {literals[0]}" for op in ("==", "!="))
    else:
        listed = f"[{', '.join(_limited(literals))}]"
        text, negation = f"{column.name} in {listed}", f"{column.name} not in {listed}"
    neutral = (quoted("") if ours == _STRING else repr(NEUTRAL[column.kind])) in literals
    atom = Atom(text, negation, column.path, neutral)
    return every(is_set(column), atom) if neutral else atom


def contains(column: Column, values: Collection[Any], every_one: bool = False) -> Condition:
    """Returns the condition that a column of lists has any, or every one, of some values."""
    strings = list(dict.fromkeys(v for v in values if _rank(v) == _STRING))
    if every_one and len(strings) < len(set(map(repr, values))):
        return NONE  # a list of strings has no other values
    if not strings:
        return ALL if every_one else NONE
    literals = _limited([quoted(value) for value in strings])
    if len(literals) == 1:
        text = f"array_contains({column.name}, {literals[0]})"
    else:
        function = "array_contains_all" if every_one else "array_contains_any"
        text = f"{function}({column.name}, [{', '.join(literals)}])"
    return Atom(text, f"not {text}", column.path, False)


def has_elements(column: Column) -> Condition:
    """Returns the condition that a column's list has elements."""
    # Not how many, as equal ones are stored once. Milvus 2.3 compares lengths only by == and !=
    name = f"array_length({column.name})"
    return Atom(f"{name} != 0", f"{name} == 0", column.path, False)


def starts_with(column: Column, prefix: str) -> Condition:
    """Returns the condition that a string starts with a prefix."""
    # A range, as engines differ in the wildcards of LIKE and how they are escaped
    if not prefix:
        return is_set(column)
    after = _successor(prefix)
    return every(
        _guarded(column, "$gte", prefix, NONE),
        ALL if after is None else _guarded(column, "$lt", after, NONE),
    )


def is_true(column: Column) -> Condition:
    """Returns the condition that a column's value counts as true."""
    match column.kind:
        case Kind.BOOL:
            return _guarded(column, "$eq", True, NONE)
        case Kind.INT | Kind.FLOAT:
            return _guarded(column, "$ne", 0, NONE)
    return is_set(column)


def with_id(field: str, ids: Sequence[Any]) -> Condition:
    """Returns the condition that a row has one of some IDs; ignores values that are not IDs."""
    found = [quoted(str(_id)) for _id in dict.fromkeys(ids) if isinstance(_id, ObjectId)]
    if not found:
        return NONE
    listed = f"[{', '.join(_limited(found))}]"
    return Atom(f"{field} in {listed}", f"{field} not in {listed}")


def quoted(value: str) -> str:
    """Returns a string literal that every engine reads as this string."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Untranslatable("a string that is not Unicode") from None
    if any(character < " " and character not in "\n\r\t" for character in value):
        raise Untranslatable("a control character")  # Milvus Lite has no escape for it
    return json.dumps(value, ensure_ascii=False)


def _rank(value: Any) -> int:
    if isinstance(value, bool):
        return _BOOL
    for types, rank in (
        ((int, float), _NUMBER),
        (str, _STRING),
        ((list, tuple), _LIST),
        (ObjectId, _ID),
        (date, _DATE),
    ):
        if isinstance(value, types):
            return rank
    raise Untranslatable(f"a literal of type {type(value).__name__}")


def _decided(op: str, order: int) -> Constant:
    return Constant(OPERATORS[op][1](order, 0))


def _guarded(column: Column, op: str, value: Any, unset: Constant) -> Condition:
    """Compares with a literal of the column's own type; ``unset`` holds where there is no value."""
    atom = _compare(column, op, value)
    if isinstance(atom, Constant):
        return either(is_set(column), atom, unset)
    # Without a value, the field holds the neutral one
    if atom.when_unset == unset.value:
        return atom
    return some(negated(is_set(column)), atom) if unset.value else every(is_set(column), atom)


def _compare(column: Column, op: str, value: Any) -> Atom | Constant:
    match column.kind:
        case Kind.STRING:
            return _atom(column, op, value, quoted(value))
        case Kind.BOOL:
            # Milvus has no order of booleans
            matching = [held for held in (False, True) if OPERATORS[op][1](held, value)]
            if len(matching) != 1:
                return Constant(bool(matching))
            return _atom(column, "$eq", matching[0], "true" if matching[0] else "false")
        case Kind.DATE | Kind.DATETIME:
            return _compare_int(column, op, milliseconds(value))
        case Kind.INT:
            return _compare_int(column, op, value)
        case Kind.FLOAT:
            return _compare_float(column, op, value)
        case Kind.STRINGS:
            raise Untranslatable("a list compared as a whole")


def _compare_float(column: Column, op: str, value: int | float) -> Atom | Constant:
    """Compares like an aggregation, where NaN == NaN, and NaN is less than every number."""
    number = float("-inf") if value != value else -_LARGEST if value == -math.inf else _float(value)
    if math.isfinite(number):
        return _atom(column, op, number, repr(number))
    # Milvus has no literal of infinity
    if op in ("$eq", "$gte" if number > 0 else "$lte"):
        op = "$gt" if number > 0 else "$lt"
    elif op in ("$ne", "$lt" if number > 0 else "$gt"):
        op = "$lte" if number > 0 else "$gte"
    else:
        return Constant(op in ("$lte", "$gte"))
    bound = math.copysign(_LARGEST, number)
    return _atom(column, op, bound, repr(bound))


def _compare_int(column: Column, op: str, value: int | float) -> Atom | Constant:
    if isinstance(value, float):
        if math.isnan(value):
            return _decided(op, 1)
        if math.isinf(value):
            return _decided(op, -1 if value > 0 else 1)
        if value != int(value):
            if op in ("$eq", "$ne"):
                return Constant(op == "$ne")
            # Between two integers: < and <= mean the same, and so do > and >=
            if op in ("$lt", "$lte"):
                op, value = "$lte", math.floor(value)
            else:
                op, value = "$gte", math.ceil(value)
    value = int(value)
    if not -INT64 < value < INT64:
        if value == -INT64:
            raise Untranslatable("the smallest integer")
        return _decided(op, -1 if value > 0 else 1)
    return _atom(column, op, value, str(value))


def _atom(column: Column, op: str, value: Any, literal: str) -> Atom:
    symbol, holds = OPERATORS[op]
    return Atom(
        f"{column.name} {symbol} {literal}",
        f"{column.name} {_INVERSE[symbol]} {literal}",
        column.path,
        holds(NEUTRAL[column.kind], value),
    )


def _float(value: int | float) -> float:
    try:
        converted = float(value)
    except OverflowError:
        raise Untranslatable("a large integer") from None
    if converted != value:
        raise Untranslatable("an integer that no float equals")
    return converted + 0.0  # no -0.0


def _infinite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _limited(literals: list[str]) -> list[str]:
    if len(literals) > MAX_EXPRESSION_IDS:
        raise Untranslatable(f"{len(literals)} literals")
    return literals


def _successor(prefix: str) -> str | None:
    """Returns the first string after all that start with a prefix, or None."""
    kept = prefix.rstrip(_LAST_CHARACTER)
    if not kept:
        return None
    last, after = _SURROGATES
    return kept[:-1] + (after if kept[-1] == last else chr(ord(kept[-1]) + 1))
