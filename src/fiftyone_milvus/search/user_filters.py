"""What is refused in a user's filter before a Milvus sees it.

A constant division by zero ends some servers (2.3 with SIGFPE). A filter that is very long, or has
very many operators, keeps either engine busy for minutes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence

from fiftyone_milvus.errors import InvalidInputError

MAX_CHARACTERS = 1_000_000
"""The length of a filter: room for some 30,000 IDs."""
MAX_OPERATORS = 1_000
"""Operators of a filter, with ``and``, ``or``, ``not``, ``in`` and the comparisons."""
MAX_DEPTH = 50
"""Parentheses and brackets in each other."""

_SHOWN = 200
_TOKEN = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    |(?P<number>0[xX][0-9a-fA-F]+|0[bB][01]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<name>[^\W\d]\w*|\$meta)
    |(?P<sign>\*\*|<<|>>|[<>=!]=|&&|\|\||[-+*/%<>!~&|^])
    |(?P<other>\S)""",
    re.VERBOSE | re.DOTALL,
)
_PATH = re.compile(
    r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|\$meta|(?P<path>(?<![\w.])[^\W\d]\w*(?:\.[^\W\d]\w*)*)""",
    re.DOTALL,
)
_WORDS = frozenset({"and", "or", "not", "in", "like", "is", "exists"})
_INT64 = 1 << 63

_Values = frozenset[float]
"""What a constant may be: engines differ in the division of integers."""


def check(expression: object) -> str:
    """Checks a filter of a user.

    Args:
        expression: what the user passed

    Returns:
        the filter

    Raises:
        InvalidInputError: if it is no text, divides by a constant zero, or is too large
    """
    if not isinstance(expression, str) or not expression.strip():
        raise InvalidInputError(
            f"Invalid filter {shown(repr(expression))}; expected a Milvus expression such as "
            "'metadata_width > 640', or None"
        )
    if len(expression) > MAX_CHARACTERS:
        raise _too_large(expression, f"{len(expression):,} characters", MAX_CHARACTERS)
    tokens: list[tuple[str, str]] = []
    operators, depth = 0, 0
    for found in _TOKEN.finditer(expression):
        kind, token = str(found.lastgroup), found[0]
        # Not the signs of numbers, as in a list
        signed = token in "+-" and bool(tokens) and tokens[-1][1] in "[,("
        if (kind == "sign" and not signed) or (kind == "name" and token.lower() in _WORDS):
            operators += 1
            if operators > MAX_OPERATORS:
                raise _too_large(expression, f"more than {MAX_OPERATORS:,} operators")
        elif kind == "other" and token in "([{":
            depth += 1
            if depth > MAX_DEPTH:
                raise _too_large(expression, f"more than {MAX_DEPTH} nested parentheses")
        elif kind == "other" and token in ")]}":
            depth -= 1
        tokens.append((kind, token))
    for at, (kind, token) in enumerate(tokens):
        if kind == "sign" and token in "/%" and 0 in _Constant(tokens, at + 1).factor():
            raise InvalidInputError(
                f"Invalid filter '{shown(expression)}'; it divides by zero ('{token}'), which can "
                "end a Milvus server: divide by another number"
            )
    return expression


def with_columns(expression: str, columns: Mapping[str, str], others: Collection[str]) -> str:
    """Returns a filter that names Milvus fields where the user named FiftyOne's.

    Args:
        expression: a filter, for example ``"ground_truth.label == 'moon'"``
        columns: the Milvus field of each metadata field, for example
            ``{"ground_truth.label": "ground_truth_label"}``
        others: further Milvus fields of the collection

    Raises:
        InvalidInputError: if a name with dots, which Milvus knows nothing of, is no metadata field
    """
    known = {*columns.values(), *others}

    def replaced(found: re.Match[str]) -> str:
        name = found["path"]
        if name is None:
            return found[0]
        if name in columns and (name not in known or "." in name):
            return columns[name]
        if "." not in name:
            return name
        raise InvalidInputError(
            f"Invalid filter {shown(repr(expression))}; '{name}' is no metadata field of this "
            f"index: {names(columns)}"
        )

    return _PATH.sub(replaced, expression)


def names(columns: Collection[str]) -> str:
    """Returns what a filter of an index can name, for messages."""
    if not columns:
        return "it has none; make an index with fields=[...] to filter by them"
    return f"it has {', '.join(columns)}"


def shown(text: str) -> str:
    """Returns the start of a text that may be long, in one line."""
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _too_large(expression: str, what: str, limit: int | None = None) -> InvalidInputError:
    expected = f", expected at most {limit:,}" if limit is not None else ""
    return InvalidInputError(
        f"Invalid filter '{shown(expression)}'; it has {what}{expected}: use 'field in [...]' for "
        "many values, or search in a view"
    )


class _Constant:
    """The constant that starts at a token, by the precedence of Milvus' expressions.

    Its methods return what it may be, and nothing if it is none.
    """

    def __init__(self, tokens: Sequence[tuple[str, str]], at: int) -> None:
        self._tokens = tokens
        self._at = at

    def factor(self) -> _Values:
        negative = False
        while self._next("+", "-"):
            negative ^= self._tokens[self._at - 1][1] == "-"
        found = self._primary()
        while found and self._next("**"):
            found = _combined("**", found, self.factor())
        return frozenset(-value for value in found) if negative else found

    def _primary(self) -> _Values:
        kind, token = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
        self._at += 1
        if kind == "number":
            return frozenset({_number(token)})
        if token != "(":
            return frozenset()
        found = self._sum()
        return found if self._next(")") else frozenset()

    def _sum(self) -> _Values:
        found = self._product()
        while found and self._next("+", "-"):
            found = _combined(self._tokens[self._at - 1][1], found, self._product())
        return found

    def _product(self) -> _Values:
        found = self.factor()
        while found and self._next("*", "/", "%"):
            found = _combined(self._tokens[self._at - 1][1], found, self.factor())
        return found

    def _next(self, *expected: str) -> bool:
        there = self._at < len(self._tokens) and self._tokens[self._at][1] in expected
        self._at += there
        return there


def _combined(sign: str, left: _Values, right: _Values) -> _Values:
    found: set[float] = set()
    for one in left:
        for other in right:
            found |= _results(sign, one, other)
    return frozenset(sorted(found, key=abs)[:8])


def _results(sign: str, one: float, other: float) -> set[float]:
    whole = isinstance(one, int) and isinstance(other, int)
    try:
        if sign == "**":
            return {math.pow(one, other)}
        if sign == "%":
            return {math.fmod(one, other)}
        if sign == "/":
            return {one / other, float(int(one / other))} if whole else {one / other}
    except (ArithmeticError, ValueError):
        return set()  # a division by zero is found where it is
    result = {"+": one + other, "-": one - other, "*": one * other}[sign]
    # Integers wrap around
    return {result, (result + _INT64) % (2 * _INT64) - _INT64} if whole else {result}


def _number(token: str) -> float:
    try:
        return int(token, 0)
    except ValueError:
        pass
    try:
        return int(token, 8) if token.isdecimal() else float(token)
    except ValueError:
        return float(token)
