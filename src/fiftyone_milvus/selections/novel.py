"""Wants what a reference does not have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fiftyone_milvus.selections.candidates import Candidates
from fiftyone_milvus.selections.similar import compared
from fiftyone_milvus.selections.strategy import Scores, Strategy


@dataclass(frozen=True)
class Novel(Strategy):
    """Wants what is far from all references, for example from what is labeled already.

    The references themselves are not chosen.

    Attributes:
        reference: like that of :class:`~fiftyone_milvus.selections.Similar`
        strength (1.0): its weight among several strategies
    """

    reference: Any
    strength: float = 1.0

    def prepare(self, candidates: Candidates) -> Scores:
        """See the base class."""
        return compared(candidates, self.reference, "farther from the reference than", True)
