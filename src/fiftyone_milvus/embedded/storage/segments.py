"""Milvus Lite's segments, with vectors that stay in their Parquet file.

The file is mapped into memory, and the vectors are used where they are: we write them uncompressed
and in one page. The operating system reads what is needed, and forgets it when memory is short.
Milvus Lite keeps a copy of every file, and Python objects for every key.
"""

from __future__ import annotations

import mmap
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from milvus_lite.storage import segment

from fiftyone_milvus.embedded.storage import keys

Floats = npt.NDArray[np.float32]

_DATA_PAGE = 0
_NEXT_INTEGER = 0x15
_HEADER_BYTES = 128


class MappedSegment(segment.Segment):
    """A segment of which only the keys are in memory.

    Attributes:
        keys: the primary keys
        seqs: the sequence number of each row, uint64
    """

    def __init__(
        self,
        file_path: str,
        partition: str,
        pk_field: str,
        vector_field: str,
        mapped: dict[str, Floats],
        content: memoryview,
    ) -> None:
        columns = pq.read_table(pa.py_buffer(content), columns=[pk_field, "_seq"])
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
        self._table: pa.Table | None = None
        self._reading = threading.Lock()

    @classmethod
    def load(
        cls, file_path: str, partition: str, pk_field: str, vector_field: str | None
    ) -> segment.Segment:
        """Opens a data file; Milvus Lite's own segment where its vectors can't be mapped."""
        if vector_field is not None:
            with open(file_path, "rb") as file:
                content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            mapped = mapped_vectors(content)
            if vector_field in mapped:
                return cls(file_path, partition, pk_field, vector_field, mapped, content)
        return segment.Segment.load.__func__(
            segment.Segment, file_path, partition, pk_field, vector_field
        )

    @property
    def num_rows(self) -> int:
        """The number of rows, dead ones too."""
        return len(self.seqs)

    @property
    def vectors(self) -> Floats:
        """The vectors, a ``num_rows x num_dims`` float32 array; it may not be aligned."""
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

    @property
    def table(self) -> pa.Table:
        """All columns, read when they are first asked for; vectors stay in the file."""
        with self._reading:
            if self._table is None:
                self._table = self._read()
            return self._table

    def _read(self) -> pa.Table:
        source = pa.py_buffer(self._content)
        names = pq.read_schema(source).names
        table = pq.read_table(source, columns=[n for n in names if n not in self._mapped])
        columns = []
        for name in names:
            if name not in self._mapped:
                columns.append(table.column(name).combine_chunks())
                continue
            vectors = self._mapped[name]
            flat = pa.Array.from_buffers(
                pa.float32(), vectors.size, [None, pa.py_buffer(vectors.view(np.uint8))]
            )
            columns.append(pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))
        return pa.table(columns, names=names)


def mapped_vectors(content: memoryview) -> dict[str, Floats]:
    """Returns the vector columns of a Parquet file that can be used where they are.

    Args:
        content: the whole file

    Returns:
        a ``num_rows x num_dims`` float32 array for each column of vectors, without a copy; columns
        in several pages, compressed, or with nulls are left out
    """
    file = pq.ParquetFile(pa.py_buffer(content))
    if file.metadata.num_row_groups != 1:
        return {}
    group, found = file.metadata.row_group(0), {}
    for number in range(group.num_columns):
        column = group.column(number)
        name = column.path_in_schema.partition(".")[0]
        kind = file.schema_arrow.field(name).type
        if not (pa.types.is_fixed_size_list(kind) and pa.types.is_float32(kind.value_type)):
            continue
        values = group.num_rows * kind.list_size
        if (
            kind.list_size < 2  # a null would not be seen in the number of values
            or column.num_values != values
            or column.compression != "UNCOMPRESSED"
            or column.dictionary_page_offset is not None
            or "PLAIN" not in column.encodings
        ):
            continue
        start, end = column.data_page_offset, column.data_page_offset + column.total_compressed_size
        kind_of_page, size = _first_page(content[start : start + _HEADER_BYTES])
        if kind_of_page != _DATA_PAGE or size < 4 * values or end - start - size > _HEADER_BYTES:
            continue
        flat = np.frombuffer(content, dtype="<f4", count=values, offset=end - 4 * values)
        found[name] = flat.reshape(group.num_rows, kind.list_size)
    return found


def _first_page(header: memoryview) -> tuple[int, int]:
    """The kind of a column's first page, and its size in bytes.

    They are the first and third number of a ``PageHeader``, in Thrift's compact protocol:
    https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
    """
    numbers, place = [], 0
    for _ in range(3):
        if header[place] != _NEXT_INTEGER:
            return -1, 0
        number = shift = 0
        while True:
            place += 1
            number |= (header[place] & 0x7F) << shift
            shift += 7
            if header[place] < 0x80:
                break
        numbers.append(number >> 1 ^ -(number & 1))
        place += 1
    return numbers[0], numbers[2]
