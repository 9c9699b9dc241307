"""Milvus filter expressions over IDs, and which rows a search is limited to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

MAX_EXPRESSION_IDS = 10_000
"""IDs in one ``in [...]`` expression: a server parses 10k in 80-130 ms, and 100k in 0.6 s."""


def ids_in(field: str, ids: Sequence[str]) -> str:
    """Returns the expression that matches rows whose ``field`` is one of ``ids``.

    JSON string literals round-trip quotes, backslashes and unicode on every Milvus since 2.3,
    and on Milvus Lite only when not escaped to ASCII.
    """
    return f"{field} in {json.dumps(list(ids), ensure_ascii=False)}"


def everything(field: str) -> str:
    """Returns an expression that matches every row: no key is the empty string."""
    return f'{field} not in [""]'


def batches(ids: Sequence[str], size: int = MAX_EXPRESSION_IDS) -> Iterator[Sequence[str]]:
    """Yields ``ids`` in slices of at most ``size``."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


@dataclass
class Facts:
    """What is known of a scope, maybe from a while ago: enough to choose a plan by.

    Attributes:
        size: its number of keys
        share: its share of the rows nearest to the last query
    """

    size: int | None = None
    share: float | None = None


class Scope(Protocol):
    """The rows that a search may return: those of a FiftyOne view, or of an expression."""

    def ids(self) -> Sequence[str]:
        """Returns the primary keys in the scope; reads them all, once."""
        ...

    def keep(self, ids: Sequence[str], sample_ids: Sequence[str]) -> npt.NDArray[Any]:
        """Returns a boolean array: which of these rows are in the scope.

        Cheap: asks only about the given rows, unless all IDs are known already.
        """
        ...

    def few(self, limit: int) -> bool:
        """Whether there are at most ``limit`` keys; if so, :meth:`ids` has been read."""
        ...

    @property
    def known(self) -> bool:
        """Whether :meth:`ids` has been read already."""
        ...

    @property
    def expression(self) -> str | None:
        """A filter expression that is true for the scope's rows; None if there is none."""
        ...

    @property
    def facts(self) -> Facts:
        """What earlier searches learned about the scope; later ones add to it."""
        ...
