"""The review of duplicates: groups in a field of the samples, and decisions as tags.

The field is that of :mod:`fiftyone_milvus.curation.group_field`. A decision is a tag, which undoes
it when removed. Nothing is deleted before the user says so.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fiftyone_milvus.curation import group_field
from fiftyone_milvus.curation.group_field import DELETE, FIELD, KEEP, Entry, check
from fiftyone_milvus.dataset import selected, unmarked
from fiftyone_milvus.dataset.unmarked import Update
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.metrics import Array

__all__ = [
    "DELETE", "FIELD", "KEEP", "UNDECIDED", "Review", "check", "clear", "forget", "load",
    "loaded", "store",
]  # fmt: skip

UNDECIDED = ""

_UNDONE_AT_MOST = 100


@dataclass
class Review:
    """The groups of duplicates of one index, and what was decided.

    All arrays have one element for each sample, or patch, of a group. They are ordered by group;
    in it, the one that is kept comes first, then the closest.

    Attributes:
        dataset: the :class:`fiftyone.core.dataset.Dataset`
        patches_field: the field of the patches, or None for samples
        brain_key: of the index
        thresh: the distance within which they are duplicates
        ids: sample IDs, or label IDs
        sample_ids: the same, or those of the samples that have the labels
        groups: numbers from 1: an int64 array
        distances: a float64 array, 0 for those that are kept
        kept: which ones are the kept ones of their groups: a bool array
        decisions: :data:`KEEP`, :data:`DELETE` or :data:`UNDECIDED` for each
    """

    dataset: Any
    patches_field: str | None
    brain_key: str
    thresh: float
    ids: list[str]
    sample_ids: list[str]
    groups: Array
    distances: Array
    kept: Array
    decisions: list[str]
    _undo: list[dict[int, str]] = field(default_factory=list)

    @property
    def numbers(self) -> list[int]:
        """The numbers of the groups that still have a duplicate, ascending."""
        return np.unique(self.groups[~self.kept]).tolist()

    @property
    def duplicates(self) -> list[int]:
        """The positions of all duplicates, without those that are kept."""
        return np.flatnonzero(~self.kept).tolist()

    @property
    def deleted(self) -> list[int]:
        """The positions of those to delete."""
        return [i for i, decision in enumerate(self.decisions) if decision == DELETE]

    def members(self, group: int) -> list[int]:
        """Returns the positions of a group."""
        return np.flatnonzero(self.groups == group).tolist()

    def next_undecided(self, group: int) -> int:
        """Returns the next group with a duplicate that nothing was decided for, or the same.

        Args:
            group: the number of a group, or 0 to begin
        """
        open_ = {int(self.groups[i]) for i in self.duplicates if not self.decisions[i]}
        same = group or self.numbers[0]
        return min(open_, key=lambda other: (other <= group, other), default=same)

    def decide(self, positions: Sequence[int], decision: str) -> None:
        """Decides for some, which can be undone.

        Args:
            positions: of those
            decision: :data:`KEEP`, :data:`DELETE` or :data:`UNDECIDED`
        """
        before = {i: self.decisions[i] for i in positions if self.decisions[i] != decision}
        if before:
            self._write(dict.fromkeys(before, decision))
            self._undo.append(before)
            del self._undo[:-_UNDONE_AT_MOST]

    @property
    def can_undo(self) -> bool:
        """Whether there is a decision that can be undone."""
        return bool(self._undo)

    def undo(self) -> int | None:
        """Undoes the last decision; returns its first group, or None if there is none."""
        if not self._undo:
            return None
        before = self._undo.pop()
        self._write(before)
        return int(self.groups[min(before)])

    def tag(self, positions: Sequence[int], name: str) -> None:
        """Gives some a tag of the user's."""
        selected.tag(self.dataset, self.patches_field, [self.ids[i] for i in positions], name)

    def delete(self) -> list[str]:
        """Deletes those to delete from the dataset, and from the review; returns their IDs."""
        positions = self.deleted
        ids = [self.ids[i] for i in positions]
        if not ids:
            return []
        if self.patches_field is None:
            self.dataset.delete_samples(ids)
        else:
            self.dataset.delete_labels(ids=ids, fields=self.patches_field)
        forget(self.dataset)
        return ids

    def _write(self, decisions: Mapping[int, str]) -> None:
        root, filters = group_field.label_root(self.dataset, self.patches_field)
        path = f"{root}tags"

        def updates(tag: str, operator: str) -> Iterator[Update]:
            for i, decision in decisions.items():
                if tag == (self.decisions[i] if operator == "$pull" else decision):
                    update = {operator: {path: tag}}
                    yield Update(self.sample_ids[i], update, filters(self.ids[i]))

        for tag in (KEEP, DELETE):
            unmarked.write(self.dataset, "tags", updates(tag, "$pull"))
        for tag in (KEEP, DELETE):
            unmarked.write(self.dataset, "tags", updates(tag, "$addToSet"))
        for i, decision in decisions.items():
            self.decisions[i] = decision


