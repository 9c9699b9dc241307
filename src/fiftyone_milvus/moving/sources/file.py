"""A Parquet file as a source of vectors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fiftyone_milvus.collection.recent import Rows
from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.moving.parquet import FORMAT, METADATA, FileInfo, to_matrix
from fiftyone_milvus.moving.sources.base import (
    BATCH_ROWS,
    Finder,
    Held,
    as_keys,
    held,
    matching_rows,
    rows_of,
)
from fiftyone_milvus.numbers import check_path
from fiftyone_milvus.schema.layout import PK, VECTOR
from fiftyone_milvus.syncing.expected_rows import Expected


class FileSource:
    """A Parquet file with the columns ``pk`` and ``vector``; a context manager.

    Args:
        path: the path of the file

    Attributes:
        info: the metadata of the file; None if this package did not export it

    Raises:
        InvalidInputError: if it can't be read, or lacks these columns
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = check_path("path", path)
        self.name = f"file '{self._path}'"
        try:
            if self._path.exists() and not self._path.is_file():
                raise OSError("it is no regular file")  # a FIFO would be waited for
            # Buffering would keep the whole file in memory
            self._file = pq.ParquetFile(self._path, pre_buffer=False)
        except (OSError, pa.ArrowInvalid) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise InvalidInputError(
                f"Can't read '{self._path}' as a Parquet file ({reason}); give one that "
                "export_index() wrote, or one with columns 'pk' and 'vector'"
            ) from None
        try:
            self._check_schema()
            self.info = self._read_info()
        except BaseException:
            self._file.close()
            raise
        self.embedded: Mapping[str, Any] = self.info.embedded if self.info else {}

    def __enter__(self) -> FileSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def origin(self) -> dict[str, Any]:
        """A record that differs for other files, and after a change of this file."""
        stat = self._path.stat()
        return {"from": str(self._path.resolve()), "made": f"{stat.st_size} {stat.st_mtime_ns}"}

    def holds(self, expected: Expected) -> Held:
        """Returns which of the expected keys it has, after checking all vectors.

        Raises:
            InvalidInputError: if a key is missing or repeated, a vector is missing or of another
                length than the others, or the file is damaged
        """
        keys = self._keys()
        known = keys[keys != np.zeros(1, object_ids.DTYPE)[0]]
        repeated = len(known) - len(np.unique(known))
        if repeated:
            raise InvalidInputError(
                f"The {self.name} has {repeated} rows that repeat a '{PK}'; leave one row per key"
            )
        return held(expected, keys)

    def rows(self, keys: Expected, batch_size: int | None = None) -> Iterator[Rows]:
        """Yields the rows of keys in the file's order."""
        if not len(keys):
            return
        finder = Finder(keys.keys)
        for batch in self._batches(batch_size, [PK, VECTOR]):
            yield from matching_rows(finder, keys, batch.column(PK), batch.column(VECTOR))

    def _keys(self) -> object_ids.IdArray:
        blocks = []
        dimension = self.info.dimension if self.info else None
        for batch in self._batches(None, [PK, VECTOR]):
            column = batch.column(PK)
            if column.null_count:
                raise InvalidInputError(
                    f"The {self.name} has rows without a '{PK}'; leave them out"
                )
            blocks.append(as_keys(column.to_pylist()))
            if not len(column):
                continue
            # Checked now, before anything is written to Milvus
            found = to_matrix(batch.column(VECTOR)).shape[1]
            if dimension not in (None, found):
                raise InvalidInputError(
                    f"The {self.name} has vectors of {found} and of {dimension} dimensions; an "
                    "index has vectors of one dimension"
                )
            dimension = found
        return np.concatenate(blocks) if blocks else np.empty(0, object_ids.DTYPE)

    def _batches(self, size: int | None, columns: list[str]) -> Iterator[Any]:
        known = self.info.dimension if self.info else 0
        size = size or (rows_of(known) if known > 0 else BATCH_ROWS)
        try:
            yield from self._file.iter_batches(size, columns=columns)
        except (OSError, pa.ArrowException) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InvalidInputError(
                f"The {self.name} is damaged ({reason}); write it again"
            ) from None

    def _check_schema(self) -> None:
        schema = self._file.schema_arrow
        for name, expected, fits in (
            (PK, "strings", _is_string),
            (VECTOR, "lists of floats", _is_list),
        ):
            if name not in schema.names:
                raise InvalidInputError(
                    f"The {self.name} has no column '{name}' of {expected}; its columns are "
                    f"{', '.join(map(repr, schema.names))}"
                )
            found = schema.field(name).type
            if not fits(found):
                raise InvalidInputError(
                    f"Column '{name}' of the {self.name} holds {found}; expected {expected}"
                )

    def _read_info(self) -> FileInfo | None:
        text = (self._file.metadata.metadata or {}).get(METADATA)
        if text is None:
            return None
        try:
            info = FileInfo.from_json(text)
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(
                f"The metadata of the {self.name} can't be read ({error}); export it again"
            ) from None
        if info.format > FORMAT:
            raise InvalidInputError(
                f"The {self.name} has format {info.format}, and this version of fiftyone-milvus "
                f"reads up to {FORMAT}; upgrade it"
            )
        return info


def _is_string(kind: Any) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_list(kind: Any) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_a(kind) for is_a in lists) and pa.types.is_floating(kind.value_type)
