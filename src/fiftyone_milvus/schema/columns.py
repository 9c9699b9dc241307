"""Metadata fields: which FiftyOne fields can be stored with each vector, and how Milvus holds them.

==================  ======================  ==================================================
FiftyOne            Milvus                  neutral value, where there is none
==================  ======================  ==================================================
string              VARCHAR                 ``""``
int                 INT64                   ``0``
float               DOUBLE                  ``0.0``
bool                BOOL                    ``False``
date, datetime      INT64, ms since 1970    ``0``
list of strings     ARRAY of VARCHAR        ``[]``
==================  ======================  ==================================================

Milvus 2.3 has no nullable fields, so each column comes with a BOOL field that says whether there is
a value. This works on a Milvus 2.3.5 server and on Milvus Lite 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

import fiftyone.core.fields as fof
import fiftyone.core.labels as fol

from fiftyone_milvus.errors import InvalidInputError

MAX_STRING_BYTES = 65_535
"""The size of the longest string that a Milvus field holds, in UTF-8."""

MAX_STRINGS = 4_096
"""The length of the longest list that a Milvus field holds."""

MAX_COLUMNS = 30
"""The most metadata fields: each takes two of the 64 fields of a collection."""

_RESERVED = {
    *("pk", "vector", "sample_id", "id", "rowid", "timestamp", "meta"),
    *("and", "or", "not", "in", "like", "is", "null", "true", "false", "exists", "between"),
    *("text_match", "phrase_match", "random_sample"),
}
_RESERVED_START = ("array_", "json_", "arraycontains", "arraylength", "jsoncontains", "st_")
_MAX_NAME = 200


class Kind(str, Enum):
    """The type of a column's values."""

    STRING = "string"
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    STRINGS = "strings"
    """The distinct strings of a list, without those that are None."""
    DATE = "date"
    """Milliseconds since 1970, UTC, of the day's start."""
    DATETIME = "datetime"
    """Milliseconds since 1970, UTC."""


NEUTRAL: Mapping[Kind, Any] = {
    Kind.STRING: "",
    Kind.INT: 0,
    Kind.FLOAT: 0.0,
    Kind.BOOL: False,
    Kind.STRINGS: [],
    Kind.DATE: 0,
    Kind.DATETIME: 0,
}
"""The value that a column holds where there is none."""

_KINDS: Mapping[type, Kind] = {
    fof.StringField: Kind.STRING,
    fof.IntField: Kind.INT,
    fof.FrameNumberField: Kind.INT,
    fof.FloatField: Kind.FLOAT,
    fof.BooleanField: Kind.BOOL,
    fof.DateTimeField: Kind.DATETIME,
    fof.DateField: Kind.DATE,
}


@dataclass(frozen=True)
class Column:
    """One metadata field.

    Attributes:
        path: the FiftyOne path as the user gave it, for example ``"ground_truth.label"``
        name: the Milvus field that holds the value
        kind: the type of the values
        on_label: in an index of patches, whether it is an attribute of the patch's own label, and
            not of its sample
    """

    path: str
    name: str
    kind: Kind
    on_label: bool = False

    @property
    def presence(self) -> str:
        """The BOOL Milvus field that says whether there is a value."""
        return f"{self.name}_set"

    def to_dict(self) -> dict[str, Any]:
        """Returns a dict that JSON can hold, to record with the collection."""
        return {**asdict(self), "kind": self.kind.value}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Column:
        """Reads what :meth:`to_dict` returned."""
        return cls(d["path"], d["name"], Kind(d["kind"]), bool(d["on_label"]))


def check_paths(paths: Any) -> list[str] | None:
    """Checks the form of the parameter ``fields``, without a dataset.

    Returns:
        the field paths, or None if there are none

    Raises:
        InvalidInputError: if it is not None or a list of distinct field paths
    """
    if paths is None:
        return None
    if isinstance(paths, (str, bytes)) or not isinstance(paths, Sequence):
        raise InvalidInputError(
            f"Invalid fields {paths!r}; expected a list of field names, such as ['tags', 'split']"
        )
    names = list(paths)
    for path in names:
        if not isinstance(path, str) or not path:
            raise InvalidInputError(f"Invalid field {path!r} in fields; expected a field name")
    repeated = [path for i, path in enumerate(names) if path in names[:i]]
    if repeated:
        raise InvalidInputError(f"Field '{repeated[0]}' is in fields twice; give it once")
    if len(names) > MAX_COLUMNS:
        raise InvalidInputError(
            f"Found {len(names)} fields, but a collection holds at most {MAX_COLUMNS}; choose "
            "those that you filter by"
        )
    return names or None