_open: dict[str, Review] = {}
"""The review of each dataset, by the dataset's ID."""

_lock = threading.Lock()


def store(
    dataset: Any,
    patches_field: str | None,
    groups: Mapping[str, Sequence[tuple[str, float]]],
    brain_key: str,
    thresh: float,
) -> None:
    """Writes groups to the field, in place of those of another review.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        patches_field: the field of the patches, or None for samples
        groups: the index' ``neighbors_map``
        brain_key: of the index
        thresh: the distance within which they are duplicates

    Raises:
        InvalidInputError: if the dataset has another field of that name
    """
    entries: list[Entry] = []
    ordered = sorted(groups.items(), key=lambda group: group[1][0][1])
    for number, (one, others) in enumerate(ordered, start=1):
        entries.append(Entry(str(one), number, 0, 0.0, None))
        entries += [
            Entry(str(other), number, rank, float(distance), str(one))
            for rank, (other, distance) in enumerate(others, start=1)
        ]
    group_field.store(dataset, patches_field, entries, brain_key, thresh)
    forget(dataset)


def load(dataset: Any, brain_key: str, *, again: bool = False) -> Review | None:
    """Returns the review of an index, or None if there is none.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        brain_key: of the index
        again (False): whether to read it again, as tags may have changed in the grid
    """
    name = str(dataset._doc.id)
    with _lock:
        known = _open.get(name)
    if known is not None and known.brain_key == brain_key and not again:
        return known
    found = _read(dataset, brain_key)
    if found is not None:
        if known is not None and known.ids == found.ids:
            found._undo = known._undo
        with _lock:
            _open[name] = found
    return found


def loaded(dataset: Any, brain_key: str) -> Review:
    """Returns the review of an index.

    Raises:
        InvalidInputError: if there is none
    """
    found = load(dataset, brain_key)
    if found is None:
        raise InvalidInputError("The groups were removed meanwhile; search for duplicates again")
    return found


def forget(dataset: Any) -> None:
    """Reads the review of a dataset again when it is asked for."""
    with _lock:
        _open.pop(str(dataset._doc.id), None)


def clear(dataset: Any) -> None:
    """Removes the field and the tags of the dataset's review, if it has one."""
    group_field.clear(dataset)
    forget(dataset)


def _read(dataset: Any, brain_key: str) -> Review | None:
    path, info = group_field.stored(dataset)
    if path is None or info["brain_key"] != brain_key:
        return None
    patches_field = info["patches_field"]
    names = ["tags", *(f"{FIELD}.{part}" for part in ("group", "distance", "duplicate_of"))]
    columns = group_field.members(dataset, path, patches_field, names)
    ids, sample_ids, tags, groups, distances, originals = columns
    kept = np.array([one is None for one in originals], dtype=bool)
    order = np.lexsort((distances, ~kept, groups)) if ids else np.empty(0, dtype=np.int64)
    return Review(
        dataset=dataset,
        patches_field=patches_field,
        brain_key=brain_key,
        thresh=info["thresh"],
        ids=[ids[i] for i in order],
        sample_ids=[sample_ids[i] for i in order],
        groups=np.array(groups, dtype=np.int64)[order],
        distances=np.array(distances, dtype=np.float64)[order],
        kept=kept[order],
        decisions=[_decision(tags[i] or ()) for i in order],
    )


def _decision(tags: Sequence[str]) -> str:
    return DELETE if DELETE in tags else KEEP if KEEP in tags else UNDECIDED
