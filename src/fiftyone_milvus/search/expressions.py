"""A Milvus filter expression of the user's as the scope of a search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.collection.filters import Facts, Scope
from fiftyone_milvus.errors import EngineError, InvalidInputError
from fiftyone_milvus.metrics import Array

_FEW = 20_000
"""So many rows are looked up in a view sooner than a wide view's IDs are read."""


class ExpressionScope:
    """The rows for which an expression is true.

    Args:
        collection: an existing collection
        expression: a boolean expression over its fields

    Attributes:
        expression: the expression, in parentheses
        facts: its size, and what searches learned

    Raises:
        InvalidInputError: if Milvus refuses the expression
    """

    def __init__(self, collection: MilvusCollection, expression: str) -> None:
        if not isinstance(expression, str) or not expression.strip():
            raise InvalidInputError(
                f"Invalid filter {expression!r}; expected a Milvus expression such as "
                "'metadata_width > 640', or None"
            )
        self._collection = collection
        self._rows: dict[str, str] | None = None
        self.expression: str = f"({expression})"
        try:
            # As given: unbalanced parentheses would be balanced by ours
            self.facts = Facts(size=collection.count(expression))
        except EngineError as error:
            raise InvalidInputError(
                f"Invalid filter {expression!r}; Milvus says: {error}"
            ) from error

    @property
    def has_samples(self) -> bool:
        """Whether the collection knows the sample of each row."""
        return self._collection.layout.sample_field is not None

    @property
    def size(self) -> int:
        """How many rows there were when the scope was made."""
        return self.facts.size or 0

    @property
    def known(self) -> bool:
        """Whether :meth:`ids` has been read already."""
        return self._rows is not None

    def ids(self) -> Sequence[str]:
        """Returns the primary keys of the rows; reads them all, once."""
        return list(self.pairs())

    def pairs(self) -> dict[str, str]:
        """Returns the primary keys of the rows and the sample ID of each; reads them all, once."""
        if self._rows is None:
            self._rows = self._collection.matching(self.expression)
        return self._rows

    def few(self, limit: int) -> bool:
        """Whether there are at most ``limit`` rows; if so, :meth:`ids` has been read."""
        return self.size <= limit and len(self.pairs()) <= limit

    def keep(self, ids: Sequence[str], sample_ids: Sequence[str] = ()) -> Array:
        """Returns a boolean array: for which of these rows the expression is true."""
        if self.known or len(ids) >= self.size:
            found = self.pairs()
        else:
            found = self._collection.matching(self.expression, ids)
        return np.fromiter((i in found for i in ids), dtype=bool, count=len(ids))


class Intersection:
    """The rows of a view for which an expression is true.

    Args:
        view: the scope of the view
        condition: the scope of the expression

    Attributes:
        expression: an expression that is true for these rows, if there is one for the view
        facts: what searches learned
    """

    def __init__(self, view: Scope, condition: ExpressionScope) -> None:
        self._view = view
        self._condition = condition
        self._ids: list[str] | None = None
        self.facts = Facts()
        self.expression = _both(view.expression, condition.expression)

    @property
    def known(self) -> bool:
        """Whether :meth:`ids` has been read already."""
        return self._ids is not None

    def ids(self) -> Sequence[str]:
        """Returns the primary keys of the rows; reads them all, once."""
        if self._ids is None:
            if self._condition.has_samples and not self._view.known and self._condition.few(_FEW):
                table = self._condition.pairs()
                ids = list(table)
                kept = self._view.keep(ids, list(table.values()))
            else:
                ids = list(self._view.ids())
                kept = self._condition.keep(ids)
            self._ids = [i for i, keep in zip(ids, kept.tolist()) if keep]
            self.facts.size = len(self._ids)
        return self._ids

    def few(self, limit: int) -> bool:
        """Whether there are known to be at most ``limit`` rows; if so, :meth:`ids` has been read.

        Of two large scopes the intersection may be small all the same.
        """
        if self.known or self._condition.few(limit) or self._view.few(limit):
            return len(self.ids()) <= limit
        return False

    def keep(self, ids: Sequence[str], sample_ids: Sequence[str]) -> Array:
        """Returns a boolean array: which of these rows are in both."""
        mask = self._view.keep(ids, sample_ids)
        inside = np.flatnonzero(mask).tolist()
        if inside:
            mask[inside] = self._condition.keep([ids[i] for i in inside])
        return mask


def _both(first: str | None, second: str) -> str | None:
    """Returns the expression for both; ``""`` is true for every row, and None says nothing."""
    if first is None:
        return None
    return f"({first}) and {second}" if first else second
