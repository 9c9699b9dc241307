"""The format of an index as a Parquet file: its columns and metadata.

The columns are ``pk``, ``vector`` (lists of float32, all of one length), ``sample_id``, and one for
each FiftyOne field. The Arrow schema is not stored: Milvus 2.3's bulk import refuses a file that
declares fixed-size lists, and DuckDB and pandas read lists either way.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.metrics import Array
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
    """The metadata of a file.

    Attributes:
        format: the version of the format
        dataset: the name of the dataset
        brain_key: the brain key of the run
        backend: the backend of the run, for example ``"milvus"``
        metric: the metric of the run
        dimension: the dimension of the vectors
        count: the number of vectors
        made_with: the run's model, its fields of embeddings and patches, and whether it takes text
        index_fields: the metadata fields of the index
        columns: the FiftyOne field of each further column
        embedded: the record of when the vectors were computed; empty if that is unknown
        versions: the versions of the packages that wrote the file
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
        """Returns the metadata as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> FileInfo:
        """Reads the metadata of a file; ignores what later versions added.

        Raises:
            ValueError: if it is invalid
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
            # It may be from another program, or malicious
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
        found: its values as Milvus holds them; None where there is none
    """
    if column.kind is Kind.FLOAT:
        found = [_number(value) for value in found]
    elif column.kind is Kind.DATE:
        found = [None if value is None else value // _DAY for value in found]
        return pa.array(found, pa.int32()).cast(pa.date32())
    return pa.array(found, _TYPES[column.kind])


def _number(value: Any) -> Any:
    # Milvus holds NaN and -inf as other numbers, so that they sort as in MongoDB
    if value == -math.inf:
        return math.nan
    return -math.inf if value == -sys.float_info.max else value


def to_matrix(column: Any) -> Array:
    """Returns an Arrow array of lists of numbers as a ``num_rows x num_dims`` array.

    Args:
        column: an Arrow array of lists, fixed-size or not

    Raises:
        InvalidInputError: if a list is missing or of another length than the others
    """
    if column.null_count:
        raise InvalidInputError(
            f"Found {column.null_count} rows without a vector; leave them out of the file"
        )
    if not len(column):
        return np.empty((0, 0), np.float32)
    if not pa.types.is_fixed_size_list(column.type):
        lengths = np.unique(np.diff(column.offsets.to_numpy()))
        if len(lengths) != 1:
            raise InvalidInputError(
                f"Found vectors of {lengths[0]} and of {lengths[-1]} dimensions; an index has "
                "vectors of one dimension"
            )
    # Unlike .values, flatten() respects slices
    numbers = column.flatten()
    if numbers.null_count:
        raise InvalidInputError("Found vectors with missing numbers; leave them out of the file")
    return np.asarray(numbers.to_numpy(zero_copy_only=False)).reshape(len(column), -1)


def as_lists(vectors: Array) -> Any:
    """Returns a ``num_rows x num_dims`` array as an Arrow array of fixed-size lists of float32."""
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
