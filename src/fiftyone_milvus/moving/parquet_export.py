"""Exports an index to a Parquet file."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import fiftyone.constants as foc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fiftyone_milvus._version import __version__
from fiftyone_milvus.collection.recent import Rows
from fiftyone_milvus.dataset.availability import needs_database
from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.errors import EngineError, InvalidInputError
from fiftyone_milvus.fields.values import ValueReader
from fiftyone_milvus.moving import parquet, runs
from fiftyone_milvus.moving.lite_directory import used_exclusively
from fiftyone_milvus.moving.migration import MADE_WITH, METRICS
from fiftyone_milvus.moving.parquet import METADATA, FileInfo
from fiftyone_milvus.moving.sources import open_source
from fiftyone_milvus.numbers import check_batch_size, check_path
from fiftyone_milvus.output_paths import check_output
from fiftyone_milvus.schema.columns import Column, check_paths, resolve_columns
from fiftyone_milvus.schema.layout import PK, SAMPLE_ID, VECTOR
from fiftyone_milvus.syncing import expected_rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """What :func:`export_index` wrote.

    Attributes:
        path: the file
        vectors: the number of rows
        dimension: the dimension of the vectors
        fields: the FiftyOne fields that are columns of the file
        others: the number of vectors without a sample or patch in the dataset, which were left out;
            None if the index's backend does not tell
        bytes: the size of the file
        seconds: the duration
    """

    path: Path
    vectors: int
    dimension: int
    fields: tuple[str, ...]
    others: int | None
    bytes: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.vectors} vectors of {self.dimension} dimensions in '{self.path}', "
            f"{self.bytes / 1e6:.1f} MB, in {self.seconds:.1f} s"
        )


@needs_database
def export_index(
    dataset: Any,
    brain_key: str,
    path: str | os.PathLike[str],
    *,
    fields: Sequence[str] | None = None,
    batch_size: int | None = None,
    progress: Any = None,
) -> Exported:
    """Writes the vectors of a similarity index of any FiftyOne backend to a Parquet file.

    The columns are ``pk`` (the sample ID, or the label ID of a patch), ``vector`` (a list of
    float32), ``sample_id``, and one for each FiftyOne field with the dataset's current values; a
    list has each string once. A column's name is that of the field, with ``_`` for characters other
    than letters and digits. The parameters of the index are in the file's metadata, as JSON under
    ``fiftyone_milvus``. pandas, DuckDB and Milvus' bulk import can read the file.

    Vectors are streamed, and an existing file is replaced when all are written. A link, a device or
    a FIFO is refused.

    Milvus' bulk import refuses columns that the collection does not have: pass ``fields=[]`` for a
    collection of ``pk``, ``vector`` and ``sample_id``.

    Example::

        from fiftyone_milvus import moving

        moving.export_index(dataset, "similar", "similar.parquet", fields=["tags", "split"])

    Args:
        dataset: a :class:`fiftyone.core.dataset.Dataset`
        brain_key: the brain key of the run
        path: the path of the file
        fields (None): the FiftyOne fields to write: strings, numbers, booleans, dates and lists of
            strings. By default, the metadata fields of the index
        batch_size (None): the number of vectors in one row group, and in memory at a time. By
            default, 8 MB of them
        progress (None): whether to show a progress bar, or a function to call with FiftyOne's. By
            default, as ``fiftyone.config.show_progress_bars`` says

    Returns:
        an :class:`Exported`

    Raises:
        InvalidInputError: if there is no such run, a field can't be written, the path can't be
            used, or there is no vector
        CollectionNotFoundError: if the index is in Milvus, and its collection does not exist
        EngineError: if vectors were removed meanwhile
        FiftyOneMilvusError: if Milvus does not answer
    """
    runs.check_dataset(dataset)
    start = time.monotonic()
    target = check_output(check_path("path", path))
    size = check_batch_size(batch_size)
    with used_exclusively(dataset, brain_key):
        source, config = open_source(dataset, brain_key)
        index_fields = list(getattr(config, "fields", None) or [])
        paths = index_fields if fields is None else (check_paths(fields) or [])
        columns = resolve_columns(dataset, config.patches_field, paths)
        asked = expected_rows.read(runs.samples(dataset, brain_key), config.patches_field)
        held = source.holds(asked)
        keys = asked.take(np.flatnonzero(held.present))
        with (
            _replacing(target) as temporary,
            ProgressBar(
                len(keys), "Exporting vectors", show=len(keys) > 0, progress=progress
            ) as bar,
            _Writer(temporary, target, dataset, config.patches_field, columns) as writer,
        ):
            for rows in source.rows(keys, size):
                writer.write(rows)
                bar.update(len(rows.ids))
            if not writer.count:
                raise InvalidInputError(
                    f"The {source.name} has no vector of this dataset's samples or patches; add "
                    "some with sync(), or pass another dataset"
                )
            if held.exact and writer.count != len(keys):
                raise EngineError(
                    f"The {source.name} lists {len(keys)} vectors but returned {writer.count}: it "
                    "is being changed; try again"
                )
            metric = getattr(config, "metric", None)
            info = FileInfo(
                format=parquet.FORMAT,
                dataset=dataset.name,
                brain_key=brain_key,
                backend=config.method,
                metric=METRICS.get(str(metric), metric),
                dimension=writer.dimension,
                count=writer.count,
                made_with={name: getattr(config, name, None) for name in MADE_WITH},
                index_fields=index_fields,
                columns={column.name: column.path for column in columns},
                embedded=source.embedded,
                versions={
                    "fiftyone-milvus": __version__,
                    "fiftyone": foc.VERSION,
                    "pyarrow": version("pyarrow"),
                },
            )
            writer.record(info)
    done = Exported(
        path=target,
        vectors=info.count,
        dimension=info.dimension,
        fields=tuple(paths),
        others=held.others,
        bytes=target.stat().st_size,
        seconds=time.monotonic() - start,
    )
    logger.info("%s", done)
    return done


class _Writer:
    """Writes rows to a Parquet file, each batch as a row group; a context manager."""

    def __init__(
        self,
        path: Path,
        target: Path,
        dataset: Any,
        patches_field: str | None,
        columns: Sequence[Column],
    ) -> None:
        self.count = self.dimension = 0
        self._columns = columns
        self._reader = ValueReader(dataset, patches_field, columns) if columns else None
        self._schema = parquet.schema(columns)
        self._target = target
        names = [column.name for column in columns]
        with _explained(self._target):
            self._file = pq.ParquetWriter(
                path,
                self._schema,
                compression="zstd",
                use_dictionary=[SAMPLE_ID, *names],
                write_statistics=[PK, SAMPLE_ID, *names],
                store_schema=False,
            )

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        with _explained(self._target):
            self._file.close()

    def write(self, rows: Rows) -> None:
        arrays = [
            pa.array(rows.ids, pa.string()),
            parquet.as_lists(rows.vectors).cast(self._schema.field(VECTOR).type),
            pa.array(rows.sample_ids, pa.string()),
        ]
        if self._reader is not None:
            found = self._reader.read(rows.ids, rows.sample_ids)
            for at, column in enumerate(self._columns):
                arrays.append(parquet.values(column, [row[at] for row in found]))
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        with _explained(self._target):
            self._file.write_table(table)
        self.count += len(rows.ids)
        self.dimension = rows.vectors.shape[1]

    def record(self, info: FileInfo) -> None:
        self._file.add_key_value_metadata({METADATA: info.to_json()})


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Yields a temporary path next to ``target``, which it replaces if there is no error."""
    temporary = target.with_name(f".{target.name}.{uuid4().hex[:8]}.part")
    try:
        yield temporary
        with _explained(target):
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            check_output(target)  # it may have changed during the export
            os.replace(temporary, target)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Explains why a file can't be written. A lost connection, an OSError too, is never inside."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).splitlines()[0]
        raise InvalidInputError(f"Can't write '{path}' ({reason}); choose another path") from error
