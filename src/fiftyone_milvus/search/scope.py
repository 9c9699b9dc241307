"""The rows that a search may return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np

from fiftyone_milvus.dataset.object_ids import IdArray
from fiftyone_milvus.metrics import Array


@dataclass
class Facts:
    """What searches learned about a scope; possibly out of date, but enough to choose a plan.

    Attributes:
        size: its number of keys
        share: its share of the rows nearest to the last query, down to the last result, from 0 to 1
        spent: seconds that wide searches in it took without knowing its rows
        proven: whether a change of the rows that were last read can be noticed
    """

    size: int | None = None
    share: float | None = None
    spent: float = 0.0
    proven: bool = True


class Scope(ABC):
    """The rows that a search may return: those of a FiftyOne view, or of a filter expression.

    Args:
        expression: a Milvus expression that is true for the scope's rows only; None if there is
            none
        facts: what earlier searches learned about the scope; later ones add to it
    """

    def __init__(self, expression: str | None = None, facts: Facts | None = None) -> None:
        self.expression = expression
        self.facts = facts or Facts()
        self._rows: dict[str, str] | None = None
        self.reused = False
        """Whether the rows are those that an earlier search has read."""

    @property
    def known(self) -> bool:
        """Whether the rows are known without reading them."""
        return self._rows is not None

    @property
    def keeps(self) -> bool:
        """Whether rows that are read now are known to the next search too."""
        return False

    def rows(self) -> dict[str, str]:
        """Returns the sample ID of each row by its primary key; reads all of them, once."""
        if self._rows is None:
            self._store(self._read_rows())
        assert self._rows is not None
        return self._rows

    def ids(self) -> list[str]:
        """Returns the primary keys of the rows; reads all of them, once."""
        return list(self.rows())

    def keys(self) -> list[str] | IdArray:
        """Returns the primary keys like :meth:`ids`, as an array where they are known as one."""
        return self.ids()

    def few(self, limit: int) -> bool:
        """Whether there are known to be at most ``limit`` rows; if so, they have been read.

        Args:
            limit: the largest number of rows

        Returns:
            False if there are more, or if a subclass does not find out
        """
        return len(self.rows()) <= limit

    def keep(self, ids: Sequence[str], sample_ids: Sequence[str]) -> Array:
        """Returns which of the given rows are in the scope.

        It asks about these rows only, unless all rows of the scope are known already.

        Args:
            ids: primary keys
            sample_ids: the sample of each

        Returns:
            a boolean array of the length of ``ids``
        """
        found = self._rows if self._rows is not None else self._among(ids, sample_ids)
        return np.fromiter((i in found for i in ids), dtype=bool, count=len(ids))

    @abstractmethod
    def _read_rows(self) -> dict[str, str]:
        """Reads the sample ID of each row by its primary key."""

    @abstractmethod
    def _among(self, ids: Sequence[str], sample_ids: Sequence[str]) -> Container[str]:
        """Returns primary keys, among them those of the given rows that are in the scope."""

    def _store(self, rows: dict[str, str]) -> None:
        self._rows = rows
        self.facts.size, self.facts.spent = len(rows), 0.0
