"""Embeds the rows that an index lacks, and writes them at the same time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.syncing import expected_rows
from fiftyone_milvus.syncing.batch_size import BatchSize
from fiftyone_milvus.syncing.expected_rows import Expected
from fiftyone_milvus.syncing.scope import Options, Target
from fiftyone_milvus.syncing.sources import Found, Source
from fiftyone_milvus.writing import validation
from fiftyone_milvus.writing.writer import Writer, retried_as_uploads

logger = logging.getLogger(__name__)


class Upload:
    """Embeds in this thread and writes in others; a context manager around both.

    Creates the collection when it has the first vectors. If it is left by an error or an
    interruption, what was embedded before is written.

    Args:
        target: the index
        samples: the :class:`fiftyone.core.collections.SampleCollection` that is synced
        source: where embeddings come from
        options: how to sync
        total: how many rows there will be, for the progress bar

    Attributes:
        created: whether this created the collection, and not another process
        failed: why rows have no usable embedding, by key
        watermark: that of the metadata fields; None if there are none
    """

    def __init__(
        self, target: Target, samples: Any, source: Source, options: Options, *, total: int
    ) -> None:
        self._target = target
        self._samples = samples
        self._source = source
        self._options = options
        self._stack = ExitStack()
        title = "Embedding and uploading to Milvus"
        self._bar = ProgressBar(total, title, show=total > 0, progress=options.progress)
        self._writer: Writer | None = None
        self.created = False
        self.failed: dict[str, str] = {}
        self.watermark = target.fields.watermark()

    @property
    def written(self) -> int:
        """How many rows Milvus has acknowledged."""
        return self._writer.written if self._writer is not None else 0

    def __enter__(self) -> Upload:
        self._stack.enter_context(self._bar)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._stack.__exit__(kind, error, trace)
        finally:
            if error is not None and self.written:
                logger.info(
                    "%s: %d vectors were written before this; call sync() again to write the rest",
                    self._target.name,
                    self.written,
                )

    def add(self, expected: Expected, *, remember: bool = False) -> tuple[int, list[str]]:
        """Embeds and writes some rows.

        Args:
            expected: the rows
            remember: whether to return the samples of the written rows

        Returns:
            how many rows were written, and the sample of each if asked for
        """
        count = 0
        sample_ids: list[str] = []
        batch_size = BatchSize(self._options.batch_size)
        for part, found, seconds in self._source.each(_parts(expected, batch_size)):
            batch = self._checked(part, found)
            batch_size.record(len(part), seconds, batch.vectors.nbytes)
            self._bar.update(len(part) - len(batch))
            if len(batch):
                self._write(batch)
                count += len(batch)
                if remember:
                    sample_ids += batch.sample_ids
        return count, sample_ids

    def _write(self, batch: validation.Batch) -> None:
        target = self._target
        if self._writer is None:
            # The embeddings may have been expensive, so this waits for Milvus as their upload does
            with retried_as_uploads():
                if not target.collection.present():
                    self.created = target.create(batch.vectors)
                writer = Writer(target.collection, replace=True, on_written=self._bar.update)
            self._writer = self._stack.enter_context(writer)
        if self.watermark is not None:
            batch = replace(batch, fields=target.fields.values(batch.ids, batch.sample_ids))
        self._writer.add(batch)
        # At once: the embeddings may have been expensive
        self._writer.send()

    def _checked(self, part: Expected, found: Found) -> validation.Batch:
        """Returns the rows that can be written; records why the others can't."""
        keys = object_ids.to_strings(part.keys)
        documents = dict(zip(keys, object_ids.to_strings(part.documents)))
        rows = [i for i, key in enumerate(found.keys) if key in documents]
        vectors = validation.as_vectors(found.vectors, "embeddings")[rows]
        unusable: dict[int, tuple[str, str]] = {}
        if rows:
            collection = self._target.collection
            dimension = collection.layout.dimension if collection.opened() else None
            validation.check_dimension(vectors.shape[1], dimension)
            unusable = validation.unusable(vectors, self._target.metric)
        batch = validation.Batch(
            [found.keys[i] for i in rows], [found.sample_ids[i] for i in rows], vectors
        )
        failed = {batch.ids[row]: f"its embedding {what}" for row, (what, _) in unusable.items()}
        for key, why in failed.items():
            self._fail(key, why)
        done = set(batch.ids)
        if lacking := [i for i, key in enumerate(keys) if key not in done]:
            # Not those that were deleted in the meantime
            exist = expected_rows.existing(
                self._samples,
                self._target.patches_field,
                part.keys[lacking],
                part.documents[lacking],
            )
            for i in np.array(lacking)[exist]:
                why = found.reasons.get(documents[keys[i]], self._source.no_embedding)
                self._fail(keys[i], why)
        return batch.without(set(failed)) if failed else batch

    def _fail(self, key: str, why: str) -> None:
        if not self._options.skip_failures:
            raise InvalidInputError(
                f"No embedding of '{key}': {why}; fix that sample, or pass skip_failures=True"
            )
        self.failed[key] = why


def _parts(expected: Expected, batch_size: BatchSize) -> Iterator[Expected]:
    at = 0
    while at < len(expected):
        part = expected.take(_part(expected, at, batch_size.current))
        at += len(part)
        yield part


def _part(expected: Expected, start: int, size: int) -> npt.NDArray[np.intp]:
    """Returns the positions of about ``size`` rows, and of all rows of their documents."""
    stop = min(start + size, len(expected))
    while stop < len(expected) and expected.documents[stop] == expected.documents[stop - 1]:
        stop += 1
    return np.arange(start, stop)
