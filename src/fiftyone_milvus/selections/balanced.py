"""Wants as many of each label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fiftyone_milvus.errors import InvalidInputError, shown
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.numbers import check_text
from fiftyone_milvus.selections.candidates import Candidates
from fiftyone_milvus.selections.strategy import Scores, Strategy

_NO_VALUE = -1.0


@dataclass(frozen=True)
class Balanced(Strategy):
    """Wants as many candidates of each value of a field; of none, those without a value last.

    A value counts the less, the more of its share is chosen. With a strength of 10 or more, the
    numbers differ by hardly more than one, as long as there are enough of each.

    Attributes:
        field: such as ``"ground_truth.label"``; for an index of patches, an attribute of the labels
            such as ``"label"``, or a field of the samples
        strength (1.0): its weight among several strategies
    """

    field: str
    strength: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if check_text("field", self.field, what="the name of a field") is None:
            raise InvalidInputError("Balanced needs a field, such as 'ground_truth.label'")

    def prepare(self, candidates: Candidates) -> Scores:
        """See the base class."""
        return Balance(self.field, candidates)


class Balance(Scores):
    """How many of each value are chosen.

    Args:
        field: the field
        candidates: what is chosen from

    Attributes:
        names: the values, the most frequent first
        chosen: how many of each are chosen
        all: how many of each there are
    """

    def __init__(self, field: str, candidates: Candidates) -> None:
        self._field = field
        values = candidates.values(field)
        known: dict[str, int] = {}
        codes = np.empty(len(values), dtype=np.int32)
        for at, value in enumerate(values):
            if value is not None and not isinstance(value, (str, bool, int, float)):
                raise InvalidInputError(
                    f"Invalid field '{field}': it has {shown(value)}, a {type(value).__name__}; "
                    "expected one text, number or boolean for each, such as 'ground_truth.label'"
                )
            codes[at] = -1 if value is None else known.setdefault(str(value), len(known))
        if not known:
            raise InvalidInputError(
                f"Field '{field}' has no value to balance; choose another field, or leave it out"
            )
        counts = np.bincount(codes[codes >= 0], minlength=len(known))
        order = np.argsort(-counts, kind="stable")
        rank = np.empty(len(order), dtype=np.int32)
        rank[order] = np.arange(len(order))
        self._codes = np.where(codes < 0, -1, rank[codes])
        labels = list(known)
        self.names = [labels[at] for at in order]
        self.all = counts[order]
        self.chosen = np.zeros(len(known), dtype=np.int64)
        self._share = candidates.count / len(known)

    def of(self, rows: Array) -> Array:
        """See the base class."""
        codes = self._codes[rows]
        return np.where(codes < 0, _NO_VALUE, 1 - self.chosen[codes] / self._share)

    def choose(self, row: int) -> None:
        """See the base class."""
        if self._codes[row] >= 0:
            self.chosen[self._codes[row]] += 1

    def reason(self, row: int) -> str:
        """See the base class."""
        code = self._codes[row]
        if code < 0:
            return f"no value of {self._field}"
        return f"{self._field} {shown(self.names[code])}, with {self.chosen[code]:,} chosen before"
