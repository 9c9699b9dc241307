"""The rows of a user's Milvus filter expression."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.errors import EngineError, InvalidInputError
from fiftyone_milvus.search.scope import Facts, Scope
from fiftyone_milvus.search.user_filters import check, shown, with_columns

_FEW = 20_000
"""Up to this many rows are looked up in a view; for more, all IDs of the view are read."""


class ExpressionScope(Scope):
    """The rows for which an expression is true.

    Args:
        collection: an existing collection
        expression: a boolean expression over its fields, or over FiftyOne's metadata fields

    Attributes:
        size: the number of rows when the scope was made

    Raises:
        InvalidInputError: if the expression is no text, too large, or divides by zero, or Milvus
            refuses it
    """

    expression: str

    def __init__(self, collection: MilvusCollection, expression: str) -> None:
        expression = check(expression)
        layout = collection.layout
        columns = {c.path: c.name for c in layout.fields.columns} if layout.fields else {}
        named = with_columns(expression, columns, {*layout.own_fields, *layout.others})
        self._collection = collection
        try:
            # Without our parentheses, which could balance unbalanced ones
            self.size = collection.count(named)
        except EngineError as error:
            raise InvalidInputError(
                f"Invalid filter {shown(repr(expression))}; Milvus says: {error}"
            ) from error
        super().__init__(f"({named})", Facts(size=self.size))

    @property
    def has_samples(self) -> bool:
        """Whether the collection knows the sample of each row."""
        return self._collection.layout.sample_field is not None

    def few(self, limit: int) -> bool:
        """Whether there are at most ``limit`` rows; if so, they have been read.

        Args:
            limit: the largest number of rows to read

        Returns:
            False, with no rows read, if there were more than ``limit`` when the scope was made

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        return self.size <= limit and super().few(limit)

    def _read_rows(self) -> dict[str, str]:
        return self._collection.matching(self.expression)

    def _among(self, ids: Sequence[str], sample_ids: Sequence[str]) -> Container[str]:
        if len(ids) >= self.size:
            return self.rows()
        return self._collection.matching(self.expression, ids)


class Intersection(Scope):
    """The rows of a view for which an expression is true.

    Args:
        view: the scope of the view
        condition: the scope of the expression
    """

    def __init__(self, view: Scope, condition: ExpressionScope) -> None:
        both = condition.expression
        if view.expression:
            both = f"({view.expression}) and {both}"
        super().__init__(None if view.expression is None else both)
        self._view = view
        self._condition = condition

    def few(self, limit: int) -> bool:
        """Whether there are known to be at most ``limit`` rows; if so, they have been read.

        Two large scopes may have a small intersection, which this does not find out.

        Args:
            limit: the largest number of rows

        Returns:
            False also if neither the view nor the expression is known to have few rows

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        known = self.known or self._condition.few(limit) or self._view.few(limit)
        return known and super().few(limit)

    def _read_rows(self) -> dict[str, str]:
        if self._condition.has_samples and not self._view.known and self._condition.few(_FEW):
            rows = self._condition.rows()
            kept = self._view.keep(list(rows), list(rows.values()))
        else:
            rows = self._view.rows()
            kept = self._condition.keep(list(rows), list(rows.values()))
        return {i: rows[i] for i, keep in zip(rows, kept.tolist()) if keep}

    def _among(self, ids: Sequence[str], sample_ids: Sequence[str]) -> Container[str]:
        inside = np.flatnonzero(self._view.keep(ids, sample_ids)).tolist()
        some = [ids[i] for i in inside]
        kept = self._condition.keep(some, [sample_ids[i] for i in inside]) if some else ()
        return {i for i, keep in zip(some, kept) if keep}
