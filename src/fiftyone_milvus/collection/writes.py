"""Writes, changes and deletes rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace as changed
from functools import partial
from typing import Any

import numpy as np
from pymilvus import MilvusClient

from fiftyone_milvus.collection import filters
from fiftyone_milvus.collection.packing import pack
from fiftyone_milvus.collection.reads import Reads
from fiftyone_milvus.connection import RETRY_SECONDS, Retry
from fiftyone_milvus.errors import PermissionDeniedError
from fiftyone_milvus.schema.layout import MAKER, SEVERAL

logger = logging.getLogger(__name__)

_DYNAMIC = "$meta"


class Writes(Reads):
    """Writes, changes and deletes rows."""

    def write(
        self, rows: list[dict[str, Any]], *, replace: bool, retry: float | Retry = RETRY_SECONDS
    ) -> None:
        """Writes rows, replacing those of the same key if ``replace``.

        Without ``replace`` the keys must be new, and no other process may write: a Milvus server
        keeps both rows otherwise. A retry always replaces, as the rows may be there although the
        answer was lost.

        A row that is replaced stays in its partition, and keeps the fields of other programs. These
        are read first, so what another program writes to them in the meantime is lost.

        Args:
            rows: the fields of each row by name
            replace: whether keys may exist
            retry (RETRY_SECONDS): for how many seconds to retry after transient errors, or a
                :class:`Retry <fiftyone_milvus.connection.Retry>`

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        self._recent = None
        self._announce()
        for some, partition in self._placed(rows) if replace else [(rows, None)]:
            self._send(some, partition, replace, retry)

    def _send(
        self, rows: list[dict[str, Any]], partition: str | None, replace: bool, retry: float | Retry
    ) -> None:
        replacing = replace
        key = self.layout.id_field
        where = {} if partition is None else {"partition_name": partition}
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
                self._request(method, rows, retry_on_rate_limit=False, **where)(client)
            finally:
                self._session.changed(deleted=replaces)

        self._call(write, reads=False, retry=retry)

    def _announce(self) -> None:
        """Records that others than its maker write to it, before the first of their rows.

        Its maker drops it if its first upload fails (:meth:`discard`).
        """
        layout = self.layout
        if layout.maker in (None, SEVERAL, self._maker):
            return
        try:
            self._set_property(MAKER, SEVERAL)
        except PermissionDeniedError as error:
            logger.debug("Can't record that others write to the %s: %s", self.where, error)
        self._layout = changed(layout, maker=SEVERAL)

    def _placed(
        self, rows: list[dict[str, Any]], *, complete: bool = False
    ) -> Iterator[tuple[list[dict[str, Any]], str | None]]:
        """Yields rows with the fields to keep of those that they replace, by partition.

        In our own collections nothing is read, and all rows are one request.

        Args:
            rows: the fields of each row by name
            complete: whether they have all fields already
        """
        layout = self.layout
        key = layout.id_field
        keeps = not complete and (layout.dynamic or bool(layout.others))
        if not keeps and not layout.partitioned:
            yield rows, None
            return
        fields = [key, *(layout.others if keeps else ())]
        if keeps and layout.dynamic:
            fields.append(_DYNAMIC)
        ids = [row[key] for row in rows]
        there = self._found_in(ids, fields)
        groups: dict[tuple[str | None, bool], list[dict[str, Any]]] = {}
        for row in rows:
            partition, kept = there.get(row[key], (None, {}))
            # Milvus 2.3 takes a field with a default for all rows of a request, or for none
            group = groups.setdefault((partition, row[key] in there), [])
            group.append({**kept, **row})
        for (partition, _), some in groups.items():
            yield some, partition

    def _found_in(
        self, ids: Sequence[str], fields: list[str]
    ) -> dict[str, tuple[str | None, dict[str, Any]]]:
        """Returns the partition of each key that exists, and its fields of other programs."""
        layout = self.layout
        names: list[str | None] = [None]
        if layout.partitioned:
            names = list(self._call(self._request("list_partitions"), reads=False))
        found: dict[str, tuple[str | None, dict[str, Any]]] = {}
        own = layout.own_fields
        for name in names:
            where = {} if name is None else {"partition_names": [name]}
            for part in filters.batches(ids, self._fetch_rows()):
                expression = filters.ids_in(layout.id_field, part)
                twice = []
                for row in self._query(expression, fields, strong=True, **where):
                    _id = row[layout.id_field]
                    if _id in found and found[_id][0] != name:
                        twice.append(_id)
                    found.setdefault(_id, (name, {n: row[n] for n in row if n not in own}))
                if twice:
                    # A row of each key stays, whatever happens next
                    expression = filters.ids_in(layout.id_field, twice)
                    delete = self._request("delete", filter=expression, partition_name=name)
                    self._call(delete, reads=False)
                    self._session.changed(deleted=True, rows=len(twice))
        return found

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
            found = self._query(filters.ids_in(layout.id_field, part), ["*"], strong=True)
            # By key, as rows of different partitions may have the same
            rows = [
                {**row, **values[_id]}
                for _id, row in {row[layout.id_field]: row for row in found}.items()
            ]
            if rows:
                vectors = np.array([row[layout.vector_field] for row in rows], dtype=np.float32)
                for row, vector in zip(rows, pack(vectors)):
                    row[layout.vector_field] = vector
                _uninterrupted(partial(self._rewrite, rows))
            changed += len(rows)
        return changed

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        self._recent = None
        self._announce()
        for some, partition in self._placed(rows, complete=True):
            self._send(some, partition, True, RETRY_SECONDS)

    def delete(self, ids: Sequence[str]) -> None:
        """Deletes rows by primary key.

        Args:
            ids: primary keys, which need not exist

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        self._recent = None
        ids = list(ids)
        for part in filters.batches(ids):
            expression = filters.ids_in(self.layout.id_field, part)
            self._call(self._request("delete", filter=expression), reads=False)
        self._session.changed(deleted=True, rows=len(ids))

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
