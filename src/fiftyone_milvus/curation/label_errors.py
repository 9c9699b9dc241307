"""Labels that their neighbors contradict."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Sequence
from typing import Any

import fiftyone as fo
import numpy as np

from fiftyone_milvus.curation.confusion import Confusion
from fiftyone_milvus.curation.label_values import store_notes
from fiftyone_milvus.curation.notes import noted
from fiftyone_milvus.curation.votes import Votes
from fiftyone_milvus.dataset import selected
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.metrics import Array


@dataclasses.dataclass(frozen=True)
class LabelErrors:
    """All labeled samples, or patches, the most suspicious label first.

    Attributes:
        field: the field of the labels
        ids: sample IDs, or label IDs of an index of patches
        labels: of each
        suggested: the label with the most votes of the neighbors, without that of the sample itself
        scores: how much the neighbors contradict, a float64 array, descending: the share of the
            largest other label, less that of its own, from [-1, 1] to [0, 1]. Above 0.5, another
            label has more votes
        no_embedding: how many samples or patches are not in the index
        stale: how many rows were left out, as their samples were deleted
        unlabeled: how many have no label
    """

    field: str
    ids: list[str]
    labels: list[str]
    suggested: list[str]
    scores: Array
    no_embedding: int = 0
    stale: int = 0
    unlabeled: int = 0
    _votes: Votes | None = dataclasses.field(default=None, repr=False)
    _classes: Sequence[str] = dataclasses.field(default=(), repr=False)
    _dataset: Any = dataclasses.field(default=None, repr=False)
    _patches_field: str | None = dataclasses.field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def contradicted(self) -> int:
        """How many have neighbors that say another label, which is a score above 0.5."""
        return int(np.searchsorted(-self.scores, -0.5, side="left"))

    @property
    def confusion(self) -> Confusion:
        """The labels by what the neighbors say."""
        return Confusion.of(self.labels, self.suggested)

    def view(self, count: int | None = None) -> Any:
        """Returns a view of the most suspicious labels, the most suspicious first.

        Args:
            count (None): how many; by default, those that are :attr:`contradicted`
        """
        ids = self.ids[: self.contradicted if count is None else count]
        return selected.view_of(self._dataset, self._patches_field, ids)

    def save(self, into: str = "label_error") -> str:
        """Writes score and suggested label to fields, in place of earlier ones.

        Args:
            into ("label_error"): the name of the field with the score, from 0 to 1. The suggested
                label is in ``INTO_suggested``. For patches, of attributes of the labels

        Returns:
            the name of the field with the score

        Raises:
            InvalidInputError: if the dataset has another field of that name
        """
        if not isinstance(into, str) or not into.isidentifier():
            raise InvalidInputError(f"Invalid into {into!r}; expected the name of a field")
        names = {into: fo.FloatField, f"{into}_suggested": fo.StringField}
        values = zip(self.scores.tolist(), self.suggested)
        rows = dict(zip(self.ids, values, strict=True))
        store_notes(self._dataset, self._patches_field, names, rows)
        return into

    def cleanlab_scores(self, method: str = "normalized_margin") -> Array:
        """Returns cleanlab's label quality from the votes of the same neighbors, to compare.

        Args:
            method ("normalized_margin"): of ``cleanlab.rank.get_label_quality_scores()``

        Returns:
            a float64 array, one for each of :attr:`ids`; lower is more suspicious

        Raises:
            InvalidInputError: if cleanlab is not installed
        """
        if importlib.util.find_spec("cleanlab") is None or self._votes is None:
            raise InvalidInputError("cleanlab is not installed; run pip install cleanlab")
        rank = importlib.import_module("cleanlab.rank")
        codes = {label: code for code, label in enumerate(self._classes)}
        labels = np.array([codes[label] for label in self.labels])
        shares = self._votes.probabilities(len(codes))
        return np.asarray(rank.get_label_quality_scores(labels, shares, method=method))

    def __str__(self) -> str:
        what = "samples" if self._patches_field is None else "patches"
        text = (
            f"{self.contradicted:,} of {len(self):,} {what} have neighbors that say another "
            f"'{self.field}'"
        )
        return noted(
            text, unlabeled=self.unlabeled, no_embedding=self.no_embedding, stale=self.stale
        )


def found(
    votes: Votes, codes: Array, classes: Sequence[str], ids: Sequence[str], **others: Any
) -> LabelErrors:
    """Ranks labels by how much the votes contradict them.

    Args:
        votes: of the neighbors of each, which has no vote itself
        codes: the label of each: an int array of positions in ``classes``
        classes: the labels
        ids: of samples or patches
        others: other attributes of :class:`LabelErrors`
    """
    winners, _ = votes.winners()
    _, share = votes.best_other(codes)
    scores = (share - votes.share(codes) + 1) / 2
    # Of those with the same score, the one whose neighbors are nearest
    order = np.lexsort((votes.distances.mean(axis=1), -np.round(scores, 9)))
    return LabelErrors(
        ids=[ids[i] for i in order],
        labels=[classes[codes[i]] for i in order],
        suggested=[classes[winners[i]] for i in order],
        scores=scores[order],
        _votes=Votes(votes.labels[order], votes.weights[order], votes.distances[order]),
        _classes=classes,
        **others,
    )
