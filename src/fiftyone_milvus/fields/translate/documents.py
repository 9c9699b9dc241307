"""What MongoDB's expressions find at the paths of a document, in terms of an index's columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import fiftyone.core.fields as fof

from fiftyone_milvus.fields.translate.conditions import (
    ALL,
    NONE,
    Condition,
    Untranslatable,
    every,
    when_unset,
)
from fiftyone_milvus.schema.columns import Column, Kind, label_attribute, label_root
from fiftyone_milvus.schema.layout import PK, SAMPLE_ID


@dataclass(frozen=True)
class Literal:
    """A constant."""

    value: Any


@dataclass(frozen=True)
class Truth:
    """A boolean, never None."""

    condition: Condition


@dataclass(frozen=True)
class Id:
    """The ID of a sample or label: a Milvus field."""

    field: str


@dataclass(frozen=True)
class Scalar:
    """A column's value; None where the document that holds it was ``hidden``."""

    column: Column
    visible: Condition = ALL


@dataclass(frozen=True)
class Strings:
    """A column's list of strings.

    Attributes:
        column: the column
        through_labels: whether it gathers an attribute of a list of labels; labels without the
            attribute don't count
        or_empty: whether no list reads as an empty one
    """

    column: Column
    through_labels: bool = False
    or_empty: bool = False


@dataclass(frozen=True)
class Common:
    """The strings that a list shares with some literals."""

    strings: Strings
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Element:
    """An attribute of one of a sample's labels, of which the index knows the set."""

    column: Column


Attribute: TypeAlias = "Scalar | Strings | Element | Id"


@dataclass(frozen=True)
class Labels:
    """A list of labels.

    Attributes:
        attributes: what each label has, by path
        kept: which labels are left; None for a list that was not filtered
        are_rows: whether the index's rows are the labels that this list has by now
        from_rows: whether it was just filtered from that list
        each_is_row: whether each is a row of the index, so that ``kept`` tells of rows
    """

    attributes: Mapping[str, Attribute]
    kept: Condition | None
    each_is_row: bool
    are_rows: bool = False
    from_rows: bool = False


@dataclass(frozen=True)
class Embedded:
    """An embedded document, as a label.

    Attributes:
        path: where it is
        columns: the paths of its columns
        always: whether every row has it
        visible: where it was not hidden
    """

    path: str
    columns: frozenset[str]
    always: bool
    visible: Condition = ALL

    @property
    def present(self) -> Condition:
        """Where it is not None.

        Raises:
            Untranslatable: if that is not known
        """
        if not self.always and when_unset(self.visible, self.columns) != NONE:
            raise Untranslatable(f"whether there is '{self.path}'")
        return self.visible


Value: TypeAlias = (
    "Literal | Truth | Id | Scalar | Strings | Common | Element | Labels | Embedded | Size"
)


@dataclass(frozen=True)
class Size:
    """The number of elements of a list."""

    of: Strings | Common | Labels


@dataclass
class Document:
    """One document of a pipeline, sample or patch, as the stages so far have left it.

    Attributes:
        known: what its paths hold
        labels: the path of the labels that are the index's rows, or None
    """

    known: dict[str, Value]
    labels: str | None
    _edited: set[str] = field(default_factory=set)
    _selected: list[list[str]] = field(default_factory=list)

    def find(self, path: str) -> Value:
        """Returns what is at a path.

        Raises:
            Untranslatable: if no column knows, or a stage has changed it
        """
        parents = [path, *_ancestors(path)]
        for parent in parents:
            if parent in self._edited:
                raise Untranslatable(f"'{parent}' was edited")
        if not all(any(p in selected for p in parents) for selected in self._selected):
            raise Untranslatable(f"'{path}' was not selected")
        value = self.known.get(path)
        if value is None or any(edit.startswith(f"{path}.") for edit in self._edited):
            raise Untranslatable(f"'{path}' is no column")
        return value

    def put(self, path: str, value: Value | None) -> None:
        """Changes what is at a path; None for what can't be told."""
        old = self.known.get(path)
        if isinstance(value, Labels) and (path != self.labels or value.from_rows):
            self._forget(path)
            self.known[path] = replace(value, are_rows=path == self.labels, from_rows=False)
        elif isinstance(value, Embedded) and (value.path == path or old is None):
            if value.path == path:
                self._hide(path, value.visible)
            self.known[path] = value
        elif isinstance(value, Scalar) and isinstance(old, Scalar) and value.column == old.column:
            self.known[path] = value
        else:
            self._forget(path)
            self._edited.add(path)

    def remove(self, path: str) -> None:
        """Removes a path."""
        self.put(path, None)

    def select(self, paths: list[str]) -> None:
        """Removes all but some paths."""
        self._selected.append(paths)

    def rows(self) -> Condition:
        """Returns which labels of the document are left, where labels are the index's rows."""
        if "_id" in self._edited:
            raise Untranslatable("the IDs were edited")
        if self.labels is None:
            return ALL
        # Labels are told by their IDs
        if f"{self.labels}._id" in self._edited or not all(
            any(p in selected for p in [f"{self.labels}._id", *_ancestors(f"{self.labels}._id")])
            for selected in self._selected
        ):
            raise Untranslatable("the labels were not selected")
        for parent in [self.labels, *_ancestors(self.labels)]:
            if parent in self._edited:
                raise Untranslatable(f"'{parent}' was edited")
        match self.known.get(self.labels):
            case Labels(kept=kept):
                return ALL if kept is None else kept
            case Embedded(visible=visible):
                return visible
        raise Untranslatable("the labels were edited")

    def _hide(self, path: str, visible: Condition) -> None:
        for below in _below(path, self.known):
            value = self.known[below]
            if isinstance(value, Scalar):
                self.known[below] = replace(value, visible=every(value.visible, visible))
            else:
                del self.known[below]

    def _forget(self, path: str) -> None:
        for below in _below(path, self.known):
            del self.known[below]


