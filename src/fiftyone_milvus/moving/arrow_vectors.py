"""Arrow lists of numbers as matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.metrics import Array


def to_matrix(column: Any) -> Array:
    """Returns lists of numbers, fixed-size or not, as a ``num_rows x num_dims`` array.

    Args:
        column: an Arrow array

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
    # Unlike .values, it knows of slices
    numbers = column.flatten()
    if numbers.null_count:
        raise InvalidInputError("Found vectors with missing numbers; leave them out of the file")
    return np.asarray(numbers.to_numpy(zero_copy_only=False)).reshape(len(column), -1)


def as_lists(vectors: Array) -> Any:
    """Returns a ``num_rows x num_dims`` array as an Arrow array of fixed-size lists of float32."""
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
