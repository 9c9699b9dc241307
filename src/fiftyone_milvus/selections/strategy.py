"""What every strategy is, and what it says of candidates."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from fiftyone_milvus.metrics import Array
from fiftyone_milvus.numbers import check_weight
from fiftyone_milvus.selections.candidates import Candidates


class Scores(ABC):
    """What a strategy says of each candidate, given those that are chosen already.

    A score may only fall when others are chosen: so that a candidate that was not the best with an
    older score need not be looked at again.
    """

    excluded: Array | None = None
    """The positions of candidates that must not be chosen, if there are any."""

    begins_at_zero: bool = False
    """Whether all scores are 0 until something is chosen; only then may they rise."""

    @abstractmethod
    def of(self, rows: Array) -> Array:
        """Returns the scores of candidates, about 0 to 1, now.

        Args:
            rows: an integer array of positions

        Returns:
            a float64 array of the same length
        """

    @abstractmethod
    def reason(self, row: int) -> str:
        """Returns why a candidate is chosen now, in a few words."""

    def choose(self, row: int) -> None:  # noqa: B027 (what does not depend on the others)
        """Notes that a candidate was chosen."""


class Strategy(ABC):
    """Says which candidates a selection should have.

    Attributes:
        strength: its weight among several strategies
    """

    strength: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", check_weight("strength", self.strength))

    @property
    def name(self) -> str:
        """Its name in reasons, such as ``"diverse"``."""
        return type(self).__name__.lower()

    @abstractmethod
    def prepare(self, candidates: Candidates) -> Scores:
        """Looks at all candidates.

        Raises:
            InvalidInputError: if the strategy can't be used for them
        """


class Ranked(Scores):
    """Scores that don't depend on what is chosen: the share of the others that are worse.

    Args:
        values: a float array with one number for each candidate
        words: what to say of a candidate, with ``{share}`` and ``{value}``
        descending (False): whether large values are better
    """

    def __init__(self, values: Array, words: str, *, descending: bool = False) -> None:
        self._values, self._words = values, words
        order = np.argsort(values if descending else -values, kind="stable")
        self._shares = np.empty(len(values), dtype=np.float32)
        # Equal values have equal scores
        ordered = values[order]
        first = np.r_[True, ordered[1:] != ordered[:-1]]
        position = np.maximum.accumulate(np.where(first, np.arange(len(values)), 0))
        self._shares[order] = position / max(1, len(values) - 1)

    def of(self, rows: Array) -> Array:
        """See the base class."""
        return self._shares[rows].astype(np.float64)

    def reason(self, row: int) -> str:
        """See the base class."""
        share, value = float(self._shares[row]), float(self._values[row])
        return self._words.format(share=f"{share:.0%}", value=f"{value:.4g}")
