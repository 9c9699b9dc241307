"""Where the vectors of a Parquet file are.

We write them uncompressed and in one page, so that they can be used where they are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Floats = npt.NDArray[np.float32]

_DATA_PAGE = 0
_NEXT_INTEGER = 0x15
_HEADER_BYTES = 128


def mapped_vectors(content: memoryview, file: pq.ParquetFile | None = None) -> dict[str, Floats]:
    """Returns the vector columns of a Parquet file that can be used where they are.

    Args:
        content: the whole file
        file (None): the same, where it is parsed already

    Returns:
        a ``num_rows x num_dims`` float32 array for each column of vectors, without a copy; columns
        in several pages, compressed, or with nulls are left out
    """
    file = file or pq.ParquetFile(pa.py_buffer(content))
    if file.metadata.num_row_groups != 1:
        return {}
    group, schema, found = file.metadata.row_group(0), file.schema_arrow, {}
    for number in range(group.num_columns):
        column = group.column(number)
        name = column.path_in_schema.partition(".")[0]
        kind = schema.field(name).type
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
