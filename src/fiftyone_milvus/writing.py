"""Embeddings → rows: checks, batches by bytes, upload."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.collection import MAX_ID_BYTES, MilvusCollection
from fiftyone_milvus.errors import (
    CollectionMismatchError,
    DimensionMismatchError,
    ExistingIDsError,
    InvalidInputError,
    InvalidVectorError,
)
from fiftyone_milvus.layout import Layout
from fiftyone_milvus.packing import pack
from fiftyone_milvus.progress import ProgressBar
from fiftyone_milvus.scores import Array

BATCH_BYTES = 4 << 20
"""Vector bytes per request: far below every engine's message limit."""

MAX_DIMENSION = 32_768
"""https://milvus.io/docs/limitations.md."""

FLUSH_ROWS = 5_000
"""From this many rows on, an upload ends with one flush.

A server searches what is not sealed through an interim index that no parameter reaches; sealing a
handful of rows each time would cost 0.5-2.6 s.
"""

FIELD_BYTES = 16 << 20
"""Bytes of other fields per request, at most, but for a row that has more alone."""

_IN_FLIGHT = 2
_MAX_CHARACTER = 4


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

    def without(self, ids: set[str]) -> Batch:
        """Returns the batch without the rows of the given primary keys."""
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
    """Checks everything that Milvus would refuse, or take and never find again.

    Args:
        embeddings: a ``num_embeddings x num_dims`` array, of any real dtype
        sample_ids: ``num_embeddings`` sample IDs
        label_ids: ``num_embeddings`` label IDs for patches, else None
        metric: the index's metric
        dimension: the index's dimension, or None if it has none yet

    Returns:
        the rows as a :class:`Batch`

    Raises:
        InvalidInputError: naming the value, what was expected and the remedy
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
            f"Found {len(repeated)} IDs (eg '{repeated[0]}') more than once in this call; give "
            "each ID one embedding"
        )
    if len(vectors):
        check_dimension(vectors.shape[1], dimension)
        check_values(vectors, metric, ids)
    return Batch(ids, samples, vectors)


def as_vectors(values: npt.ArrayLike, name: str) -> Array:
    """Returns a 2-D C-contiguous float32 array of the given vectors."""
    try:
        vectors = np.asarray(values)
        if vectors.dtype.kind not in "fiub":
            vectors = vectors.astype(np.float64)
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"{name} can't be read as numbers; expected a num_{name} x num_dims array"
        ) from None
    if vectors.ndim == 1 and vectors.size == 0:
        vectors = vectors.reshape(0, 0)
    if vectors.ndim != 2:
        raise InvalidInputError(
            f"{name} has shape {vectors.shape}; expected a num_{name} x num_dims array"
        )
    with np.errstate(over="ignore"):  # becomes infinity, which is refused by name
        return np.ascontiguousarray(vectors, dtype=np.float32)


def check_dimension(found: int, expected: int | None) -> None:
    """Raises if vectors of ``found`` dimensions can't go into an index of ``expected``."""
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
    """Raises if a vector holds NaN or infinity, or is zero where the metric is cosine."""

    def fail(row: int, what: str, remedy: str) -> None:
        which = f"The embedding of '{ids[row]}'" if ids is not None else f"Query vector {row}"
        raise InvalidVectorError(f"{which} {what}; {remedy}")

    squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    # NaN and infinity survive into the sum; overflow of finite float32 does not occur in float64
    bad = np.flatnonzero(~np.isfinite(squares))
    if bad.size:
        fail(int(bad[0]), "contains NaN or infinity", "leave it out or compute it again")
    if metric == "cosine":
        zero = np.flatnonzero(squares == 0)
        if zero.size:
            fail(
                int(zero[0]),
                "is zero, which has no direction for metric 'cosine'",
                "leave it out or use metric 'euclidean'",
            )


def upload(collection: MilvusCollection, batch: Batch, *, replace: bool) -> None:
    """Writes rows in requests of about :data:`BATCH_BYTES`, with a progress bar.

    Two requests are under way at a time, so that rows are packed while others are sent.

    Args:
        collection: an existing collection
        batch: the rows
        replace: whether keys may exist already
    """
    layout = collection.layout
    if layout.required:
        raise CollectionMismatchError(
            f"The {collection.where} requires the fields {list(layout.required)}, which FiftyOne "
            "does not fill; add rows with index.client, or make them nullable"
        )
    size = batch_rows(layout.dimension)
    with (
        ProgressBar(len(batch), "Uploading embeddings to Milvus", show=len(batch) > size) as bar,
        ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="fiftyone-milvus") as pool,
    ):
        under_way: list[tuple[Future[None], int]] = []
        try:
            for rows in _rows(batch, layout, size):
                if len(under_way) == _IN_FLIGHT:
                    _finish(under_way, bar)
                future = pool.submit(collection.write, rows, replace=replace)
                under_way.append((future, len(rows)))
            while under_way:
                _finish(under_way, bar)
        finally:
            for future, _ in under_way:
                future.cancel()
    if len(batch) >= FLUSH_ROWS or (collection.connection.engine.lite and len(batch) >= size):
        collection.flush()


def batch_rows(dimension: int) -> int:
    """Returns how many vectors of a dimension go into one request."""
    return max(1, BATCH_BYTES // (4 * dimension))


def _finish(under_way: list[tuple[Future[None], int]], bar: ProgressBar) -> None:
    future, count = under_way.pop(0)
    future.result()
    bar.update(count)


def _rows(batch: Batch, layout: Layout, size: int) -> Iterator[list[dict[str, object]]]:
    for part in _parts(batch, size):
        rows: list[dict[str, object]] = [
            {layout.id_field: _id, layout.vector_field: vector}
            for _id, vector in zip(batch.ids[part], pack(batch.vectors[part]))
        ]
        if layout.sample_field is not None:
            for row, sample_id in zip(rows, batch.sample_ids[part]):
                row[layout.sample_field] = sample_id
        for row, values in zip(rows, batch.fields[part]):
            row.update(values)
        yield rows


def _parts(batch: Batch, size: int) -> Iterator[slice]:
    """Yields slices of at most ``size`` rows whose other fields fit into a request too."""
    start = used = 0
    for i, values in enumerate(batch.fields):
        used += _bytes(values)
        if (i > start and used > FIELD_BYTES) or i - start == size:
            yield slice(start, i)
            start, used = i, _bytes(values)
    for begin in range(start, len(batch), size):
        yield slice(begin, begin + size)


def _bytes(values: Mapping[str, Any]) -> int:
    used = 0
    for value in values.values():
        if isinstance(value, str):
            used += _MAX_CHARACTER * len(value)
        elif isinstance(value, list):
            used += _MAX_CHARACTER * sum(map(len, value))
        else:
            used += 8
    return used


def _strings(ids: Sequence[str] | npt.NDArray[np.str_], name: str) -> list[str]:
    values = [ids] if isinstance(ids, str) else list(ids)
    for value in values:
        if not isinstance(value, str) or not value:
            raise InvalidInputError(f"{name} holds {value!r}; expected non-empty strings")
        if len(value.encode()) > MAX_ID_BYTES:
            raise InvalidInputError(
                f"{name} holds '{value[:40]}...', longer than {MAX_ID_BYTES} bytes"
            )
    return [str(v) for v in values]
