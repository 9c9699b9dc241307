"""What a new image is a duplicate of, before it is added."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fiftyone_milvus.dataset import selected
from fiftyone_milvus.metrics import Array


@dataclass(frozen=True)
class Arrival:
    """What a new image, or vector, is nearly the same as.

    Attributes:
        thresh: the distance, inclusive
        ids: of the samples or patches within the distance, the closest first
        distances: of each: a float64 array
        groups: the numbers of those groups, of the field ``duplicates``, that it could be added to:
            it is within the distance of each of their members
    """

    thresh: float
    ids: list[str]
    distances: Array
    groups: list[int]
    _place: tuple[Any, str | None] = field(default=(None, None), repr=False)

    @property
    def is_new(self) -> bool:
        """Whether nothing is within the distance."""
        return not self.ids

    def view(self) -> Any:
        """Returns a view of what it is nearly the same as, the closest first."""
        return selected.view_of(*self._place, self.ids)

    def __str__(self) -> str:
        if self.is_new:
            return f"New: nothing is within {self.thresh:.4g}"
        text = (
            f"Nearly the same as {len(self.ids):,} within {self.thresh:.4g}; the closest is "
            f"{self.ids[0]}, {self.distances[0]:.4g} away"
        )
        return text + (f", in group {self.groups[0]}" if self.groups else "")
