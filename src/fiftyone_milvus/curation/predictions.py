"""Labels that were predicted for samples without one."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fiftyone_milvus.curation.confusion import Confusion
from fiftyone_milvus.curation.label_values import LabelField
from fiftyone_milvus.curation.notes import noted
from fiftyone_milvus.dataset import selected
from fiftyone_milvus.metrics import Array


@dataclasses.dataclass
class Predictions:
    """Labels for the samples, or patches, that have none.

    Attributes:
        field: the field that lacks them
        ids: sample IDs, or label IDs of an index of patches
        labels: a label for each
        confidences: the share of the votes for it, or the softmax over the prompts: a float64 array
            of numbers in [0, 1]
        labeled: how many have a label, of which the neighbors are; 0 with prompts
        unsure: how many were left out, as their confidence is below ``min_confidence``
        no_embedding: how many samples or patches are not in the index
        stale: how many rows were left out, as their samples were deleted
        confusion: what the neighbors say of up to 1,000 labeled ones, each held out; None with
            prompts, or without labels
        into: the field that was written, or None
        written: how many labels were written to it
    """

    field: str
    ids: list[str]
    labels: list[str]
    confidences: Array
    labeled: int
    unsure: int = 0
    no_embedding: int = 0
    stale: int = 0
    confusion: Confusion | None = None
    into: str | None = None
    written: int = 0
    _dataset: Any = dataclasses.field(default=None, repr=False)
    _patches_field: str | None = dataclasses.field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def accuracy(self) -> float | None:
        """The share of up to 1,000 labeled ones that would be predicted as they are labeled."""
        return None if self.confusion is None else self.confusion.accuracy

    def view(self, count: int | None = None) -> Any:
        """Returns a view of what was predicted, the least confident first.

        Args:
            count (None): of so many; by default all
        """
        order = np.argsort(self.confidences, kind="stable")[:count]
        ids = [self.ids[i] for i in order]
        return selected.view_of(self._dataset, self._patches_field, ids)

    def save(self, into: str | None = None) -> str:
        """Writes the labels, and never over one.

        Args:
            into (None): a field of ``Classification`` or strings, or a new one; for patches, an
                attribute of the labels. By default, ``FIELD_predicted``

        Returns:
            the name of the field

        Raises:
            InvalidInputError: if the field can't hold labels
        """
        name = into or f"{self.field}_predicted"
        target = LabelField.find(self._dataset, self._patches_field, name, new=True)
        found = zip(self.ids, zip(self.labels, self.confidences.tolist()), strict=True)
        # A new field is a note of ours; in one of the user's, it is an edit
        self.written = target.fill(dict(found), edit=not target.is_new)
        self.into = target.name
        return target.name

    def __str__(self) -> str:
        what = "samples" if self._patches_field is None else "patches"
        text = f"Predicted '{self.field}' of {len(self):,} {what}"
        if self.labeled:
            text += f" from {self.labeled:,} labeled"
        if self.accuracy is not None:
            text += f"; {self.accuracy:.1%} of held-out labels are predicted as they are"
        text = noted(text, unsure=self.unsure, no_embedding=self.no_embedding, stale=self.stale)
        if self.into is not None:
            text += f"; wrote {self.written:,} to '{self.into}'"
            if kept := len(self) - self.written:
                text += f", where {kept:,} had a label already"
        return text