def sample_document(
    dataset: Any, columns: tuple[Column, ...], patches_field: str | None
) -> Document:
    """Returns a sample of a dataset."""
    known: dict[str, Value] = {"_id": Id(PK if patches_field is None else SAMPLE_ID)}
    root, is_list = label_root(dataset, patches_field) if patches_field else (None, False)
    lists: dict[str, dict[str, Attribute]] = {}
    own = _own(dataset, columns, patches_field)
    for column in columns:
        if column.on_label:
            continue
        labels = _list_above(dataset, column.path)
        if labels is None:
            known[column.path] = _value(column)
        elif column.kind is Kind.STRINGS:
            known[column.path] = Strings(column, through_labels=True)
            if not isinstance(dataset.get_field(column.path), fof.ListField):
                lists.setdefault(labels, {})[column.path[len(labels) + 1 :]] = Element(column)
    for labels, attributes in lists.items():
        known[labels] = Labels(attributes, None, each_is_row=False)
    _add_embedded(known)
    if root is not None and is_list:
        known[root] = Labels(own, None, each_is_row=True, are_rows=True)
        for parent in _ancestors(root):
            known[parent] = Embedded(parent, frozenset(), always=True)
    elif root is not None:
        _add_own(known, root, own)
    return Document(known, root)


def patch_document(
    dataset: Any, patches: Any, columns: tuple[Column, ...], patches_field: str
) -> Document:
    """Returns a patch: a document of the dataset behind a patches view.

    Args:
        dataset: the dataset that the patches are of
        patches: the dataset behind the view
        columns: the index's columns
        patches_field: the field of the patches
    """
    schema = patches.get_field_schema()
    known: dict[str, Value] = {"_id": Id(PK), "_sample_id": Id(SAMPLE_ID)}
    for column in columns:
        if not column.on_label and column.path.split(".", 1)[0] in schema:
            labels = _list_above(dataset, column.path)
            if labels is None:
                known[column.path] = _value(column)
    _add_embedded(known)
    _add_own(known, patches_field, _own(dataset, columns, patches_field))
    return Document(known, patches_field)


def _add_own(known: dict[str, Value], path: str, own: Mapping[str, Attribute]) -> None:
    known.update({f"{path}.{name}": value for name, value in own.items()})
    paths = frozenset(v.column.path for v in own.values() if not isinstance(v, Id))
    known[path] = Embedded(path, paths, always=True)


def _add_embedded(known: dict[str, Value]) -> None:
    for path in list(known):
        for parent in _ancestors(path):
            if parent not in known:
                values = [known[below] for below in _below(parent, known)]
                columns = frozenset(
                    v.column.path for v in values if isinstance(v, (Scalar, Strings))
                )
                known[parent] = Embedded(parent, columns, always=False)


def _own(
    dataset: Any, columns: tuple[Column, ...], patches_field: str | None
) -> dict[str, Attribute]:
    """Returns the attributes of a patch's own label."""
    own: dict[str, Attribute] = {"_id": Id(PK)}
    for column in columns:
        attribute = label_attribute(dataset, patches_field, column.path)
        if column.on_label and attribute is not None:
            own[attribute] = _value(column)
    return own


def _value(column: Column) -> Scalar | Strings:
    return Strings(column) if column.kind is Kind.STRINGS else Scalar(column)


def _list_above(dataset: Any, path: str) -> str | None:
    """Returns the path of the list of documents that a path goes through, None if of none."""
    found = [p for p in _ancestors(path) if isinstance(dataset.get_field(p), fof.ListField)]
    if len(found) > 1:
        raise Untranslatable(f"'{path}' is in a list of lists")
    return found[0] if found else None


def _ancestors(path: str) -> list[str]:
    """Returns the paths above a path, nearest first."""
    parts = path.split(".")
    return [".".join(parts[:i]) for i in range(len(parts) - 1, 0, -1)]


def _below(path: str, known: Mapping[str, Value]) -> list[str]:
    return [other for other in known if other.startswith(f"{path}.")]
