"""Which one of a group is kept: rules with a name, such as ``"sharpest"`` or ``"tag:gold"``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Any

import numpy as np

from fiftyone_milvus.curation.dates import taken
from fiftyone_milvus.curation.members import Member
from fiftyone_milvus.curation.sharpness import sharpness
from fiftyone_milvus.errors import InvalidInputError, shown
from fiftyone_milvus.numbers import as_number

NAMES = ("central", "first", "sharpest", "largest", "oldest", "oldest:FIELD", "tag:NAME")
"""The rules as callers write them."""


@dataclass(frozen=True)
class Rule:
    """How the members of a group are ranked.

    Attributes:
        name: as the caller wrote it
        value: what a member is ranked by: the largest is kept, NaN if it is not known. None if the
            rule needs nothing of the members
        field: of the samples, which the rule reads
    """

    name: str
    value: Callable[[Member], float] | None = None
    field: str | None = None


def parse(keep: object) -> Rule:
    """Returns the rule with a name.

    Raises:
        InvalidInputError: if there is none
    """
    name, colon, rest = keep.partition(":") if isinstance(keep, str) else ("", "", "")
    if not colon and name in ("central", "first"):
        return Rule(name)
    if not colon and name == "sharpest":
        return Rule(name, sharpness)
    if not colon and name == "largest":
        return Rule(name, Member.pixels)
    if not colon and name == "oldest":
        return Rule(name, lambda member: -taken(member.filepath))
    if name == "oldest" and rest:
        return Rule(f"oldest:{rest}", lambda member: -_moment(member.value), rest)
    if name == "tag" and rest:
        return Rule(f"tag:{rest}", lambda member: float(rest in member.tags))
    raise InvalidInputError(f"Unknown keep {shown(keep)}; expected one of {', '.join(NAMES)}")


def check_field(dataset: Any, field: str) -> None:
    """Raises InvalidInputError if a dataset has no such field."""
    if dataset.get_field(field) is None:
        raise InvalidInputError(
            f"Dataset '{dataset.name}' has no field '{field}'; its fields are "
            f"{', '.join(dataset.get_field_schema())}"
        )


def ranked(rule: Rule, values: Sequence[float], mean: Sequence[float]) -> list[int]:
    """Returns the positions of a group's members, the one that is kept first.

    Args:
        rule: the rule
        values: what each member is ranked by; those that are not known come last
        mean: the mean distance of each member to the others, which decides where the values are
            the same. Then the earlier one is first
    """
    positions = range(len(mean))
    if rule.name == "first":
        return list(positions)
    known = [-v if v == v else np.inf for v in values]
    return sorted(positions, key=lambda i: (known[i], mean[i], i))


def _moment(value: object) -> float:
    """A date or number as a number, NaN if it is neither."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        return aware.timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=timezone.utc).timestamp()
    number = as_number(value)
    return np.nan if number is None else float(number)
