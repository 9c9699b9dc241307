"""How a dataset differs from a reference: its drift, and what is new in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fiftyone_milvus.curation import group_field
from fiftyone_milvus.curation.notes import noted
from fiftyone_milvus.curation.two_samples import TwoSamples
from fiftyone_milvus.dataset import selected
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.search import stored_distances


@dataclass(frozen=True)
class Comparison:
    """How samples or patches differ from those of a reference.

    Attributes:
        test: the drift, and how sure it is
        drawn: how many were drawn for that: of the samples, and of the reference
        ids: of the samples or patches, the one that is farthest from the reference first
        distances: of each to its nearest in the reference: a descending float64 array
        reference_ids: the nearest in the reference of each
        compared: how many there are, and in the reference
        stale: how many rows were left out, as their samples were deleted
    """

    test: TwoSamples
    drawn: tuple[int, int]
    ids: list[str]
    distances: Array
    reference_ids: list[str]
    compared: tuple[int, int]
    stale: int
    _dataset: Any
    _patches_field: str | None

    @property
    def drift(self) -> float:
        """From 0, for the same distribution, to 1, where nothing of one is near the other."""
        return self.test.drift

    @property
    def p_value(self) -> float:
        """How probable such a drift is if both are of one distribution."""
        return self.test.p_value

    def view(self, count: int | None = None) -> Any:
        """Returns a view of the samples or patches, the most novel first.

        Args:
            count (None): how many; by default, all
        """
        return selected.view_of(self._dataset, self._patches_field, self.ids[:count])

    def save(self, field: str = "novelty") -> None:
        """Stores the distance of each to its nearest in the reference; that is no edit.

        Args:
            field ("novelty"): a float field, or for patches, an attribute of the labels

        Raises:
            InvalidInputError: if the dataset has another field of that name
        """
        stored_distances.check(self._dataset, self._patches_field, field, "field")
        if self._patches_field is None:
            stored_distances.store(self._dataset, field, self.ids, self.distances.tolist())
            return
        sample_of = group_field.samples_of(self._dataset, self._patches_field, self.ids)
        rows = zip(map(sample_of, self.ids), self.ids, self.distances.tolist())
        # Not those that were deleted since
        there = [row for row in rows if row[0] is not None]
        columns = zip(*there) if there else ((), (), ())
        stored_distances.store_on_labels(self._dataset, self._patches_field, field, *columns)

    def __str__(self) -> str:
        text = (
            f"Drift {self.drift:.3f} (p = {self.p_value:.3g}, of {self.drawn[0]:,} and "
            f"{self.drawn[1]:,} drawn)"
        )
        if self.ids:
            middle = self.distances[len(self.ids) // 2]
            text += (
                f"; to the nearest of {self.compared[1]:,} in the reference, the median distance "
                f"is {middle:.4g}, and the largest {self.distances[0]:.4g}"
            )
        return noted(text, stale=self.stale)
