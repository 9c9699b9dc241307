"""MongoDB's aggregation expressions, which FiftyOne's ViewExpressions become."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from fiftyone_milvus.fields.translate import predicates
from fiftyone_milvus.fields.translate.conditions import (
    ALL,
    NONE,
    Condition,
    Constant,
    Untranslatable,
    either,
    every,
    negated,
    some,
)
from fiftyone_milvus.fields.translate.documents import (
    Common,
    Document,
    Element,
    Embedded,
    Id,
    Labels,
    Literal,
    Scalar,
    Size,
    Strings,
    Truth,
    Value,
)
from fiftyone_milvus.fields.translate.predicates import MIRRORED, OPERATORS
from fiftyone_milvus.schema.columns import Kind

_EPOCH = datetime(1970, 1, 1)
_TOKEN = re.compile(r"\\[^A-Za-z0-9]|[^\\\[\](){}*+?.^$]", re.DOTALL)
"""A character of a regular expression that matches itself, or a bar."""

Variables = Mapping[str, Mapping[str, Any]]


def condition(expr: Any, document: Document) -> Condition:
    """Returns the condition under which an aggregation expression is true.

    Raises:
        Untranslatable: if the columns don't determine it
    """
    return _truth(evaluate(expr, document))


def evaluate(expr: Any, document: Document, variables: Variables | None = None) -> Value:
    """Returns the value of an aggregation expression.

    Args:
        expr: the expression, as JSON
        document: the document that it reads
        variables (None): for each variable ``$$name``, the attributes of the label that it is

    Raises:
        Untranslatable: if the columns don't determine it
    """
    return _Evaluation(document, variables or {}).value(expr)


class _Evaluation:
    def __init__(self, document: Document, variables: Variables) -> None:
        self._document = document
        self._variables = variables
        self._operators: dict[str, Callable[[Any], Value]] = {
            "$literal": Literal,
            "$and": lambda args: Truth(self._joined(every, NONE, _listed(args))),
            "$or": lambda args: Truth(self._joined(some, ALL, _listed(args))),
            "$not": lambda arg: Truth(negated(self.truth(_only(arg)))),
            "$cond": self._cond,
            "$in": self._in,
            "$size": self._size,
            "$ifNull": self._if_null,
            "$setIntersection": self._intersection,
            "$setIsSubset": self._subset,
            "$regexMatch": self._regex,
            "$filter": self._filter,
            "$toDate": self._to_date,
            "$toObjectId": lambda arg: Literal(ObjectId(self._literal(_only(arg)))),
            **{op: self._comparison(op) for op in OPERATORS},
        }

    def value(self, expr: Any) -> Value:
        if isinstance(expr, str) and expr.startswith("$$"):
            name, _, path = expr[2:].partition(".")
            attributes = self._variables.get(name)
            if attributes is None or path not in attributes:
                raise Untranslatable(f"'{expr}'")
            found: Value = attributes[path]
            return found
        if isinstance(expr, str) and expr.startswith("$"):
            return self._document.find(expr[1:])
        if isinstance(expr, dict):
            operator, args = _single(expr)
            if operator not in self._operators:
                raise Untranslatable(f"{operator}")
            return self._operators[operator](args)
        if isinstance(expr, (list, tuple)):
            return Literal([self._literal(e) for e in expr])
        return Literal(expr)

    def truth(self, expr: Any) -> Condition:
        return _truth(self.value(expr))

    def _joined(
        self, join: Callable[..., Condition], absorbing: Condition, exprs: list[Any]
    ) -> Condition:
        parts: list[Condition] = []
        unknown: Untranslatable | None = None
        for expr in exprs:
            try:
                parts.append(self.truth(expr))
            except Untranslatable as reason:  # noqa: PERF203
                unknown = reason
        joined = join(*parts)
        # One may decide the result, whatever the others are
        if unknown is not None and joined != absorbing:
            raise unknown
        return joined

    def _literal(self, expr: Any) -> Any:
        value = self.value(expr)
        if not isinstance(value, Literal):
            raise Untranslatable("an expression that is not a literal")
        return value.value

    def _comparison(self, op: str) -> Callable[[Any], Value]:
        def compare(args: Any) -> Value:
            left, right = map(self.value, _pair(args))
            if isinstance(left, Literal) and not isinstance(right, Literal):
                return Truth(_compared(right, MIRRORED.get(op, op), left.value))
            if not isinstance(right, Literal):
                raise Untranslatable("a comparison of two fields")
            return Truth(_compared(left, op, right.value))

        return compare

    def _cond(self, args: Any) -> Value:
        if isinstance(args, dict):
            args = [args["if"], args["then"], args["else"]]
        test, then, otherwise = args
        where = self.truth(test)
        shown, hidden = self.value(then), self.value(otherwise)
        if isinstance(shown, (Embedded, Scalar)) and hidden == Literal(None):
            return replace(shown, visible=every(shown.visible, where))
        return Truth(either(where, _boolean(shown), _boolean(hidden)))

    def _in(self, args: Any) -> Value:
        sought, among = map(self.value, _pair(args))
        if isinstance(among, Strings):
            if not isinstance(sought, Literal) or sought.value is None:
                raise Untranslatable("$in a field")
            return Truth(predicates.contains(among.column, [sought.value]))
        if not isinstance(among, Literal) or not isinstance(among.value, list):
            raise Untranslatable("$in a value that is not a list")
        return Truth(_one_of(sought, among.value))

    def _size(self, arg: Any) -> Value:
        value = self.value(_only(arg))
        if isinstance(value, (Strings, Common, Labels)):
            return Size(value)
        raise Untranslatable("$size")

    def _if_null(self, args: Any) -> Value:
        value, default = map(self.value, _pair(args))
        if default == Literal([]):
            if isinstance(value, Strings):
                return Strings(value.column, value.through_labels, or_empty=True)
            if isinstance(value, (Common, Labels)):
                return value
        raise Untranslatable("$ifNull")

    def _intersection(self, args: Any) -> Value:
        left, right = map(self.value, _pair(args))
        if isinstance(left, Literal):
            left, right = right, left
        if isinstance(left, Strings) and isinstance(right, Literal):
            return Common(left, tuple(_listed(right.value)))
        raise Untranslatable("$setIntersection")

    def _subset(self, args: Any) -> Value:
        values, strings = map(self.value, _pair(args))
        if not isinstance(values, Literal) or not isinstance(strings, Strings):
            raise Untranslatable("$setIsSubset")
        # MongoDB raises where there is no list
        return Truth(predicates.contains(strings.column, _listed(values.value), every_one=True))

    def _regex(self, args: Any) -> Value:
        value = self.value(args["input"])
        prefixes = None if args.get("options") else _prefixes(args["regex"])
        if (
            not isinstance(value, Scalar)
            or value.column.kind is not Kind.STRING
            or prefixes is None
        ):
            raise Untranslatable("$regexMatch")
        found = some(*(predicates.starts_with(value.column, prefix) for prefix in prefixes))
        return Truth(every(value.visible, found))

    def _filter(self, args: Any) -> Value:
        labels = self.value(args["input"])
        if not isinstance(labels, Labels) or "limit" in args:
            raise Untranslatable("$filter")
        variables = {**self._variables, args.get("as", "this"): labels.attributes}
        inner = _Evaluation(self._document, variables)
        if labels.each_is_row:
            kept = inner.truth(args["cond"])
            if labels.kept is not None:
                kept = every(labels.kept, kept)
        elif labels.kept is None:
            kept = inner.any_label(args["cond"])
        else:
            raise Untranslatable("labels that are filtered twice")
        return Labels(labels.attributes, kept, labels.each_is_row, from_rows=labels.are_rows)

    def any_label(self, expr: Any) -> Condition:
        """Returns the condition that an expression is true for any label of a sample.

        The index has the set of each attribute's values, so it can't tell whether two attributes
        are of the same label.
        """
        operator, args = _single(expr)
        if operator == "$or":
            return some(*map(self.any_label, _listed(args)))
        if operator == "$and" and len(_listed(args)) == 1:
            return self.any_label(args[0])
        if operator in ("$eq", "$in"):
            left, right = map(self.value, _pair(args))
            if isinstance(left, Literal) and operator == "$eq":
                left, right = right, left
            if isinstance(left, Element) and isinstance(right, Literal):
                values = [right.value] if operator == "$eq" else _listed(right.value)
                if None not in values:
                    return predicates.contains(left.column, values)
        raise Untranslatable("a condition on labels")

    def _to_date(self, arg: Any) -> Value:
        passed = self._literal(_only(arg))
        if isinstance(passed, bool) or not isinstance(passed, (int, float)):
            raise Untranslatable("$toDate")
        return Literal(_EPOCH + timedelta(milliseconds=int(passed)))


def _truth(value: Value) -> Condition:
    match value:
        case Truth(found):
            return found
        case Literal(literal):
            return Constant(literal is not None and literal is not False and literal != 0)
        case Scalar(column, visible):
            return every(visible, predicates.is_true(column))
        case Strings(column, _, or_empty):
            return ALL if or_empty else predicates.is_set(column)
        case Size():
            return _compared(value, "$ne", 0)
        case Embedded():
            return value.present
        case Id():
            return ALL
    raise Untranslatable(f"whether {type(value).__name__} is true")


def _boolean(value: Value) -> Condition:
    literal = isinstance(value, Literal) and isinstance(value.value, bool)
    if literal or isinstance(value, Truth):
        return _truth(value)
    raise Untranslatable("$cond of other values than booleans")


def _compared(value: Value, op: str, literal: Any) -> Condition:
    """Returns the condition that a value compares with a literal."""
    match value:
        case Scalar(column, visible):
            # A hidden value is None
            order = 0 if literal is None else -1
            hidden = Constant(OPERATORS[op][1](order, 0))
            return either(visible, predicates.compared(column, op, literal), hidden)
        case Strings(column, _, or_empty) if literal is None and op in ("$gt", "$lte"):
            there = ALL if or_empty else predicates.is_set(column)
            return there if op == "$gt" else negated(there)
        case Embedded() if literal is None and op in ("$gt", "$lte"):
            return value.present if op == "$gt" else negated(value.present)
        case Labels(are_rows=True) if literal is None and op in ("$gt", "$lte"):
            return Constant(op == "$gt")
        case Size(of):
            return _size_compared(of, op, literal)
        case Id(field) if isinstance(literal, ObjectId) and op in ("$eq", "$ne"):
            same = predicates.with_id(field, [literal])
            return same if op == "$eq" else negated(same)
        case Truth(found) if isinstance(literal, bool):
            holds = OPERATORS[op][1]
            return either(found, Constant(holds(True, literal)), Constant(holds(False, literal)))
        case Literal(other) if type(other) is type(literal) and isinstance(other, (int, str)):
            return Constant(OPERATORS[op][1](other, literal))
    raise Untranslatable(f"{op} of {type(value).__name__}")


def _size_compared(of: Strings | Common | Labels, op: str, literal: Any) -> Condition:
    if isinstance(literal, bool) or not isinstance(literal, int):
        raise Untranslatable("a size compared with another value than an integer")
    holds = OPERATORS[op][1]
    # The index only knows whether there are any
    if len({holds(length, literal) for length in (1, max(2, literal), max(2, literal) + 1)}) > 1:
        raise Untranslatable("the number of elements")
    return either(_nonempty(of), Constant(holds(1, literal)), Constant(holds(0, literal)))


def _nonempty(of: Strings | Common | Labels) -> Condition:
    match of:
        case Common(strings, values):
            if None in values:
                raise Untranslatable("None in a list")
            return predicates.contains(strings.column, values)
        case Strings(column, through_labels) if not through_labels:
            return predicates.has_elements(column)
        case Labels(are_rows=True):
            return ALL  # a sample without labels has no rows
        case Labels(kept=kept, each_is_row=False) if kept is not None:
            return kept
    raise Untranslatable("whether there are labels")


def _one_of(value: Value, among: list[Any]) -> Condition:
    match value:
        case Id(field):
            return predicates.with_id(field, among)
        case Scalar(column, visible) if None not in among:
            return every(visible, predicates.one_of(column, among))
        case Literal(literal) if isinstance(literal, str):
            return Constant(literal in among)
    raise Untranslatable("$in")


def _prefixes(regex: Any) -> list[str] | None:
    """Returns the prefixes in a regular expression of ``starts_with()``, or None for others."""
    if not isinstance(regex, str) or not regex.startswith("^"):
        return None
    body, alternatives = regex[1:], False
    if body.startswith("(") and body.endswith(")"):
        body, alternatives = body[1:-1], True
    prefixes, end = [""], 0
    for token in _TOKEN.finditer(body):
        if token.start() != end or (token[0] == "|" and not alternatives):
            return None
        end = token.end()
        if token[0] == "|":
            prefixes.append("")
        else:
            prefixes[-1] += token[0][-1]
    return prefixes if end == len(body) else None


def _single(expr: Any) -> tuple[str, Any]:
    if not isinstance(expr, dict) or len(expr) != 1:
        raise Untranslatable("an expression of another form")
    return next(iter(expr.items()))


def _listed(args: Any) -> list[Any]:
    return list(args) if isinstance(args, (list, tuple)) else [args]


def _pair(args: Any) -> list[Any]:
    if not isinstance(args, (list, tuple)) or len(args) != 2:
        raise Untranslatable("another number of operands")
    return list(args)


def _only(args: Any) -> Any:
    if isinstance(args, (list, tuple)):
        if len(args) != 1:
            raise Untranslatable("another number of operands")
        return args[0]
    return args