def resolve_columns(
    dataset: Any, patches_field: str | None, paths: Sequence[str]
) -> tuple[Column, ...]:
    """Returns the columns for FiftyOne fields.

    Args:
        dataset: the :class:`fiftyone.core.dataset.Dataset`
        patches_field: the field of an index of patches, or None for samples
        paths: the field paths, for example ``["ground_truth.label", "tags"]``

    Raises:
        InvalidInputError: if a field does not exist, or can't be a column
    """
    columns: list[Column] = []
    taken: set[str] = set()
    for path in check_paths(paths) or []:
        kind, on_label = _kind_of(dataset, patches_field, path)
        column = Column(path, _name(path, taken), kind, on_label)
        taken |= {column.name.lower(), column.presence.lower()}
        columns.append(column)
    return tuple(columns)


def label_root(dataset: Any, patches_field: str) -> tuple[str, bool]:
    """Returns the path of the labels of a patches field, and whether they are in a list."""
    label_type, path = dataset._get_label_field_path(patches_field)
    return path, issubclass(label_type, fol._HasLabelList)


def label_attribute(dataset: Any, patches_field: str | None, path: str) -> str | None:
    """Returns the attribute of a patch's own label that a path names, or None.

    For patches in ``ground_truth``, both ``ground_truth.label`` and
    ``ground_truth.detections.label`` name ``label``.
    """
    if patches_field is None:
        return None
    root, _ = label_root(dataset, patches_field)
    for start in (root, patches_field):
        if path.startswith(f"{start}."):
            return path[len(start) + 1 :]
    return None


def _kind_of(dataset: Any, patches_field: str | None, path: str) -> tuple[Kind, bool]:
    attribute = label_attribute(dataset, patches_field, path)
    parts, prefix = path.split("."), ""
    if attribute is not None and patches_field is not None:
        parts, prefix = attribute.split("."), f"{label_root(dataset, patches_field)[0]}."

    lists = 0
    for i in range(len(parts)):
        name = prefix + ".".join(parts[: i + 1])
        field = None if name.startswith("frames.") else dataset.get_field(name)
        if field is None:
            raise InvalidInputError(
                f"Dataset '{dataset.name}' has no sample field '{path}'; see "
                "dataset.get_field_schema(flat=True) for those it has"
            )
        while isinstance(field, fof.ListField):
            lists += 1
            field = field.field
            if field is None and i == len(parts) - 1:
                raise _unsupported(path, "a list without a type")
    kind = _KINDS.get(type(field))
    if kind is None:
        raise _unsupported(path, f"a {type(field).__name__}")
    if lists:
        if kind is not Kind.STRING or lists > 1:
            raise _unsupported(path, "a list of values that are not strings")
        kind = Kind.STRINGS
    return kind, attribute is not None


def _unsupported(path: str, what: str) -> InvalidInputError:
    return InvalidInputError(
        f"Field '{path}' is {what}, which can't be a metadata field; expected a string, int, "
        "float, bool, date, or a list of strings"
    )


def _name(path: str, taken: set[str]) -> str:
    base = re.sub(r"[^A-Za-z0-9_]", "_", path)[:_MAX_NAME]
    # Not every Milvus takes a name that starts with an underscore or a digit
    base = base if base[0].isalpha() else f"f{base}"
    if base.lower() in _RESERVED or base.lower().startswith(_RESERVED_START):
        base = f"{base}_"
    name, number = base, 2
    while {name.lower(), f"{name}_set".lower()} & (taken | _RESERVED):
        name, number = f"{base}_{number}", number + 1
    return name
