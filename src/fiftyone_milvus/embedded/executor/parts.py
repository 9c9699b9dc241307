"""The rows of a collection as parts: Milvus Lite's segments, and blocks of its memtable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fiftyone_milvus.embedded.executor.vectors import Floats, Rows, Vectors
from fiftyone_milvus.embedded.storage.keys import AnyKeys, Keys
from fiftyone_milvus.embedded.storage.segments import MappedSegment

Mask = npt.NDArray[np.bool_]

#: Small batches of the memtable are copied into one block of up to this size, so that a search
#: after many small inserts does not run many small matrix products.
BLOCK_BYTES = 4 << 20
_MIN_BLOCK_ROWS = 256


class Part:
    """Rows that never change; a :class:`LivePart` says which of them are live.

    Attributes:
        keys: the primary keys; where a part repeats one, its last row is found
        seqs: the sequence number of each row, uint64
        segment: Milvus Lite's segment, or None for rows of the memtable
        tokens: the indexes of array columns that filters have used, by name
    """

    def __init__(self, keys: Keys, seqs: npt.NDArray[np.uint64], segment: Any = None) -> None:
        self.keys = keys
        self.seqs = seqs
        self.segment = segment
        self._vectors: dict[str, Floats] = {}
        self.tokens: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.seqs)

    def vectors(self, field: str) -> Vectors:
        """The vectors of a field, without a copy."""
        return Vectors(self._vectors[field])

    def table(self, names: Sequence[str]) -> pa.Table:
        """Some columns of the rows, none of vectors; strings may be dictionary-encoded."""
        raise NotImplementedError


class SegmentPart(Part):
    """One of Milvus Lite's flushed segments."""

    def __init__(self, segment: Any) -> None:
        keys = getattr(segment, "keys", None) or AnyKeys(segment.pks)
        super().__init__(keys, segment.seqs, segment)

    def vectors(self, field: str) -> Vectors:
        """See :meth:`Part.vectors`."""
        if isinstance(self.segment, MappedSegment):
            mapped = self.segment.mapped(field)
            if mapped is not None:
                return Vectors(mapped, self.segment.checksums.get(field))
        vectors, valid = self.segment.vector_data(field)
        if valid is not None:
            raise NotImplementedError("vectors with Arrow nulls")
        return Vectors(np.ascontiguousarray(vectors, dtype=np.float32))

    def table(self, names: Sequence[str]) -> pa.Table:
        """See :meth:`Part.table`."""
        if isinstance(self.segment, MappedSegment):
            return self.segment.columns(names)
        return self.segment.table.select(names)


