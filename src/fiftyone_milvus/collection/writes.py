"""What is written to a collection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from pymilvus import MilvusClient

from fiftyone_milvus.collection import consistency, filters
from fiftyone_milvus.collection.packing import pack
from fiftyone_milvus.collection.reads import Reads
from fiftyone_milvus.connection import RETRY_SECONDS, Retry


class Writes(Reads):
    """Writes, changes and deletes rows."""

    def write(
        self, rows: list[dict[str, Any]], *, replace: bool, retry: float | Retry = RETRY_SECONDS
    ) -> None:
        """Writes rows, replacing those of the same key if ``replace``.

        Without ``replace`` the keys must be new: a Milvus server keeps both rows otherwise. If
        the answer is lost, the rows may be there, so what is repeated always replaces.

        Args:
            rows: the fields of each row by name
            replace: whether keys may exist
            retry: for how long to retry after transient errors
        """
        self._fresh = None
        replacing = replace
        key = self.layout.id_field
        apart = self.layout.partition_key is not None and self._misplaces_upserts

        def write(client: MilvusClient) -> None:
            nonlocal replacing
            replaces, replacing = replacing, True
            call = client.upsert if replaces and not apart else client.insert
            try:
                if replaces and apart:
                    for part in filters.batches([row[key] for row in rows]):
                        self._delete(filters.ids_in(key, part), client)
                # pymilvus would repeat it for minutes, and say so to nobody
                call(self.name, rows, timeout=self.timeout, retry_on_rate_limit=False)
            finally:
                if replaces:
                    consistency.deleted(self._key)

        self._call(write, reads=False, retry=retry)

    def change(self, values: Mapping[str, Mapping[str, Any]]) -> int:
        """Changes fields of rows; keys that are gone stay gone.

        Milvus 2.3 replaces whole rows only, so each is read with its vector and written back.

        Args:
            values: new values by primary key and name

        Returns:
            how many rows were changed
        """
        layout = self.layout
        size = self._fetch_rows()
        changed = 0
        for part in filters.batches(list(values), size):
            rows = [
                {**row, **values[row[layout.id_field]]}
                for row in self._query(filters.ids_in(layout.id_field, part), ["*"], strong=True)
            ]
            if rows:
                vectors = np.array([row[layout.vector_field] for row in rows], dtype=np.float32)
                for row, vector in zip(rows, pack(vectors)):
                    row[layout.vector_field] = vector
                _whole(partial(self.write, rows, replace=True))
            changed += len(rows)
        return changed

    def delete(self, ids: Sequence[str]) -> None:
        """Deletes rows by primary key; unknown keys are fine."""
        self._fresh = None
        for part in filters.batches(list(ids)):
            expression = filters.ids_in(self.layout.id_field, part)
            self._call(partial(self._delete, expression), reads=False)
        consistency.deleted(self._key)

    @property
    def _misplaces_upserts(self) -> bool:
        """Whether the server upserts rows into a partition that is not that of their key.

        https://github.com/milvus-io/milvus/issues/30607, which 2.3.10 and 2.4 solved.
        """
        release = self.connection.engine.release
        return release is not None and release < (2, 3, 10)

    def _delete(self, expression: str, client: MilvusClient) -> None:
        client.delete(self.name, filter=expression, timeout=self.timeout)


def _whole(work: Callable[[], None]) -> None:
    """Does work that Ctrl-C must not cut in two: where rows are deleted and written again."""
    with ThreadPoolExecutor(1, thread_name_prefix="fiftyone-milvus") as pool:
        pool.submit(work).result()
