"""An index of any other backend as a source of vectors, by the methods that all backends have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fiftyone_milvus.collection.recent import Rows
from fiftyone_milvus.moving.sources.base import BATCH_ROWS, Held, as_keys, held, parts, rows_of
from fiftyone_milvus.syncing.expected_rows import Expected


class OtherSource:
    """A similarity index of any FiftyOne backend.

    Args:
        index: a :class:`fiftyone.brain.similarity.SimilarityIndex`
    """

    def __init__(self, index: Any) -> None:
        self.embedded: Mapping[str, Any] = {}
        self.name = f"{index.config.method} index '{index.key}'"
        self._index = index
        self._patches = index.config.patches_field is not None

    def holds(self, expected: Expected) -> Held:
        """Returns which of the expected keys it has; all, if the backend does not list its IDs."""
        ids = self._index.label_ids if self._patches else self._index.sample_ids
        if ids is None:
            return Held(
                np.ones(len(expected), dtype=bool), False, None, self._index.total_index_size
            )
        return held(expected, as_keys(list(ids)))

    def rows(self, keys: Expected, batch_size: int | None = None) -> Iterator[Rows]:
        """Yields the rows of keys, in batches."""
        at, size = 0, batch_size or BATCH_ROWS
        while at < len(keys):
            part = keys.take(np.arange(at, min(at + size, len(keys))))
            at += len(part)
            ids, samples = next(parts(part, len(part)))
            rows = self._read(ids, samples)
            if rows.ids:
                yield rows
                if batch_size is None:
                    size = rows_of(rows.vectors.shape[1])

    def _read(self, ids: list[str], samples: list[str]) -> Rows:
        if self._patches:
            vectors, _, found = self._index.get_embeddings(label_ids=ids)
        else:
            vectors, found, _ = self._index.get_embeddings(sample_ids=ids)
        # In any order, and repeated if a key was added twice
        last = {str(_id): row for row, _id in enumerate(found)}
        there = [i for i, _id in enumerate(ids) if _id in last]
        return Rows(
            [ids[i] for i in there],
            [samples[i] for i in there],
            np.asarray(vectors)[[last[ids[i]] for i in there]] if there else np.empty((0, 0)),
        )
