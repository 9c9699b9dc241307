"""Conditions on an index's rows: a small algebra, written as Milvus expressions.

Negation is pushed inwards to the atoms, each of which knows how it is negated, so that an
expression never has ``not`` before a compound.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TypeAlias


class Untranslatable(Exception):
    """Something that no Milvus expression over the columns says exactly."""


@dataclass(frozen=True)
class Constant:
    """Every row, or none."""

    value: bool


@dataclass(frozen=True)
class Atom:
    """One comparison.

    Attributes:
        text: the Milvus expression
        negation: the Milvus expression of the other rows
        column: the path of the column that it reads, or None for IDs
        when_unset: whether it holds for rows where that column has no value
    """

    text: str
    negation: str
    column: str | None = None
    when_unset: bool = False


@dataclass(frozen=True)
class Every:
    """All of at least two conditions."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Some:
    """Any of at least two conditions."""

    parts: tuple[Condition, ...]


Condition: TypeAlias = "Constant | Atom | Every | Some"

ALL = Constant(True)
NONE = Constant(False)


def every(*conditions: Condition) -> Condition:
    """Returns what all conditions have in common; all rows for no conditions."""
    return _joined(Every, NONE, ALL, conditions)


def some(*conditions: Condition) -> Condition:
    """Returns what any of the conditions matches; no rows for no conditions."""
    return _joined(Some, ALL, NONE, conditions)


def negated(condition: Condition) -> Condition:
    """Returns the other rows."""
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
    """Returns what is left of a condition where these columns have no value."""
    match condition:
        case Atom(column=column) if column in columns:
            return Constant(condition.when_unset)
        case Every(parts):
            return every(*(when_unset(part, columns) for part in parts))
        case Some(parts):
            return some(*(when_unset(part, columns) for part in parts))
    return condition


def written(condition: Condition) -> str:
    """Returns the Milvus expression of a condition that is no constant."""
    match condition:
        case Atom(text):
            return text
        case Every(parts):
            return " and ".join(map(_bracketed, parts))
        case Some(parts):
            return " or ".join(map(_bracketed, parts))
    raise AssertionError("a constant has no expression of its own")


def _bracketed(condition: Condition) -> str:
    text = written(condition)
    return text if isinstance(condition, Atom) else f"({text})"


def _joined(
    kind: type[Every] | type[Some],
    absorbing: Constant,
    neutral: Constant,
    conditions: Collection[Condition],
) -> Condition:
    parts = tuple(dict.fromkeys(p for p in _flat(kind, conditions) if p != neutral))
    if absorbing in parts:
        return absorbing
    if not parts:
        return neutral
    return parts[0] if len(parts) == 1 else kind(parts)


def _flat(kind: type[Every] | type[Some], conditions: Collection[Condition]) -> Iterator[Condition]:
    for condition in conditions:
        if isinstance(condition, kind):
            yield from condition.parts
        else:
            yield condition
