"""Checksums of a data file's vectors, in blocks, so that opening a collection need not read them.

They are written into the file's own footer, which is verified when the collection is opened.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from zlib_ng.zlib_ng import crc32

from fiftyone_milvus.embedded.storage import page_cache
from fiftyone_milvus.embedded.storage.vector_pages import Floats, mapped_vectors

Checksums = npt.NDArray[np.uint32]

#: So small that a search, which compares some thousand rows of a million, verifies little more than
#: these. All of a gigabyte takes 0.3 s, as with 8 kB; with 2 kB, it takes 0.45 s.
BLOCK_BYTES = 4 << 10
#: Consecutive blocks that are verified at once, a power of two: a call for each takes longer.
_RUN = 256
#: Fewer vectors are verified when the collection is opened.
MIN_BYTES = 8 << 20

_KEY = b"fiftyone_milvus.vectors"


class BlockChecksums:
    """Verifies the vectors of one field in one file, each block once.

    Args:
        vectors: a ``num_rows x num_dims`` float32 array
        block_bytes: the size of a block
        recorded: the checksum of each block
        damaged: called when a block is damaged; raises an error
    """

    def __init__(
        self,
        vectors: Floats,
        block_bytes: int,
        recorded: Checksums,
        damaged: Callable[[], None],
    ) -> None:
        self._content = vectors.view(np.uint8).reshape(-1).data
        self._row_bytes, self._block_bytes = 4 * vectors.shape[1], block_bytes
        self._recorded, self._damaged = recorded, damaged
        self._left = np.ones(len(recorded), dtype=bool)
        self._is_done = not len(recorded)

    def verify(self, rows: slice | npt.NDArray[np.int64]) -> None:
        """Verifies the blocks of some rows, from any thread.

        Args:
            rows: row numbers, or a slice without a step
        """
        if self._is_done:
            return
        size, block = self._row_bytes, self._block_bytes
        if isinstance(rows, slice):
            first, last = (rows.start or 0) * size // block, -(-rows.stop * size // block)
            for start in range(first - first % _RUN, last, _RUN):
                self._verify_run(max(first, start), min(start + _RUN, last))
        else:
            touched = np.zeros(len(self._left), dtype=bool)
            starts = rows * size
            # A row is in a few blocks only, as its first and last byte are, or spans more
            for within in [*range(0, size, block), size - 1]:
                touched[(starts + within) // block] = True
            self._verify_each(np.flatnonzero(touched & self._left))
        self._is_done = not self._left.any()

    def verify_cached(self, is_needed: Callable[[], bool]) -> None:
        """Verifies the blocks that are in the system's cache already, and reads no others.

        Args:
            is_needed: asked before each run of blocks
        """
        for start in range(0, len(self._left), _RUN):
            if self._is_done or not is_needed():
                return
            end = min(start + _RUN, len(self._left))
            block = self._block_bytes
            if page_cache.holds(self._content[start * block : end * block]):
                self._verify_run(start, end)
        self._is_done = not self._left.any()

    def _verify_run(self, first: int, last: int) -> None:
        """Verifies blocks of one run: all at once, where it is whole and none was verified."""
        # Of a copy: numpy counts first, and another thread may verify some blocks meanwhile
        left = self._left[first:last].copy()
        if last - first == _RUN and left.all() and first // _RUN < len(self._runs):
            block = self._block_bytes
            found = crc32(self._content[first * block : last * block])
            if found == self._runs[first // _RUN]:
                self._left[first:last] = False
                return
        self._verify_each(np.flatnonzero(left) + first)

    @functools.cached_property
    def _runs(self) -> Checksums:
        """The checksum of each run of :data:`_RUN` blocks, none of which is cut off."""
        whole = len(self._content) // (self._block_bytes * _RUN) * _RUN
        found, tables = self._recorded[:whole], _tables(self._block_bytes)
        for _ in range(_RUN.bit_length() - 1):
            found = _followed(found[::2], tables) ^ found[1::2]
            tables = _followed(tables, tables)
        return found

    def _verify_each(self, blocks: npt.NDArray[np.int64]) -> None:
        if not len(blocks):
            return
        content, block = self._content, self._block_bytes
        found = [crc32(content[at : at + block]) for at in (blocks * block).tolist()]
        intact = np.array(found, np.uint32) == self._recorded[blocks]
        self._left[blocks[intact]] = False
        if not intact.all():
            self._damaged()

    def verify_all(self) -> None:
        """Verifies all blocks that are left."""
        self.verify(slice(0, len(self._content) // self._row_bytes))


@functools.cache
def _tables(size: int) -> Checksums:
    """What each byte of a checksum becomes when so many bytes follow: all of it is linear."""
    zeros = bytes(size)
    values = [[crc32(zeros, byte << 8 * place) for byte in range(256)] for place in range(4)]
    return np.array(values, np.uint32) ^ np.uint32(crc32(zeros))


def _followed(checksums: Checksums, tables: Checksums) -> Checksums:
    """What checksums become when more follows; xor the checksum of that, they are those of both."""
    found = np.zeros_like(checksums)
    for place, table in enumerate(tables):
        found ^= table[checksums >> np.uint32(8 * place) & np.uint32(255)]
    return found


def added(table: pa.Table) -> pa.Table:
    """Returns a table that is about to be written, with the checksums of its vectors."""
    found = {}
    for name, field in zip(table.schema.names, table.schema, strict=True):
        kind = field.type
        if not (pa.types.is_fixed_size_list(kind) and pa.types.is_float32(kind.value_type)):
            continue
        column = table.column(name)
        if 4 * kind.list_size * len(column) >= MIN_BYTES and not column.null_count:
            found[name] = {"block": BLOCK_BYTES, "crc": "".join(_checksums(column))}
    if not found:
        return table
    metadata = {**(table.schema.metadata or {}), _KEY: json.dumps(found).encode()}
    return table.replace_schema_metadata(metadata)


def _checksums(column: pa.ChunkedArray) -> Iterator[str]:
    crc = size = 0
    for chunk in column.chunks:
        left = chunk.flatten().to_numpy().view(np.uint8).data
        while len(left):
            some = left[: BLOCK_BYTES - size]
            crc, size, left = crc32(some, crc), size + len(some), left[len(some) :]
            if size == BLOCK_BYTES:
                yield f"{crc:08x}"
                crc = size = 0
    if size:
        yield f"{crc:08x}"


def of_file(
    file: pq.ParquetFile, mapped: Mapping[str, Floats], damaged: Callable[[], None]
) -> dict[str, BlockChecksums]:
    """Returns what verifies the mapped vectors of a file, by field.

    Args:
        file: the file
        mapped: its vectors
        damaged: called when a block is damaged; raises an error
    """
    recorded: dict[str, Any] = {}
    metadata = file.metadata.metadata or {}
    if _KEY in metadata:
        recorded = json.loads(metadata[_KEY])
    return {
        name: BlockChecksums(
            vectors,
            recorded[name]["block"],
            np.frombuffer(bytes.fromhex(recorded[name]["crc"]), ">u4").astype(np.uint32),
            damaged,
        )
        for name, vectors in mapped.items()
        if name in recorded
    }


def rest(content: memoryview) -> int | None:
    """The checksum of all that the checksums of blocks leave out; None if there are none.

    Args:
        content: the whole file
    """
    file = pq.ParquetFile(pa.py_buffer(content))
    mapped = mapped_vectors(content, file)
    start = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    places = sorted(
        (mapped[name].__array_interface__["data"][0] - start, mapped[name].nbytes)
        for name in of_file(file, mapped, lambda: None)
    )
    crc = at = 0
    for place, size in places:
        crc, at = crc32(content[at:place], crc), place + size
    return crc32(content[at:], crc) if places else None
