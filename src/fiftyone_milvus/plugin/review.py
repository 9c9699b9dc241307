"""The review of duplicates: groups in a field of the samples, and decisions as tags.

A field of documents holds, for each sample of a group, ``group`` (a number, the closest first),
``distance`` (to the one that is kept) and ``duplicate_of`` (the ID of that one; none for itself).
So the grid can show, filter and group by them, and a review goes on after a restart. An index of
patches has it as an attribute of the labels. A decision is a tag, which undoes it when removed.
Nothing is deleted before the user says so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import fiftyone as fo
import numpy as np
from bson import ObjectId

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.plugin import results, unmarked
from fiftyone_milvus.plugin.unmarked import Update

FIELD = "duplicates"
"""The name of the field."""

KEEP, DELETE = "duplicate-keep", "duplicate-delete"
"""The tags of the decisions."""

UNDECIDED = ""

_PARTS = {"group": fo.IntField, "distance": fo.FloatField, "duplicate_of": fo.StringField}
_INFO = "milvus"
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
        results.tag(self.dataset, self.patches_field, [self.ids[i] for i in positions], name)

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
        """Replaces tags."""
        root, filters = _label_root(self.dataset, self.patches_field)
        path = f"{root}tags"

        def updates(tag: str, operator: str) -> Iterator[Update]:
            for i, decision in decisions.items():
                if tag == (self.decisions[i] if operator == "$pull" else decision):
                    yield self.sample_ids[i], {operator: {path: tag}}, filters(self.ids[i])

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
    check(dataset, patches_field)
    clear(dataset)
    path = _path(dataset, patches_field)
    info = {"brain_key": brain_key, "thresh": thresh, "patches_field": patches_field}
    _declare(dataset, path, info)
    sample_of = _samples_of(dataset, patches_field, groups)
    root, filters = _label_root(dataset, patches_field)
    name = f"{root}{FIELD}"

    def updates() -> Iterator[Update]:
        ordered = sorted(groups.items(), key=lambda group: group[1][0][1])
        for number, (one, others) in enumerate(ordered, start=1):
            documents = {str(one): _document(number, 0.0, None)}
            for other, distance in others:
                documents[str(other)] = _document(number, float(distance), str(one))
            for i, document in documents.items():
                yield sample_of(i), {"$set": {name: document}}, filters(i)

    unmarked.write(dataset, FIELD, updates())
    forget(dataset)


def check(dataset: Any, patches_field: str | None) -> None:
    """Checks that the field is free or that of a review.

    Raises:
        InvalidInputError: if it is another one
    """
    path = _path(dataset, patches_field)
    there = dataset.get_field(path)
    if there is not None and _INFO not in (there.info or {}):
        raise InvalidInputError(
            f"The dataset has a field '{path}' that is not of a review of duplicates; rename it "
            "with rename_sample_field(), then try again"
        )


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


def forget(dataset: Any) -> None:
    """Reads the review of a dataset again when it is asked for."""
    with _lock:
        _open.pop(str(dataset._doc.id), None)


def clear(dataset: Any) -> None:
    """Removes the field and the tags of the dataset's review, if it has one."""
    path, info = _stored(dataset)
    if path is None:
        return
    found = _read(dataset, info["brain_key"])
    if found is not None:
        decided = [i for i, decision in enumerate(found.decisions) if decision]
        found.decide(decided, UNDECIDED)
        root, filters = _label_root(dataset, found.patches_field)
        unmarked.write(
            dataset,
            FIELD,
            (
                (sample_id, {"$unset": {f"{root}{FIELD}": ""}}, filters(i))
                for i, sample_id in zip(found.ids, found.sample_ids, strict=True)
            ),
        )
    forget(dataset)


def _read(dataset: Any, brain_key: str) -> Review | None:
    path, info = _stored(dataset)
    if path is None or info["brain_key"] != brain_key:
        return None
    patches_field = info["patches_field"]
    samples = results.all_samples(dataset)
    if patches_field is None:
        names = ["id", "id", "tags", *(f"{path}.{part}" for part in _PARTS)]
        columns = samples.exists(path).values(names)
    else:
        labels = path.rpartition(".")[0]
        found = samples.filter_labels(patches_field, fo.ViewField(f"{FIELD}.group") > 0)
        names = ["id", "tags", *(f"{FIELD}.{part}" for part in _PARTS)]
        per_sample = found.values(["id", *(f"{labels}.{name}" for name in names)])
        columns = [[] for _ in range(6)]
        for sample_id, *lists in zip(*per_sample, strict=True):
            if not isinstance(lists[0], list):
                lists = [[value] for value in lists]
            for ids, tags, *parts in zip(*lists, strict=True):
                for column, value in zip(columns, [ids, sample_id, tags, *parts], strict=True):
                    column.append(value)
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


def _stored(dataset: Any) -> tuple[str | None, dict[str, Any]]:
    """Returns where the review of a dataset is, and what it is of."""
    dataset.reload()
    for path, schema in dataset.get_field_schema(flat=True).items():
        info = (schema.info or {}).get(_INFO)
        if path.rpartition(".")[2] == FIELD and info:
            return path, info
    return None, {}


def _path(dataset: Any, patches_field: str | None) -> str:
    if patches_field is None:
        return FIELD
    return str(dataset._get_label_field_path(patches_field, FIELD)[1])


def _document(group: int, distance: float, original: str | None) -> dict[str, Any]:
    cls = fo.DynamicEmbeddedDocument.__name__
    return {"_cls": cls, "group": group, "distance": distance, "duplicate_of": original}


def _declare(dataset: Any, path: str, info: dict[str, Any]) -> None:
    """Adds the field, which marks no sample, and says what it is of."""
    document = {"embedded_doc_type": fo.DynamicEmbeddedDocument}
    dataset.add_sample_field(path, fo.EmbeddedDocumentField, **document)
    for part, kind in _PARTS.items():
        dataset.add_sample_field(f"{path}.{part}", kind)
    schema = dataset.get_field(path)
    schema.info = {**(schema.info or {}), _INFO: info}
    schema.save()


def _samples_of(
    dataset: Any, patches_field: str | None, groups: Mapping[str, Sequence[tuple[str, float]]]
) -> Callable[[str], str]:
    """Returns a function from the IDs of groups to those of their samples."""
    if patches_field is None:
        return str
    ids = {i for one, others in groups.items() for i in (one, *(other for other, _ in others))}
    path = dataset._get_label_field_path(patches_field, "id")[1]
    samples, labels = results.all_samples(dataset).values(["id", path])
    found = {}
    for sample, inside in zip(samples, labels, strict=True):
        for label in inside if isinstance(inside, list) else [inside]:
            if label in ids:
                found[label] = sample
    return found.__getitem__


def _label_root(
    dataset: Any, patches_field: str | None
) -> tuple[str, Callable[[str], list[Mapping[str, Any]] | None]]:
    """Returns what comes before an attribute in MongoDB's paths, and the filters of labels."""
    if patches_field is None:
        return "", lambda _: None
    root = dataset._get_label_field_path(patches_field, "")[1].rstrip(".")
    if root == patches_field:
        return f"{root}.", lambda _: None
    return f"{root}.$[label].", lambda i: [{"label._id": ObjectId(i)}]
