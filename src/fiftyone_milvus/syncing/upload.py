"""Embeds what an index lacks, and writes it meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Set
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.syncing import expected_rows
from fiftyone_milvus.syncing.batch_size import Pace
from fiftyone_milvus.syncing.expected_rows import Wanted
from fiftyone_milvus.syncing.scope import Options, Target
from fiftyone_milvus.syncing.sources import Found, Source
from fiftyone_milvus.writing import validation
from fiftyone_milvus.writing.writer import Writer

logger = logging.getLogger(__name__)


@dataclass
class Written:
    """What was written.

    Attributes:
        count: the number of rows
        sample_ids: the sample of each, if they are to be remembered
    """

    count: int = 0
    sample_ids: list[str] = field(default_factory=list)


class Filling:
    """Embeds in this thread and writes in others; a context manager around both.

    Makes the collection when the first vectors are there. What was embedded before an error or an
    interruption is written.

    Args:
        target: the index
        samples: the :class:`fiftyone.core.collections.SampleCollection` that is synced
        source: where embeddings come from
        options: how
        total: how many keys there will be, for the progress bar
        watermark: of the fields beside the vectors; None if there are none

    Attributes:
        created: whether this made the collection, and no other process did
        failed: why keys have no usable embedding
    """

    def __init__(
        self,
        target: Target,
        samples: Any,
        source: Source,
        options: Options,
        *,
        total: int,
        watermark: int | None,
    ) -> None:
        self._target = target
        self._samples = samples
        self._source = source
        self._options = options
        self._watermark = watermark
        self._stack = ExitStack()
        self._bar = ProgressBar(
            total,
            "Embedding and uploading to Milvus",
            show=total > 0,
            progress=options.progress,
        )
        self._writer: Writer | None = None
        self.created = False
        self.failed: dict[str, str] = {}

    @property
    def written(self) -> int:
        """How many rows Milvus has acknowledged."""
        return self._writer.written if self._writer is not None else 0

    def __enter__(self) -> Filling:
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
                    "%s: %d vectors were written before this; call sync() again to go on",
                    self._target.name,
                    self.written,
                )

    def fill(self, keys: Wanted, *, remember: bool = False) -> Written:
        """Embeds and writes the vectors of some keys.

        Args:
            keys: the keys
            remember: whether to return the samples of what was written
        """
        done = Written()
        pace = Pace(self._options.batch_size)
        at = 0
        while at < len(keys):
            part = keys.take(_part(keys, at, pace.size))
            at += len(part)
            start = time.monotonic()
            batch = self._checked(part, self._source.embed(part))
            pace.took(len(part), time.monotonic() - start, batch.vectors.nbytes)
            self._bar.update(len(part) - len(batch))
            if len(batch):
                self._write(batch)
                done.count += len(batch)
                if remember:
                    done.sample_ids += batch.sample_ids
        return done

    def _write(self, batch: validation.Batch) -> None:
        target = self._target
        if self._writer is None:
            if not target.collection.present():
                self.created = target.create(batch.vectors.shape[1])
            self._writer = self._stack.enter_context(
                Writer(target.collection, replace=True, on_written=self._bar.update)
            )
        if self._watermark is not None:
            batch = replace(batch, fields=target.fields.values(batch.ids, batch.sample_ids))
        self._writer.add(batch)
        # Embedding it took seconds, and may have been dear
        self._writer.send()

    def _checked(self, part: Wanted, found: Found) -> validation.Batch:
        """Returns the rows that can be written; notes why the others can't."""
        asked = dict(zip(object_ids.to_strings(part.keys), object_ids.to_strings(part.documents)))
        keep = [i for i, key in enumerate(found.keys) if key in asked]
        ids = [found.keys[i] for i in keep]
        vectors = validation.as_vectors(found.vectors, "embeddings")[keep]
        bad: dict[int, tuple[str, str]] = {}
        if ids:
            validation.check_dimension(vectors.shape[1], self._dimension())
            bad = validation.unusable(vectors, self._target.metric)
        for row, (what, _) in bad.items():
            self._fail(ids[row], f"its embedding {what}")
        self._note(asked.keys() - set(ids), asked, part, found)
        good = [i for i in range(len(ids)) if i not in bad]
        return validation.Batch(
            [ids[i] for i in good],
            [found.sample_ids[keep[i]] for i in good],
            vectors if len(good) == len(ids) else vectors[good],
        )

    def _note(self, rest: Set[str], asked: dict[str, str], part: Wanted, found: Found) -> None:
        """Notes why keys have no embedding, unless they were deleted meanwhile."""
        if not rest:
            return
        at = [i for i, key in enumerate(asked) if key in rest]
        there = expected_rows.still_there(
            self._samples, self._target.patches_field, part.keys[at], part.documents[at]
        )
        keys = list(asked)
        for i, exists in zip(at, there):
            if exists:
                self._fail(keys[i], found.reasons.get(asked[keys[i]], self._source.nothing))

    def _fail(self, key: str, why: str) -> None:
        if not self._options.skip_failures:
            raise InvalidInputError(f"No embedding of '{key}': {why}")
        self.failed[key] = why

    def _dimension(self) -> int | None:
        collection = self._target.collection
        return collection.layout.dimension if collection.opened() else None


def _part(keys: Wanted, start: int, size: int) -> npt.NDArray[np.intp]:
    """Returns the positions of about ``size`` keys, and of all keys of their documents."""
    stop = min(start + size, len(keys))
    while stop < len(keys) and keys.documents[stop] == keys.documents[stop - 1]:
        stop += 1
    return np.arange(start, stop)
