"""Vectors in LanceDB, streamed: FiftyOne's backend reads the whole table for each question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.collection.recent import Rows
from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.moving.arrow_vectors import to_matrix
from fiftyone_milvus.moving.sources.base import BATCH_ROWS, Finder, Held, as_keys, rows_of
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
        """Returns which of the given keys it has."""
        present = np.zeros(len(expected), dtype=bool)
        if self._table is None:
            return Held(present, True, 0)
        keys = self._keys()
        positions = Finder(expected.keys).find(keys)
        present[positions[positions >= 0]] = True
        return Held(present, True, len(np.unique(keys[positions < 0])))

    def rows(self, keys: Expected, batch_size: int | None = None) -> Iterator[Rows]:
        """Yields the rows of keys in the table's order."""
        if self._table is None or not len(keys):
            return
        dimension = getattr(self._table.schema.field("vector").type, "list_size", 0)
        size = batch_size or (rows_of(dimension) if dimension > 0 else BATCH_ROWS)
        finder, current, start = Finder(keys.keys), self._current(), 0
        for batch in self._scan(["id", "vector"], size):
            found = finder.find(as_keys(batch["id"].to_pylist()))
            take = np.flatnonzero((found >= 0) & current[start : start + len(found)])
            start += len(found)
            if take.size:
                part = keys.take(found[take])
                yield Rows(
                    object_ids.to_strings(part.keys),
                    object_ids.to_strings(part.documents),
                    to_matrix(batch["vector"])[take],
                )

    def _keys(self) -> object_ids.IdArray:
        blocks = [as_keys(b["id"].to_pylist()) for b in self._scan(["id"], 32_768)]
        return np.concatenate(blocks) if blocks else np.empty(0, object_ids.DTYPE)

    def _current(self) -> npt.NDArray[np.bool_]:
        """Returns which rows are the last ones of their keys, as adding again appends."""
        keys = self._keys()
        _, first = np.unique(keys[::-1], return_index=True)
        last = np.zeros(len(keys), dtype=bool)
        last[len(keys) - 1 - first] = True
        return last

    def _scan(self, columns: list[str], size: int) -> Iterator[Any]:
        return iter(self._table.search().select(columns).to_batches(size))