class BlockPart(Part):
    """Rows of the memtable: one big batch as it is, or copies of several small ones.

    Batches are only appended while a view is built. Readers see the first ``rows`` rows that
    their :class:`LivePart` says, which never change.
    """

    def __init__(self, batch: pa.RecordBatch, pk_name: str, vector_fields: Sequence[str]) -> None:
        # The last row wins where a batch repeats a key, as it does in Milvus Lite.
        self.keys: AnyKeys
        super().__init__(
            AnyKeys(batch.column(pk_name).to_pylist()),
            np.asarray(batch.column("_seq")).astype(np.uint64),
        )
        self._batches = [batch]
        self._fields = tuple(vector_fields)
        row_bytes = sum(4 * batch.column(f).type.list_size for f in self._fields) or 1
        capacity = max(_MIN_BLOCK_ROWS, BLOCK_BYTES // row_bytes)
        self._sealed = batch.num_rows * 2 > capacity
        self._capacity = batch.num_rows if self._sealed else capacity
        for field in self._fields:
            data = batch_vectors(batch, field)
            if not self._sealed:
                store = np.empty((self._capacity, data.shape[1]), dtype=np.float32)
                store[: len(data)] = data
                data = store
            self._vectors[field] = data

    def append(self, batch: pa.RecordBatch, pk_name: str) -> bool:
        """Adds a batch; returns False, with nothing changed, if it needs a block of its own."""
        size = len(self)
        if self._sealed or size + batch.num_rows > self._capacity:
            return False
        pks = batch.column(pk_name).to_pylist()
        if len(set(pks)) < len(pks) or (self.keys.rows(pks) >= 0).any():
            return False
        for field in self._fields:
            self._vectors[field][size : size + len(pks)] = batch_vectors(batch, field)
        self.seqs = np.concatenate([self.seqs, np.asarray(batch.column("_seq")).astype(np.uint64)])
        self._batches = [*self._batches, batch]
        self.keys.extend(pks)
        return True

    def table(self, names: Sequence[str]) -> pa.Table:
        """See :meth:`Part.table`."""
        return pa.Table.from_batches([batch.select(list(names)) for batch in self._batches])


def batch_vectors(batch: pa.RecordBatch, field: str) -> Floats:
    """The vectors of an Arrow batch, float32 of shape ``(rows, dim)``, without a copy."""
    column = batch.column(field)
    if column.null_count:
        raise NotImplementedError("vectors with Arrow nulls")
    dim = column.type.list_size
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(len(column), dim)


class LivePart:
    """A part as one view sees it: its first ``rows`` rows, without the dead ones.

    Attributes:
        part: the rows
        rows: the number of rows that the view sees
        live: True for a row that is the newest of its key and not deleted; None if all are
        count: the number of live rows
    """

    def __init__(self, part: Part, rows: int, live: Mask | None) -> None:
        self.part = part
        self.rows = rows
        self.count = rows if live is None else int(np.count_nonzero(live))
        self.live = None if self.count == rows else live
        self._norms: dict[str, Norms] = {}

    def without(self, dead: Iterable[int], rows: int) -> LivePart:
        """The same part with more dead rows, and with ``rows`` rows seen."""
        dead = np.fromiter(dead, dtype=np.int64)
        if rows == self.rows and not len(dead):
            return self
        live = np.ones(rows, dtype=bool)
        if self.live is not None:
            live[: self.rows] = self.live
        live[dead] = False
        changed = LivePart(self.part, rows, live)
        if rows == self.rows:
            changed._norms = self._norms
        return changed

    def vectors(self, field: str) -> Vectors:
        """Vectors of the seen rows."""
        return self.part.vectors(field).first(self.rows)

    def table(self, names: Sequence[str]) -> pa.Table:
        """Some columns of the seen rows, see :meth:`Part.table`."""
        table = self.part.table(names)
        return table if table.num_rows == self.rows else table.slice(0, self.rows)

    def column(self, name: str) -> pa.Array:
        """A column of the seen rows, see :meth:`Part.table`."""
        found = self.table([name]).column(name).combine_chunks()
        if isinstance(found, pa.ChunkedArray):
            found = found.chunk(0) if found.num_chunks else pa.array([], found.type)
        return found

    def norms(self, field: str) -> Norms:
        """The norms of the vectors, computed once."""
        norms = self._norms.get(field)
        if norms is None:
            norms = self._norms[field] = Norms(self.vectors(field))
        return norms


class Norms:
    """What the metrics need besides the vectors: for each metric, 4 bytes a row."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors
        self._inverse: Floats | None = None
        self._centered: tuple[Floats | None, Floats] | None = None

    def know(self, inverse: Floats | None) -> None:
        """Takes :attr:`inverse` from where it was computed before."""
        if self._inverse is None:
            self._inverse = inverse

    @property
    def inverse(self) -> Floats:
        """``1 / |x|``, float32; 1 for a zero vector, whose cosine similarity is 0."""
        if self._inverse is None:
            self._inverse = inverse_norms(self._vectors.squares())
        return self._inverse

    def inverse_of(self, rows: Rows) -> Floats:
        """``1 / |x|`` of some rows, without those of the others where they are not known yet."""
        if self._inverse is None and 2 * len(rows) < len(self._vectors):
            return inverse_norms(squares(self._vectors.take(rows)))
        return self.inverse[rows]

    @property
    def centered(self) -> tuple[Floats | None, Floats]:
        """``center`` and ``|x - center|^2 / 2``, float32.

        The center is what L2 subtracts from rows and query first, or None for nothing: far from
        the origin, ``|x|^2 - 2xy + |y|^2`` would lose the digits that matter.
        """
        if self._centered is None:
            center: Floats | None = None
            halves = self._vectors.squares() / np.float32(2)
            mean = self._vectors.mean()
            far = float(mean @ mean)
            if far > 4.0 * max(2 * float(halves.mean()) - far, 0.0):
                center = mean.astype(np.float32)
                halves = self._vectors.scores(center[None], "L2")[0] / np.float32(-2)
            self._centered = center, halves
        return self._centered


def squares(vectors: Floats) -> Floats:
    """The squared length of each vector."""
    found: Floats = np.einsum("ij,ij->i", vectors, vectors)
    return found


def inverse_norms(squared: Floats) -> Floats:
    """``1 / |x|`` for squared lengths, float32; 1 for a zero vector."""
    norms = np.sqrt(squared)
    norms[norms == 0] = 1.0
    return (1.0 / norms).astype(np.float32)
