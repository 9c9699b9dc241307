"""The field in which groups of duplicates are stored, and which the App's review shows.

A field of documents holds, for each sample of a group, ``group`` (a number), ``rank`` (its place in
the group; 0 is the one that is kept), ``keep`` (whether it is that one), ``distance`` (to that one)
and ``duplicate_of`` (the ID of that one; none for itself). So the grid can show, filter and group
by them, and a review goes on after a restart. An index of patches has it as an attribute of the
labels. A decision of the review is a tag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import fiftyone as fo
from bson import ObjectId

from fiftyone_milvus.dataset import unmarked
from fiftyone_milvus.dataset.selected import all_samples
from fiftyone_milvus.dataset.unmarked import Update
from fiftyone_milvus.errors import InvalidInputError

FIELD = "duplicates"
"""The name of the field."""

KEEP, DELETE = "duplicate-keep", "duplicate-delete"
"""The tags of the decisions."""

_PARTS = {
    "group": fo.IntField,
    "rank": fo.IntField,
    "keep": fo.BooleanField,
    "distance": fo.FloatField,
    "duplicate_of": fo.StringField,
}
_INFO = "milvus"


class Entry(NamedTuple):
    """What the field holds of a sample, or of a patch.

    Attributes:
        id: of the sample, or label
        group: its number, from 1
        rank: its place in the group, from 0
        distance: to the one that is kept
        duplicate_of: the ID of the one that is kept; None for itself
    """

    id: str
    group: int
    rank: int
    distance: float
    duplicate_of: str | None

    def document(self) -> dict[str, Any]:
        """Returns it as MongoDB stores it."""
        parts = {**self._asdict(), "keep": self.duplicate_of is None}
        del parts["id"]
        return {"_cls": fo.DynamicEmbeddedDocument.__name__, **parts}


def store(
    dataset: Any,
    patches_field: str | None,
    entries: Sequence[Entry],
    brain_key: str | None,
    thresh: float,
) -> None:
    """Writes groups to the field, in place of others and their decisions.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        patches_field: the field of the patches, or None for samples
        entries: one for each member of a group
        brain_key: of the index
        thresh: the distance within which they are duplicates

    Raises:
        InvalidInputError: if the dataset has another field of that name
    """
    check(dataset, patches_field)
    clear(dataset)
    path = path_of(dataset, patches_field)
    info = {"brain_key": brain_key, "thresh": thresh, "patches_field": patches_field}
    _declare(dataset, path, info)
    sample_of = samples_of(dataset, patches_field, [entry.id for entry in entries])
    root, filters = label_root(dataset, patches_field)
    updates = (
        Update(sample_of(e.id), {"$set": {f"{root}{FIELD}": e.document()}}, filters(e.id))
        for e in entries
    )
    unmarked.write(dataset, FIELD, updates)


def check(dataset: Any, patches_field: str | None) -> None:
    """Checks that the field is free or that of groups.

    Raises:
        InvalidInputError: if it is another one
    """
    path = path_of(dataset, patches_field)
    there = dataset.get_field(path)
    if there is not None and _INFO not in (there.info or {}):
        raise InvalidInputError(
            f"The dataset has a field '{path}' that is not of a review of duplicates; rename it "
            "with rename_sample_field(), then try again"
        )


def clear(dataset: Any) -> None:
    """Removes the groups of a dataset and the tags of their decisions, if it has some."""
    path, info = stored(dataset)
    if path is None:
        return
    field = info["patches_field"]
    ids, sample_ids, tags = members(dataset, path, field, ["tags"])
    root, filters = label_root(dataset, field)

    def updates() -> Iterator[Update]:
        for i, sample_id, own in zip(ids, sample_ids, tags, strict=True):
            update: dict[str, Any] = {"$unset": {f"{root}{FIELD}": ""}}
            if {KEEP, DELETE} & {*(own or ())}:
                update["$pull"] = {f"{root}tags": {"$in": [KEEP, DELETE]}}
            yield Update(sample_id, update, filters(i))

    decided = any({KEEP, DELETE} & {*(own or ())} for own in tags)
    unmarked.write(dataset, "tags" if decided else FIELD, updates())


def stored(dataset: Any) -> tuple[str | None, dict[str, Any]]:
    """Returns the path of the groups of a dataset, or None, and what they are of."""
    dataset.reload()
    for path, schema in dataset.get_field_schema(flat=True).items():
        info = (schema.info or {}).get(_INFO)
        if path.rpartition(".")[2] == FIELD and info:
            return path, info
    return None, {}


def members(
    dataset: Any,
    path: str,
    patches_field: str | None,
    names: Sequence[str],
    groups: Sequence[int] | None = None,
) -> list[list[Any]]:
    """Returns the members of groups, in columns.

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        path: of the groups
        patches_field: the field of the patches, or None for samples
        names: attributes of the samples or labels, such as ``"tags"`` and ``"duplicates.group"``
        groups (None): the numbers of the groups; by default, all

    Returns:
        the IDs, the IDs of their samples, and the values of each attribute
    """
    samples, number = all_samples(dataset), fo.ViewField(f"{FIELD}.group")
    chosen = number > 0 if groups is None else number.is_in(list(groups))
    if patches_field is None:
        return list(samples.match(chosen).values(["id", "id", *names]))
    labels = path.rpartition(".")[0]
    found = samples.filter_labels(patches_field, chosen)
    per_sample = found.values(["id", *(f"{labels}.{name}" for name in ("id", *names))])
    columns: list[list[Any]] = [[] for _ in range(2 + len(names))]
    for sample_id, *lists in zip(*per_sample, strict=True):
        if not isinstance(lists[0], list):
            lists = [[value] for value in lists]
        for label_id, *values in zip(*lists, strict=True):
            for column, value in zip(columns, [label_id, sample_id, *values], strict=True):
                column.append(value)
    return columns


def groups_of(
    dataset: Any,
    path: str,
    patches_field: str | None,
    ids: Sequence[str],
    sample_ids: Sequence[str],
) -> list[int]:
    """Returns the numbers of the groups that some samples or labels are in, ascending."""
    samples, sought = all_samples(dataset).select(list(dict.fromkeys(sample_ids))), set(ids)
    if patches_field is None:
        return sorted({number for number in samples.values(f"{path}.group") if number})
    root = path.rpartition(".")[0]
    found = set()
    for inside, numbers in zip(*samples.values([f"{root}.id", f"{path}.group"]), strict=True):
        if not isinstance(inside, list):
            inside, numbers = [inside], [numbers]
        found |= {n for i, n in zip(inside, numbers or ()) if i in sought and n}
    return sorted(found)


def path_of(dataset: Any, patches_field: str | None) -> str:
    """Returns the path of the field, or attribute."""
    if patches_field is None:
        return FIELD
    return str(dataset._get_label_field_path(patches_field, FIELD)[1])


def samples_of(
    dataset: Any, patches_field: str | None, ids: Iterable[str]
) -> Callable[[str], str | None]:
    """Returns a function from IDs of samples or labels to those of their samples.

    It returns None for labels that were deleted, and the IDs of samples as they are.
    """
    if patches_field is None:
        return str
    sought = set(ids)
    path = dataset._get_label_field_path(patches_field, "id")[1]
    samples, labels = all_samples(dataset).values(["id", path])
    found = {}
    for sample, inside in zip(samples, labels, strict=True):
        for label in inside if isinstance(inside, list) else [inside]:
            if label in sought:
                found[label] = sample
    return found.get


def label_root(
    dataset: Any, patches_field: str | None
) -> tuple[str, Callable[[str], list[Mapping[str, Any]] | None]]:
    """Returns what comes before an attribute in MongoDB's paths, and the filters of labels."""
    if patches_field is None:
        return "", lambda _: None
    root = dataset._get_label_field_path(patches_field, "")[1].rstrip(".")
    if root == patches_field:
        return f"{root}.", lambda _: None
    return f"{root}.$[label].", lambda i: [{"label._id": ObjectId(i)}]


def _declare(dataset: Any, path: str, info: dict[str, Any]) -> None:
    """Adds the field, which marks no sample, and says what it is of."""
    document = {"embedded_doc_type": fo.DynamicEmbeddedDocument}
    dataset.add_sample_field(path, fo.EmbeddedDocumentField, **document)
    for part, kind in _PARTS.items():
        dataset.add_sample_field(f"{path}.{part}", kind)
    schema = dataset.get_field(path)
    schema.info = {**(schema.info or {}), _INFO: info}
    schema.save()
