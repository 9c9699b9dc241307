"""A collection in Milvus, of this package or of the built-in backend, as a source of vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fiftyone_milvus.collection.recent import Rows
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.moving.sources.base import Held, parts, rows_of
from fiftyone_milvus.syncing import difference
from fiftyone_milvus.syncing.expected_rows import Expected


class MilvusSource:
    """An index in Milvus.

    Args:
        index: the index
    """

    def __init__(self, index: MilvusSimilarityIndex) -> None:
        self.name = f"Milvus index '{index.key}'"
        self._index = index
        self._collection = index._collection
        self.embedded: Mapping[str, Any] = {}

    def holds(self, expected: Expected) -> Held:
        """Returns which of the expected keys it has.

        Raises:
            CollectionNotFoundError: if the collection does not exist
            InvalidInputError: if several rows have one key
        """
        # Raises if there is no collection, as the address may be wrong
        self.embedded = self._collection.describe().embedded
        found = difference.compare(self._collection, expected, patches=self._index._patches)
        others = len(found.unexpected)
        distinct = int(np.count_nonzero(found.present)) + others
        repeated = self._collection.count(strong=True) - distinct
        if repeated > 0:
            # Each read might return another one of them
            raise InvalidInputError(
                f"The {self.name} has {repeated} rows that repeat a key; call moving.adopt() for "
                "it first, which leaves one of each"
            )
        return Held(found.present, True, others)

    def rows(self, keys: Expected, batch_size: int | None = None) -> Iterator[Rows]:
        """Yields the rows of keys in their order, reading ahead."""
        if not len(keys):
            return
        size = batch_size or rows_of(self._collection.layout.dimension)
        for rows in self._collection.fetch_pages(ids for ids, _ in parts(keys, size)):
            if rows.ids:
                yield Rows(
                    *self._index._lookup.with_samples(rows.ids, rows.sample_ids), rows.vectors
                )
