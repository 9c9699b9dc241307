"""Wants what resembles a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fiftyone_milvus.metrics import Array
from fiftyone_milvus.selections.candidates import Candidates
from fiftyone_milvus.selections.strategy import Ranked, Scores, Strategy


@dataclass(frozen=True)
class Similar(Strategy):
    """Wants what is close to one of the references, for example to a tagged view.

    The references themselves are not chosen.

    Attributes:
        reference: a view of the dataset, samples, labels or IDs; an index of another dataset; or a
            ``num_vectors x num_dims`` array
        strength (1.0): its weight among several strategies
    """

    reference: Any
    strength: float = 1.0

    def prepare(self, candidates: Candidates) -> Scores:
        """See the base class."""
        return compared(candidates, self.reference, "closer to the reference than", False)


def compared(candidates: Candidates, reference: Any, words: str, descending: bool) -> Scores:
    """Returns scores by the distance to the nearest reference, which are not to be chosen."""
    given = candidates.read(reference)
    with given.vectors as vectors:
        distances: Array = candidates.nearest(vectors)[0]
    scores = Ranked(distances, f"{words} {{share}} of all: {{value}}", descending=descending)
    scores.excluded = candidates.positions(given.ids)
    return scores
