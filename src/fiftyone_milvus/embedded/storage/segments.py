"""Milvus Lite's segments, with vectors that stay in their Parquet file.

The file is mapped into memory, and the vectors are used where they are. The operating system reads
what is needed, and forgets it when memory is short. Vectors of which the file has checksums are
verified when they are first read. Milvus Lite keeps a copy of every file, and Python objects for
every key.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from milvus_lite.engine import collection
from milvus_lite.storage import segment

from fiftyone_milvus.embedded.storage import block_checksums, keys, verification
from fiftyone_milvus.embedded.storage.kept import Kept
from fiftyone_milvus.embedded.storage.vector_pages import Floats, mapped_vectors

#: Columns that were read last, of all segments: those that filters compare again and again. A
#: million numbers are read in 2 to 8 ms, strings that are all different in 30 ms.
_COLUMNS: Kept[pa.Array] = Kept(64 << 20)


class MappedSegment(segment.Segment):
    """A segment of which only the keys are in memory.

    Attributes:
        keys: the primary keys
        seqs: the sequence number of each row, uint64
        checksums: what verifies vectors before they are used, by field; not there for fields that
            were verified when the collection was opened
    """

    def __init__(
        self,
        file_path: str,
        partition: str,
        pk_field: str,
        vector_field: str,
        mapped: dict[str, Floats],
        content: memoryview,
        file: pq.ParquetFile,
    ) -> None:
        columns = file.read(columns=[pk_field, "_seq"], use_threads=False)
        self.file_path = file_path
        self.partition = partition
        self.keys = keys.of_column(columns.column(pk_field))
        self.seqs = columns.column("_seq").to_numpy().astype(np.uint64)
        self.vector_null_mask = None
        self.index = None
        self.indexes: dict[str, Any] = {}
        self.scalar_indexes: dict[str, Any] = {}
        self.sparse_indexes: dict[str, Any] = {}
        self._pk_field = pk_field
        self._vector_field = vector_field
        self._vector_data_by_field = {name: (vectors, None) for name, vectors in mapped.items()}
        self._mapped = mapped
        self._content = content
        self.checksums = block_checksums.of_file(file, mapped, self._damaged)
        self._whole: pa.Table | None = None

    @classmethod
    def load(
        cls, file_path: str, partition: str, pk_field: str, vector_field: str | None
    ) -> segment.Segment:
        """Opens a data file; Milvus Lite's own segment where its vectors can't be mapped."""
        if vector_field is not None:
            with open(file_path, "rb") as file:
                content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            parsed = pq.ParquetFile(pa.py_buffer(content))
            mapped = mapped_vectors(content, parsed)
            if vector_field in mapped:
                return cls(file_path, partition, pk_field, vector_field, mapped, content, parsed)
            if block_checksums.of_file(parsed, mapped, lambda: None):
                verification.require_intact(file_path)
        return segment.Segment.load.__func__(
            segment.Segment, file_path, partition, pk_field, vector_field
        )

    @property
    def num_rows(self) -> int:
        """The number of rows, dead ones too."""
        return len(self.seqs)

    @property
    def vector_bytes(self) -> int:
        """The size of all vectors that are mapped."""
        return sum(vectors.nbytes for vectors in self._mapped.values())

    def _damaged(self) -> None:
        verification.require_intact(self.file_path)

    def verify(self, field: str) -> None:
        """Verifies all vectors of a field that were not verified yet.

        Raises:
            DamagedError: if they are damaged
        """
        if field in self.checksums:
            self.checksums[field].verify_all()

    def mapped(self, field: str) -> Floats | None:
        """The vectors of a field where they are, not verified; None if they are not mapped."""
        return self._mapped.get(field)

    def vector_data(self, field_name: str) -> Any:
        """Milvus Lite's own access to the vectors of a field."""
        self.verify(field_name)
        return super().vector_data(field_name)

    @property
    def vectors(self) -> Floats:
        """The vectors, a ``num_rows x num_dims`` float32 array; it may not be aligned."""
        self.verify(self._vector_field)
        return self._mapped[self._vector_field]

    @property
    def pks(self) -> list[Any]:
        """The primary keys as a list, which is made each time."""
        return self.keys.tolist()

    @property
    def pk_to_row(self) -> dict[Any, int]:
        """The row of each primary key, made each time."""
        return {key: row for row, key in enumerate(self.keys.tolist())}

    def find_row(self, pk_value: Any) -> int | None:
        """The row of a primary key, or None."""
        row = int(self.keys.rows([pk_value])[0])
        return None if row < 0 else row

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Some columns, read from the file if they were not used lately.

        Strings are dictionary-encoded where this takes less memory, as it does in the file.

        Args:
            names: of columns that are not mapped vectors
        """
        found = [_COLUMNS.get(self, name) for name in names]
        missing = [name for name, column in zip(names, found, strict=True) if column is None]
        if missing:
            read = self._read(missing)
            for place, name in enumerate(names):
                if found[place] is None:
                    column = found[place] = read[name]
                    _COLUMNS.put(self, name, column, column.nbytes)
        return pa.table(found, names=list(names))

    def _read(self, names: Sequence[str]) -> dict[str, pa.Array]:
        table = self._verified(names, self._repeating(names))
        # A dictionary may be cut into several, one for each chunk
        whole = (table.column(name).unify_dictionaries().combine_chunks() for name in names)
        return {
            name: column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
            for name, column in zip(names, whole, strict=True)
        }

    def _verified(self, names: Sequence[str], encoded: Sequence[str] = ()) -> pa.Table:
        """Columns, whose pages are verified: the file may be damaged since it was opened."""
        source = pa.py_buffer(self._content)
        try:
            file = pq.ParquetFile(
                source, read_dictionary=list(encoded), page_checksum_verification=True
            )
            return file.read(columns=list(names), use_threads=False).combine_chunks()
        except OSError:
            self._damaged()
            raise

    def _repeating(self, names: Sequence[str]) -> list[str]:
        """Columns of strings of which the file has a dictionary, and no string beside it."""
        about = pq.read_metadata(pa.py_buffer(self._content))
        schema, found = about.schema.to_arrow_schema(), []
        for name in names:
            if not pa.types.is_string(schema.field(name).type):
                continue
            groups = [
                group.column(i)
                for group in map(about.row_group, range(about.num_row_groups))
                for i in range(group.num_columns)
                if group.column(i).path_in_schema == name
            ]
            # A string that is not in a dictionary takes four bytes and its length
            if all(g.total_uncompressed_size < 4 * g.num_values for g in groups):
                found.append(name)
        return found

    @property
    def table(self) -> pa.Table:
        """All columns, for Milvus Lite's own code; vectors stay in the file."""
        if self._whole is None:
            self._whole = self._with_vectors()
        return self._whole

    def _with_vectors(self) -> pa.Table:
        source, columns = pa.py_buffer(self._content), []
        names = pq.read_schema(source).names
        others = [name for name in names if name not in self._mapped]
        scalars = self._verified(others)
        for name in names:
            if name not in self._mapped:
                columns.append(scalars.column(name))
                continue
            self.verify(name)
            vectors = self._mapped[name]
            flat = pa.Array.from_buffers(
                pa.float32(), vectors.size, [None, pa.py_buffer(vectors.view(np.uint8))]
            )
            columns.append(pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))
        return pa.table(columns, names=names)


class SegmentsAtOnce:
    """A part of a collection: opens several data files at once, not one after the other."""

    def _refresh_segment_cache(self: Any) -> None:
        new = {
            (partition, name): os.path.join(self._data_dir, "partitions", partition, name)
            for partition, names in self._manifest.get_all_data_files().items()
            for name in names
            if (partition, name) not in self._segment_cache
        }
        there = {key: file for key, file in new.items() if os.path.exists(file)}

        def load(key: tuple[str, str]) -> Any:
            keys = {"pk_field": self._pk_name, "vector_field": self._vector_name}
            return collection.Segment.load(file_path=there[key], partition=key[0], **keys)

        if len(there) > 1:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                self._segment_cache.update(zip(there, pool.map(load, there), strict=True))
        super()._refresh_segment_cache()  # type: ignore[misc]


def are_mapped() -> bool:
    """Whether collections that are opened from now on have such segments."""
    return collection.Segment is MappedSegment
