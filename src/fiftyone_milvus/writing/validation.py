"""Checks embeddings and queries before Milvus gets them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.collection import MAX_ID_BYTES
from fiftyone_milvus.dataset import given_ids
from fiftyone_milvus.errors import (
    DimensionMismatchError,
    ExistingIDsError,
    InvalidInputError,
    InvalidVectorError,
)
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.writing.arrays import real_numbers

MAX_DIMENSION = 32_768
"""The most dimensions of a vector: https://milvus.io/docs/limitations.md."""


@dataclass(frozen=True)
class Batch:
    """Checked rows, ready to write.

    Attributes:
        ids: the primary keys, unique
        sample_ids: the sample of each
        vectors: a ``num_rows x num_dims`` C-contiguous float32 array
        fields: the other fields of each, by name; empty if there are none
    """

    ids: list[str]
    sample_ids: list[str]
    vectors: Array
    fields: Sequence[Mapping[str, Any]] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, which: slice) -> Batch:
        """Returns a part of the rows, whose vectors are not copied."""
        return Batch(
            self.ids[which], self.sample_ids[which], self.vectors[which], self.fields[which]
        )

    def without(self, ids: set[str]) -> Batch:
        """Returns the batch without some primary keys; it must have no other fields yet."""
        keep = [i for i, _id in enumerate(self.ids) if _id not in ids]
        return Batch(
            [self.ids[i] for i in keep], [self.sample_ids[i] for i in keep], self.vectors[keep]
        )


def check(
    embeddings: npt.ArrayLike,
    sample_ids: Sequence[str] | npt.NDArray[np.str_],
    label_ids: Sequence[str] | npt.NDArray[np.str_] | None,
    *,
    metric: str,
    dimension: int | None,
) -> Batch:
    """Checks for everything that Milvus would refuse, or store and never find.

    Args:
        embeddings: a ``num_embeddings x num_dims`` array, of any real dtype
        sample_ids: ``num_embeddings`` sample IDs
        label_ids: ``num_embeddings`` label IDs for patches, else None
        metric: the index's metric
        dimension: the index's dimension, or None if it has none yet

    Raises:
        InvalidInputError: naming the value, what was expected and the remedy
        ExistingIDsError: if an ID is given more than once
        DimensionMismatchError: if the vectors have another dimension than the index
        InvalidVectorError: if a vector is not finite, or zero for metric cosine
    """
    vectors = as_vectors(embeddings, "embeddings")
    samples = _strings(sample_ids, "sample_ids")
    ids = samples if label_ids is None else _strings(label_ids, "label_ids")
    for name, values in (("sample_ids", samples), ("label_ids", ids)):
        if len(values) != len(vectors):
            raise InvalidInputError(
                f"Found {len(vectors)} embeddings but {len(values)} {name}; give one ID each"
            )
    repeated = [i for i, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ExistingIDsError(
            f"Found {len(repeated)} IDs (for example '{repeated[0]}') more than once in this call; "
            "give each ID one embedding"
        )
    if len(vectors):
        check_dimension(vectors.shape[1], dimension)
        check_values(vectors, metric, ids)
    return Batch(ids, samples, vectors)


def as_vectors(values: npt.ArrayLike, name: str) -> Array:
    """Returns vectors as a 2-D C-contiguous float32 array.

    Args:
        values: a ``num_vectors x num_dims`` array of any real dtype
        name: ``"embeddings"`` or ``"queries"``, for errors

    Raises:
        InvalidInputError: if they are not real numbers, are masked, or have another shape
    """
    vectors = real_numbers(values, name)
    if vectors.ndim == 1 and vectors.size == 0:
        vectors = vectors.reshape(0, 0)
    if vectors.ndim != 2:
        raise InvalidInputError(
            f"{name} has shape {vectors.shape}; expected a num_{name} x num_dims array"
        )
    with np.errstate(over="ignore"):  # becomes infinity, which check_values() refuses
        return np.ascontiguousarray(vectors, dtype=np.float32)


def check_dimension(found: int, expected: int | None) -> None:
    """Raises DimensionMismatchError unless an index takes vectors of ``found`` dimensions."""
    if not 1 <= found <= MAX_DIMENSION:
        raise DimensionMismatchError(
            f"Vectors have {found} dimensions; Milvus takes 1 to {MAX_DIMENSION}"
        )
    if expected is not None and found != expected:
        raise DimensionMismatchError(
            f"Vectors have {found} dimensions but the index has {expected}; use the model that "
            "the index was made with, or make a new index"
        )


def check_values(vectors: Array, metric: str, ids: Sequence[str] | None = None) -> None:
    """Raises InvalidVectorError if a vector is not finite, or zero for metric cosine."""
    for row, (what, remedy) in unusable(vectors, metric).items():
        which = f"The embedding of '{ids[row]}'" if ids is not None else f"Query vector {row}"
        raise InvalidVectorError(f"{which} {what}; {remedy}")


def unusable(vectors: Array, metric: str) -> dict[int, tuple[str, str]]:
    """Returns for each row that Milvus can't store or find what is wrong, and the remedy."""
    squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    # NaN and infinity remain in the sum; finite float32 values do not overflow in float64
    bad = np.flatnonzero(~np.isfinite(squares)).tolist()
    found = dict.fromkeys(bad, ("contains NaN or infinity", "leave it out or compute it again"))
    if metric == "cosine":
        zero = np.flatnonzero(squares == 0).tolist()
        what = "is zero, which has no direction for metric 'cosine'"
        found.update(dict.fromkeys(zero, (what, "leave it out or use metric 'euclidean'")))
    return found


def _strings(ids: Sequence[str] | npt.NDArray[np.str_], name: str) -> list[str]:
    values = given_ids.as_strings(ids, name)
    for value in values:
        if len(value.encode()) > MAX_ID_BYTES:
            raise InvalidInputError(
                f"{name} has '{value[:40]}...', longer than {MAX_ID_BYTES} bytes; use shorter IDs"
            )
    return values
