"""Groups of near-duplicates, each with one that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fiftyone_milvus.curation import group_field, keeping, members
from fiftyone_milvus.curation.group_field import Entry
from fiftyone_milvus.curation.grouping import mean_distances
from fiftyone_milvus.curation.keeping import Rule
from fiftyone_milvus.curation.notes import noted
from fiftyone_milvus.dataset import selected
from fiftyone_milvus.errors import InvalidInputError, shown
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods import Vectors
from fiftyone_milvus.numbers import as_integer


@dataclass(frozen=True)
class Groups:
    """Groups of samples, or patches, of which every two are within a distance.

    The arrays have one element for each member. They are ordered by group, the closest first, and
    in it by rank. Nothing is written before :meth:`save` is called.

    Attributes:
        thresh: the distance, inclusive
        keep: the rule by which one of each group is kept
        ids: sample IDs, or label IDs of an index of patches
        groups: the number of the group of each, from 1: an int64 array
        ranks: the place of each in its group by the rule: an int64 array; 0 is kept
        distances: of each to the one that is kept, 0 for a copy of its file: a float64 array
        compared: how many samples or patches were compared
        unknown: for how many members the rule knows nothing, such as photos without a date
        unread_files: how many files could not be compared; 0 if no files were
        stale: how many rows were left out, as their samples were deleted
    """

    thresh: float
    keep: str
    ids: list[str]
    groups: Array
    ranks: Array
    distances: Array
    compared: int
    unknown: int = 0
    unread_files: int = 0
    stale: int = 0
    _dataset: Any = field(default=None, repr=False)
    _patches_field: str | None = field(default=None, repr=False)
    _brain_key: str | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return int(self.groups[-1]) if len(self.groups) else 0

    @property
    def kept_ids(self) -> list[str]:
        """The IDs of those that are kept, one for each group, in the order of the groups."""
        return [self.ids[i] for i in np.flatnonzero(self.ranks == 0)]

    @property
    def duplicate_ids(self) -> list[str]:
        """The IDs of all others in the groups."""
        return [self.ids[i] for i in np.flatnonzero(self.ranks != 0)]

    @property
    def sizes(self) -> Array:
        """The number of members of each group: an int64 array."""
        return np.bincount(self.groups, minlength=1)[1:]

    def members(self, number: int) -> list[str]:
        """Returns the IDs of a group, the one that is kept first.

        Args:
            number: of the group, from 1

        Raises:
            InvalidInputError: if there is no such group
        """
        given = as_integer(number)
        if given is None or not 1 <= given <= len(self):
            raise InvalidInputError(
                f"Unknown group {shown(number)}; expected a number from 1 to {len(self)}"
            )
        start, stop = np.searchsorted(self.groups, [given, given + 1])
        return self.ids[start:stop]

    def view(self, number: int | None = None) -> Any:
        """Returns a view of a group, the one that is kept first, or of all groups.

        Args:
            number (None): of the group; by default all, one after the other

        Raises:
            InvalidInputError: if there is no such group, or there are more than a view can hold
        """
        ids = self.ids if number is None else self.members(number)
        return selected.view_of(self._dataset, self._patches_field, ids)

    def save(self) -> str:
        """Writes the groups to the field ``duplicates``, in place of others and their decisions.

        For patches, to this attribute of their labels. It has ``group``, ``rank``, ``keep``,
        ``distance`` and ``duplicate_of``, and the App's review shows it. Samples are not marked as
        edited.

        Returns:
            the path of the field

        Raises:
            InvalidInputError: if the dataset has another field of that name
        """
        kept = self.kept_ids
        entries = [
            Entry(i, group, rank, distance, kept[group - 1] if rank else None)
            for i, group, rank, distance in zip(
                self.ids,
                self.groups.tolist(),
                self.ranks.tolist(),
                self.distances.tolist(),
                strict=True,
            )
        ]
        args = self._dataset, self._patches_field
        group_field.store(*args, entries, self._brain_key, self.thresh)
        return group_field.path_of(*args)

    def __str__(self) -> str:
        what = "samples" if self._patches_field is None else "patches"
        text = (
            f"{len(self):,} groups with {len(self.ids):,} of {self.compared:,} {what}, within "
            f"{self.thresh:.4g} of each other; {len(self.ids) - len(self):,} duplicates"
        )
        if self.unknown:
            text += f"; keep='{self.keep}' knows nothing of {self.unknown:,}"
        return noted(text, unread_files=self.unread_files, stale=self.stale)


def ranked(
    vectors: Vectors,
    found: Sequence[Array],
    ids: Sequence[str],
    rule: Rule,
    same: Sequence[Array],
    dataset: Any,
    patches_field: str | None,
    **others: Any,
) -> Groups:
    """Ranks the members of groups, and numbers the groups.

    Args:
        vectors: all vectors
        found: the positions of each group
        ids: the IDs of all vectors
        rule: how members are ranked
        same: positions of copies of one file
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        patches_field: the field of the patches, or None for samples
        **others: other attributes of :class:`Groups`
    """
    positions = np.concatenate([np.empty(0, np.int64), *found])
    values = np.zeros(len(positions))
    if rule.value is not None and len(positions):
        read = members.read(dataset, patches_field, [ids[i] for i in positions], rule.field)
        values = np.array([rule.value(member) for member in read], dtype=np.float64)
    copies = {int(i): number for number, group in enumerate(same) for i in group}
    parts, start = [], 0
    for group in found:
        mean = mean_distances(vectors, group)
        order = keeping.ranked(rule, values[start : start + len(group)].tolist(), mean.tolist())
        start += len(group)
        rows = group[order]
        apart = vectors.distances(rows, np.full(len(rows), rows[0]))
        copy = copies.get(int(rows[0]))
        apart[[copy is not None and copies.get(i) == copy for i in rows.tolist()]] = 0.0
        apart[0] = 0.0
        parts.append((rows, apart))
    parts.sort(key=lambda part: (part[1][1:].min(), int(part[0][0])))
    sizes = [len(rows) for rows, _ in parts]
    rows = np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in parts)])
    return Groups(
        keep=rule.name,
        ids=[ids[i] for i in rows],
        groups=np.repeat(np.arange(1, len(parts) + 1), sizes),
        ranks=np.concatenate([np.empty(0, np.int64), *(np.arange(size) for size in sizes)]),
        distances=np.concatenate([np.empty(0), *(apart for _, apart in parts)]),
        compared=len(ids),
        unknown=int(np.isnan(values).sum()),
        _dataset=dataset,
        _patches_field=patches_field,
        **others,
    )
