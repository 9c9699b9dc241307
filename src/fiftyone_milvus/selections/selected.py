"""What a selection has chosen, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fiftyone_milvus.dataset.availability import needs_database
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.search import stored_distances
from fiftyone_milvus.search.results import SearchResults

_SHOWN = 10


@dataclass(frozen=True, eq=False, repr=False)
class Selected:
    """What a selection has chosen, in the order in which it was chosen.

    :meth:`MilvusSimilarityIndex.select() <fiftyone_milvus.index.MilvusSimilarityIndex.select>`
    returns it.

    Attributes:
        sample_ids: the sample ID of each
        label_ids: the label ID of each, or None if the index holds no patches
        reasons: for each, what every strategy said, by its name
        scores: a float64 array: the sum of what the strategies said, times their strengths
        distances: the ascending distances of up to 10,000 candidates, which are drawn by the seed,
            to the nearest chosen one
        counts: for each field that was balanced, how many of each value are chosen, and how many
            there are
        candidates: how many there were
        seed: by which the selection can be repeated
    """

    sample_ids: list[str]
    label_ids: list[str] | None
    reasons: list[Mapping[str, str]]
    scores: Array
    distances: Array
    counts: Mapping[str, Mapping[str, tuple[int, int]]]
    candidates: int
    seed: int
    _samples: Any = field(default=None)
    _patches_field: str | None = field(default=None)

    @property
    def ids(self) -> list[str]:
        """The primary keys in Milvus: the label IDs of patches, else the sample IDs."""
        return self.sample_ids if self.label_ids is None else self.label_ids

    @property
    def radius(self) -> float:
        """The largest of :attr:`distances`: every candidate is that close to a chosen one.

        Of more than 10,000 candidates, those that were drawn.
        """
        return float(self.distances[-1]) if len(self.distances) else 0.0

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __repr__(self) -> str:
        what = "samples" if self.label_ids is None else "patches"
        lines = [
            f"{type(self).__name__}({len(self):,} of {self.candidates:,} {what}, all within "
            f"{self.radius:.4g} of them)"
        ]
        for at, (_id, reasons) in enumerate(zip(self.ids[:_SHOWN], self.reasons), 1):
            said = "; ".join(f"{name}: {text}" for name, text in reasons.items())
            lines.append(f"{at:3} {_id} {said}")
        if len(self) > _SHOWN:
            lines.append(f"... and {len(self) - _SHOWN:,} more")
        return "\n".join(lines)

    @needs_database
    def view(self) -> Any:
        """Returns a view of what was chosen, in its order; see
        :meth:`SearchResults.view() <fiftyone_milvus.search.results.SearchResults.view>`.
        """
        return self._as_results().view()

    @needs_database
    def store(self, name: str) -> None:
        """Stores the ranks, from 1, in a float field of what was chosen. It is no edit.

        Args:
            name: of the field, on the labels if these are patches; created if necessary

        Raises:
            InvalidInputError: if it is no name, or that of a field with other values
        """
        stored_distances.check(self._samples, self._patches_field, name, "field")
        self._as_results().store(name)

    def _as_results(self) -> SearchResults:
        ranks = np.arange(1.0, len(self) + 1)
        return SearchResults(
            self.sample_ids, self.label_ids, ranks, self._samples, self._patches_field
        )
