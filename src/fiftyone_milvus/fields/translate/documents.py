"""Symbolic documents: what MongoDB's expressions find at their paths, in terms of columns."""

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
    """The ID of a sample or label, which is in a Milvus field."""

    field: str


@dataclass(frozen=True)
class Scalar:
    """The value of a column; None where an earlier stage hid it, so that it is not ``visible``."""

    column: Column
    visible: Condition = ALL


@dataclass(frozen=True)
class Strings:
    """A column's list of strings.

    Attributes:
        column: the column
        through_labels: whether it has one attribute of a list of labels, without missing values
        or_empty: whether a missing list reads as an empty one
    """

    column: Column
    through_labels: bool = False
    or_empty: bool = False


@dataclass(frozen=True)
class Common:
    """The intersection of a list of strings with literals."""

    strings: Strings
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Element:
    """An attribute of one label of a sample; the column has the values of all its labels."""

    column: Column


Attribute: TypeAlias = "Scalar | Strings | Element | Id"


@dataclass(frozen=True)
class Labels:
    """A list of labels.

    Attributes:
        attributes: the attributes of each label, by path
        kept: the condition for labels that are left; None for a list that was not filtered
        each_is_row: whether each label is a row of the index, so that ``kept`` is about rows
        are_rows: whether the rows of the result are the labels that are left in this list
        from_rows: whether the list was just filtered from such a list
    """

    attributes: Mapping[str, Attribute]
    kept: Condition | None
    each_is_row: bool
    are_rows: bool = False
    from_rows: bool = False


@dataclass(frozen=True)
class Embedded:
    """An embedded document, for example a label.

    Attributes:
        path: its path
        columns: the paths of its columns
        always: whether every row has it
        visible: the condition for rows where no stage hid it
    """

    path: str
    columns: frozenset[str]
    always: bool
    visible: Condition = ALL

    @property
    def present(self) -> Condition:
        """The condition for rows where it is not None.

        Raises:
            Untranslatable: if that is unknown
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
    """One sample or patch in a pipeline, after the stages so far.

    Attributes:
        known: the values at its paths
        labels: the path of the labels that are the rows of the index, or None
    """

    known: dict[str, Value]
    labels: str | None
    _edited: set[str] = field(default_factory=set)
    _selected: list[list[str]] = field(default_factory=list)

    def find(self, path: str) -> Value:
        """Returns the value at a path.

        Raises:
            Untranslatable: if no column has it, or a stage has changed it
        """
        self._check(path)
        value = self.known.get(path)
        if value is None or any(edit.startswith(f"{path}.") for edit in self._edited):
            raise Untranslatable(f"'{path}' is not a column")
        return value

    def _check(self, path: str) -> None:
        """Raises Untranslatable if a stage has changed or removed a path, or one above it."""
        parents = [path, *_ancestors(path)]
        for parent in parents:
            if parent in self._edited:
                raise Untranslatable(f"'{parent}' was edited")
        if not all(any(p in selected for p in parents) for selected in self._selected):
            raise Untranslatable(f"'{path}' was not selected")

    def put(self, path: str, value: Value | None) -> None:
        """Sets the value at a path; None for an unknown value."""
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
        """Returns the condition for the rows of this document that are left."""
        if "_id" in self._edited:
            raise Untranslatable("the IDs were edited")
        if self.labels is None:
            return ALL
        self._check(f"{self.labels}._id")
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
    """Returns the symbolic document of a sample."""
    known: dict[str, Value] = {"_id": Id(PK if patches_field is None else SAMPLE_ID)}
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
    if patches_field is None:
        return Document(known, None)
    root, is_list = label_root(dataset, patches_field)
    if is_list:
        known[root] = Labels(own, None, each_is_row=True, are_rows=True)
        for parent in _ancestors(root):
            known[parent] = Embedded(parent, frozenset(), always=True)
    else:
        _add_own(known, root, own)
    return Document(known, root)


def patch_document(
    dataset: Any, patches: Any, columns: tuple[Column, ...], patches_field: str
) -> Document:
    """Returns the symbolic document of a patch, which is in a generated dataset.

    Args:
        dataset: the dataset of the patches
        patches: the generated dataset
        columns: the columns of the index
        patches_field: the field of the patches
    """
    schema = patches.get_field_schema()
    known: dict[str, Value] = {"_id": Id(PK), "_sample_id": Id(SAMPLE_ID)}
    for column in columns:
        in_schema = not column.on_label and column.path.split(".", 1)[0] in schema
        if in_schema and _list_above(dataset, column.path) is None:
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
    """Returns the path of the list that a path goes through, or None."""
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
