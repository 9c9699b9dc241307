"""A LanceDB table as a source of vectors, streamed, unlike by FiftyOne's own backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.collection.recent import Rows
from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.moving.sources.base import (
    BATCH_ROWS,
    Finder,
    Held,
    as_keys,
    held,
    matching_rows,
    rows_of,
)
from fiftyone_milvus.syncing.expected_rows import Expected


class LanceSource:
    """An index of FiftyOne's ``lancedb`` backend.

    Args:
        index: a ``LanceDBSimilarityIndex``
    """

    def __init__(self, index: Any) -> None:
        self.embedded: Mapping[str, Any] = {}
        self.name = f"lancedb index '{index.key}'"
        self._table = index.table

    def holds(self, expected: Expected) -> Held:
        """Returns which of the expected keys it has."""
        # A key may be there more than once
        return held(expected, np.unique(self._keys()))

    def rows(self, keys: Expected, batch_size: int | None = None) -> Iterator[Rows]:
        """Yields the rows of keys in the table's order."""
        if self._table is None or not len(keys):
            return
        dimension = getattr(self._table.schema.field("vector").type, "list_size", 0)
        size = batch_size or (rows_of(dimension) if dimension > 0 else BATCH_ROWS)
        finder, current, start = Finder(keys.keys), self._current(), 0
        for batch in self._scan(["id", "vector"], size):
            usable = current[start : start + len(batch)]
            start += len(batch)
            yield from matching_rows(finder, keys, batch["id"], batch["vector"], usable)

    def _keys(self) -> object_ids.IdArray:
        if self._table is None:
            return np.empty(0, object_ids.DTYPE)
        blocks = [as_keys(b["id"].to_pylist()) for b in self._scan(["id"], 32_768)]
        return np.concatenate(blocks) if blocks else np.empty(0, object_ids.DTYPE)

    def _current(self) -> npt.NDArray[np.bool_]:
        """Returns which rows are the last of their keys, since vectors added again are appended."""
        keys = self._keys()
        _, first = np.unique(keys[::-1], return_index=True)
        last = np.zeros(len(keys), dtype=bool)
        last[len(keys) - 1 - first] = True
        return last

    def _scan(self, columns: list[str], size: int) -> Iterator[Any]:
        return iter(self._table.search().select(columns).to_batches(size))
