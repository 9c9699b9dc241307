"""Writes, changes and deletes rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from pymilvus import MilvusClient

from fiftyone_milvus.collection import filters
from fiftyone_milvus.collection.packing import pack
from fiftyone_milvus.collection.reads import Reads
from fiftyone_milvus.connection import RETRY_SECONDS, Retry


class Writes(Reads):
    """Writes, changes and deletes rows."""

    def write(
        self, rows: list[dict[str, Any]], *, replace: bool, retry: float | Retry = RETRY_SECONDS
    ) -> None:
        """Writes rows, replacing those of the same key if ``replace``.

        Without ``replace`` the keys must be new: a Milvus server keeps both rows otherwise. A retry
        always replaces, as the rows may be there although the answer was lost.

        Args:
            rows: the fields of each row by name
            replace: whether keys may exist
            retry (RETRY_SECONDS): for how many seconds to retry after transient errors, or a
                :class:`Retry <fiftyone_milvus.connection.Retry>`

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        self._recent = None
        replacing = replace
        key = self.layout.id_field
        delete_first = self.layout.partition_key is not None and self._misplaces_upserts

        def write(client: MilvusClient) -> None:
            nonlocal replacing
            replaces, replacing = replacing, True
            method = "upsert" if replaces and not delete_first else "insert"
            try:
                if replaces and delete_first:
                    for part in filters.batches([row[key] for row in rows]):
                        self._request("delete", filter=filters.ids_in(key, part))(client)
                # pymilvus' own retries would take minutes, without a word
                self._request(method, rows, retry_on_rate_limit=False)(client)
            finally:
                self._session.changed(deleted=replaces)

        self._call(write, reads=False, retry=retry)

    def change(self, values: Mapping[str, Mapping[str, Any]]) -> int:
        """Changes fields of rows; keys that do not exist are ignored.

        Milvus 2.3 replaces whole rows only, so each row is read with its vector and written back.

        Args:
            values: new values by primary key and name

        Returns:
            the number of rows that were changed

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        layout = self.layout
        changed = 0
        for part in filters.batches(list(values), self._fetch_rows()):
            rows = [
                {**row, **values[row[layout.id_field]]}
                for row in self._query(filters.ids_in(layout.id_field, part), ["*"], strong=True)
            ]
            if rows:
                vectors = np.array([row[layout.vector_field] for row in rows], dtype=np.float32)
                for row, vector in zip(rows, pack(vectors)):
                    row[layout.vector_field] = vector
                _uninterrupted(partial(self.write, rows, replace=True))
            changed += len(rows)
        return changed

    def delete(self, ids: Sequence[str]) -> None:
        """Deletes rows by primary key.

        Args:
            ids: primary keys, which need not exist

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        self._recent = None
        for part in filters.batches(list(ids)):
            expression = filters.ids_in(self.layout.id_field, part)
            self._call(self._request("delete", filter=expression), reads=False)
        self._session.changed(deleted=True)

    @property
    def _misplaces_upserts(self) -> bool:
        """Whether the server upserts rows into a partition that is not that of their key.

        https://github.com/milvus-io/milvus/issues/30607, fixed in 2.3.10 and 2.4.
        """
        release = self.connection.engine.release
        return release is not None and release < (2, 3, 10)


def _uninterrupted(work: Callable[[], None]) -> None:
    """Finishes work before Ctrl-C is raised: rows are deleted first, and then written."""
    with ThreadPoolExecutor(1, thread_name_prefix="fiftyone-milvus") as pool:
        pool.submit(work).result()
