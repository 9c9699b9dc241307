"""An algebra of conditions on the rows of an index, which become Milvus expressions.

Negation is applied to the atoms, each of which has its own, so that an expression never has ``not``
in front of a compound.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias


class Untranslatable(Exception):
    """Raised for what no Milvus expression over the columns says exactly."""


@dataclass(frozen=True)
class Constant:
    """A condition for every row, or for no row."""

    value: bool


@dataclass(frozen=True)
class Atom:
    """One comparison.

    Attributes:
        text: the Milvus expression
        negation: the Milvus expression for the other rows
        column: the path of the column that it reads, or None for IDs
        when_unset: whether it is true for rows where that column has no value
    """

    text: str
    negation: str
    column: str | None = None
    when_unset: bool = False


@dataclass(frozen=True)
class Every:
    """The conjunction of at least two conditions."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Some:
    """The disjunction of at least two conditions."""

    parts: tuple[Condition, ...]


Condition: TypeAlias = "Constant | Atom | Every | Some"

ALL = Constant(True)
NONE = Constant(False)


def every(*conditions: Condition) -> Condition:
    """Returns the conjunction of conditions, which is all rows for none."""
    return _joined(Every, NONE, ALL, conditions)


def some(*conditions: Condition) -> Condition:
    """Returns the disjunction of conditions, which is no rows for none."""
    return _joined(Some, ALL, NONE, conditions)


def negated(condition: Condition) -> Condition:
    """Returns the negation of a condition."""
    match condition:
        case Constant(value):
            return Constant(not value)
        case Atom(text, negation, column, when_unset):
            return Atom(negation, text, column, not when_unset)
        case Every(parts):
            return some(*map(negated, parts))
        case Some(parts):
            return every(*map(negated, parts))


def either(condition: Condition, then: Condition, otherwise: Condition) -> Condition:
    """Returns ``then`` where the condition holds, ``otherwise`` elsewhere."""
    if then == otherwise or condition == ALL:
        return then
    return some(every(condition, then), every(negated(condition), otherwise))


def when_unset(condition: Condition, columns: Collection[str]) -> Condition:
    """Returns a condition with the given columns known to have no value."""
    match condition:
        case Atom(column=column) if column in columns:
            return Constant(condition.when_unset)
        case Every(parts):
            return every(*(when_unset(part, columns) for part in parts))
        case Some(parts):
            return some(*(when_unset(part, columns) for part in parts))
    return condition


def written(condition: Condition) -> str:
    """Returns the Milvus expression of a condition that is not constant."""
    match condition:
        case Atom(text):
            return text
        case Every(parts):
            return " and ".join(map(_bracketed, parts))
        case Some(parts):
            return " or ".join(map(_bracketed, parts))
    raise AssertionError("a constant has no expression")


def _bracketed(condition: Condition) -> str:
    text = written(condition)
    return text if isinstance(condition, Atom) else f"({text})"


def _joined(
    kind: type[Every] | type[Some],
    absorbing: Constant,
    neutral: Constant,
    conditions: Collection[Condition],
) -> Condition:
    parts: dict[Condition, None] = {}
    for condition in conditions:
        inner = condition.parts if isinstance(condition, kind) else (condition,)
        parts.update(dict.fromkeys(part for part in inner if part != neutral))
    if absorbing in parts:
        return absorbing
    return neutral if not parts else next(iter(parts)) if len(parts) == 1 else kind(tuple(parts))
