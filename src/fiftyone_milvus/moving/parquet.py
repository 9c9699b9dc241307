"""An index as a Parquet file: its columns, and what is recorded of it.

Columns are ``pk``, ``vector`` (a list of float32, of one length), ``sample_id``, and one for each
FiftyOne field. The Arrow schema is not stored: Milvus 2.3's bulk import refuses a file that calls
its lists fixed-size, and DuckDB and pandas read lists either way.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from fiftyone_milvus.schema.columns import Column, Kind
from fiftyone_milvus.schema.layout import PK, SAMPLE_ID, VECTOR

METADATA = b"fiftyone_milvus"
"""The key of the file's metadata; the value is JSON."""

FORMAT = 1

_DAY = 24 * 3600 * 1000

_TYPES: Mapping[Kind, Any] = {
    Kind.STRING: pa.string(),
    Kind.INT: pa.int64(),
    Kind.FLOAT: pa.float64(),
    Kind.BOOL: pa.bool_(),
    Kind.STRINGS: pa.list_(pa.string()),
    Kind.DATE: pa.date32(),
    Kind.DATETIME: pa.timestamp("ms", tz="UTC"),
}


@dataclass(frozen=True)
class FileInfo:
    """What a file records of the index in it.

    Attributes:
        format: the version of the format
        dataset: the name of the dataset
        brain_key: of the run
        backend: of the run, as ``"milvus"``
        metric: of the run
        dimension: of the vectors
        count: of the vectors
        made_with: the run's model, fields of embeddings and patches, and whether it takes prompts
        index_fields: the FiftyOne fields beside the vectors
        columns: the FiftyOne field of each further column
        embedded: as of when the vectors were computed; empty if that is not known
        versions: of what wrote the file
    """

    format: int
    dataset: str
    brain_key: str
    backend: str
    metric: str | None
    dimension: int
    count: int
    made_with: Mapping[str, Any] = field(default_factory=dict)
    index_fields: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    embedded: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Returns the file's metadata."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> FileInfo:
        """Reads the file's metadata; what later versions add is ignored.

        Raises:
            ValueError: if this is no such metadata
        """
        found = json.loads(text)
        if not isinstance(found, dict) or not isinstance(found.get("format"), int):
            raise ValueError("no format")
        names = cls.__dataclass_fields__
        try:
            info = cls(**{name: value for name, value in found.items() if name in names})
        except TypeError as error:
            raise ValueError(str(error)) from error
        for name, kinds in _KINDS.items():
            # Of another program, or of somebody who means no good
            if not isinstance(getattr(info, name), kinds) or isinstance(getattr(info, name), bool):
                raise ValueError(f"'{name}' is {getattr(info, name)!r}")
        return info


_KINDS: Mapping[str, tuple[type, ...]] = {
    "dataset": (str,),
    "brain_key": (str,),
    "metric": (str, type(None)),
    "dimension": (int,),
    "count": (int,),
    "made_with": (dict,),
    "index_fields": (list,),
    "embedded": (dict,),
}


def schema(columns: Sequence[Column]) -> pa.Schema:
    """Returns the schema of a file with these FiftyOne fields."""
    return pa.schema(
        [
            pa.field(PK, pa.string(), nullable=False),
            pa.field(VECTOR, pa.list_(pa.float32())),
            pa.field(SAMPLE_ID, pa.string(), nullable=False),
            *(pa.field(column.name, _TYPES[column.kind]) for column in columns),
        ]
    )


def values(column: Column, found: Sequence[Any]) -> Any:
    """Returns the values of a field as an Arrow array.

    Args:
        column: the field
        found: its values as Milvus holds them, None where there is none
    """
    if column.kind is Kind.FLOAT:
        found = [_number(value) for value in found]
    elif column.kind is Kind.DATE:
        found = [None if value is None else value // _DAY for value in found]
        return pa.array(found, pa.int32()).cast(pa.date32())
    return pa.array(found, _TYPES[column.kind])


def _number(value: Any) -> Any:
    # As they are kept beside the vectors, so that they sort as in MongoDB
    if value == -math.inf:
        return math.nan
    return -math.inf if value == -sys.float_info.max else value
