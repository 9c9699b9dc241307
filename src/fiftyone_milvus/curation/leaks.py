"""Leaks: samples of one part of the data that are nearly in another, such as train and test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fiftyone_milvus.curation.linkage import collected
from fiftyone_milvus.curation.notes import noted
from fiftyone_milvus.dataset import selected
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods import Pairs, Vectors, all_pairs


@dataclass(frozen=True)
class Leaks:
    """Pairs of which one is in one part of the data, and the other in another, closest first.

    Attributes:
        thresh: the distance within which both are, inclusive
        ids: of the samples or patches of the first part, one for each pair
        other_ids: of those of the other part, one for each pair
        distances: of each pair: a float64 array
        compared: how many are in the first part, and in the other
        stale: how many rows were left out, as their samples were deleted
    """

    thresh: float
    ids: list[str]
    other_ids: list[str]
    distances: Array
    compared: tuple[int, int]
    stale: int = 0
    _places: tuple[tuple[Any, str | None], ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def view(self) -> Any:
        """Returns a view of those of the first part that leak, the closest first."""
        return selected.view_of(*self._places[0], list(dict.fromkeys(self.ids)))

    def other_view(self) -> Any:
        """Returns a view of those of the other part that leak, the closest first."""
        return selected.view_of(*self._places[1], list(dict.fromkeys(self.other_ids)))

    def __str__(self) -> str:
        text = (
            f"{len(self):,} pairs within {self.thresh:.4g}: {len(set(self.ids)):,} of "
            f"{self.compared[0]:,} are nearly in the other part, with {len(set(self.other_ids)):,} "
            f"of its {self.compared[1]:,}"
        )
        return noted(text, stale=self.stale)


def pairs_across(vectors: Vectors, first: int, thresh: float) -> Pairs:
    """Returns the pairs within a distance that are in different parts, closest first.

    Args:
        vectors: those of the first part, then those of the other
        first: how many are of the first part
        thresh: the largest distance, inclusive

    Returns:
        the positions in the first part, the positions in the other, and the distances
    """
    across = (
        (later[chosen], earlier[chosen], apart[chosen])
        for later, earlier, apart in all_pairs(vectors, thresh)
        for chosen in [(later >= first) & (earlier < first)]
    )
    later, earlier, apart = collected(across)
    order = np.lexsort((later, earlier, apart))
    return earlier[order], later[order] - first, apart[order]
