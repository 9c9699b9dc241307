"""A number from 0 to 1 for each sample or patch, such as its uniqueness."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import fiftyone as fo
import numpy as np

from fiftyone_milvus.curation.label_values import store_notes
from fiftyone_milvus.curation.notes import noted
from fiftyone_milvus.dataset import selected
from fiftyone_milvus.errors import InvalidInputError, shown
from fiftyone_milvus.metrics import Array


@dataclass(frozen=True)
class Ratings:
    """Numbers for samples, or patches, that are relative to what was compared, the largest first.

    Attributes:
        name: ``"uniqueness"`` or ``"representativeness"``
        ids: sample IDs, or label IDs of an index of patches
        values: a descending float64 array of numbers from 0 to 1, one for each
        no_embedding: how many samples or patches are not in the index
        stale: how many rows were left out, as their samples were deleted
    """

    name: str
    ids: list[str]
    values: Array
    no_embedding: int = 0
    stale: int = 0
    _dataset: Any = field(default=None, repr=False)
    _patches_field: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, name: str, ids: list[str], values: Array, **others: Any) -> Ratings:
        """Orders numbers; those that are the same stay in the order of the index.

        Args:
            name: what they are
            ids: sample IDs, or label IDs
            values: a float64 array, one for each
            others: other attributes
        """
        order = np.argsort(-values, kind="stable")
        return cls(name, [ids[i] for i in order], values[order], **others)

    def __len__(self) -> int:
        return len(self.ids)

    def ranked(self, *, lowest: bool = False) -> list[str]:
        """Returns the IDs, those with the largest number first, or with the smallest.

        Args:
            lowest (False): whether the smallest come first
        """
        return self.ids[::-1] if lowest else self.ids

    def view(self, count: int | None = None, *, lowest: bool = False) -> Any:
        """Returns a view of samples or patches in that order.

        Args:
            count (None): how many; by default, all
            lowest (False): whether those with the smallest numbers come first
        """
        ids = self.ranked(lowest=lowest)[:count]
        return selected.view_of(self._dataset, self._patches_field, ids)

    def save(self, into: str | None = None) -> str:
        """Writes the numbers to a field, in place of earlier ones of ours; that is no edit.

        Args:
            into (None): the name of a float field; for patches, of an attribute of the labels. By
                default, :attr:`name`

        Returns:
            the name of the field

        Raises:
            InvalidInputError: if the dataset has another field of that name, such as FiftyOne's own
        """
        into = self.name if into is None else into
        if not isinstance(into, str) or not into.isidentifier() or into.startswith("_"):
            raise InvalidInputError(f"Invalid into {shown(into)}; expected the name of a field")
        rows = {i: (value,) for i, value in zip(self.ids, self.values.tolist(), strict=True)}
        store_notes(self._dataset, self._patches_field, {into: fo.FloatField}, rows)
        return into

    def __str__(self) -> str:
        what = "samples" if self._patches_field is None else "patches"
        text = f"The {self.name} of {len(self):,} {what}"
        if self.ids:
            text += f": median {np.median(self.values):.3f}, smallest {self.values[-1]:.3f}"
        return noted(text, no_embedding=self.no_embedding, stale=self.stale)
