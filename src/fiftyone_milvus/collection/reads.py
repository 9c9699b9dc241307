"""What a collection is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pymilvus import MilvusClient

from fiftyone_milvus import filters, freshness
from fiftyone_milvus.collection.base import CollectionBase
from fiftyone_milvus.errors import (
    CollectionMismatchError,
    ConnectionFailedError,
    EngineError,
    PermissionDeniedError,
)
from fiftyone_milvus.fresh import Hits, Rows
from fiftyone_milvus.layout import (
    SAMPLE_ID,
)
from fiftyone_milvus.scores import Array

PAGE = 16_384
"""Rows per page of a read without vectors: Milvus' query window."""

_ONE_READ = 400_000


class Reads(CollectionBase):
    """Counts, searches and reads rows."""

    def count(
        self, expression: str = "", *, strong: bool = False, sealed_only: bool = False
    ) -> int:
        """Returns the exact number of rows that this process can see.

        Args:
            expression: a filter expression, or ``""`` for all rows
            strong: whether to wait for other processes' writes too; 0.2 s on an idle server
            sealed_only: whether to leave out segments that still grow
        """
        if not expression and (fresh := self._fresh_rows()) is not None:
            return len(fresh.ids)
        level = "Strong" if strong else self._level()
        options = {"ignore_growing": True} if sealed_only else {}
        rows = self._call(
            lambda c: c.query(
                self.name,
                filter=expression,
                output_fields=["count(*)"],
                consistency_level=level,
                timeout=self.timeout,
                **options,
            )
        )
        freshness.read(self._key, level)
        count = int(rows[0]["count(*)"])
        if not expression and not sealed_only:
            self._rows = count
        return count

    def rows_hint(self) -> int:
        """Returns about how many rows there are: as many as when last counted."""
        return self._rows if self._rows is not None else self.count()

    def sealed_segments(self) -> list[tuple[int, bool]] | None:
        """Returns the rows of each loaded segment, deleted ones too, and whether it is indexed.

        Returns:
            None where Milvus does not tell, as on Zilliz Cloud
        """
        try:
            found = self._call(lambda c: c.list_loaded_segments(self.name, timeout=self.timeout))
        except (EngineError, ConnectionFailedError, PermissionDeniedError):
            return None
        return [(int(s.num_rows), bool(s.index_name)) for s in found]

    def search(
        self,
        queries: Array,
        limit: int,
        *,
        params: dict[str, Any],
        expression: str = "",
        with_samples: bool = False,
    ) -> list[Hits]:
        """Searches once per query vector, in one request.

        Args:
            queries: a ``num_queries x num_dims`` float32 array
            limit: how many rows to return per query
            params: the search parameters of the index
            expression: a filter expression, or ``""``
            with_samples: whether to read the sample IDs of patches too

        Returns:
            a list of ``num_queries`` :class:`Hits`; ``sample_ids`` are the IDs where the
            collection has no sample field or they were not asked for
        """
        layout = self.layout
        if not expression and (fresh := self._fresh_rows()) is not None:
            return fresh.search(queries, limit, str(layout.metric_type))
        fields = [layout.id_field]
        sample_field = layout.sample_field if with_samples else None
        if sample_field is not None:
            fields.append(sample_field)
        level = self._level()
        found = self._call(
            lambda c: c.search(
                self.name,
                data=list(queries),
                anns_field=layout.vector_field,
                limit=limit,
                filter=expression,
                search_params={"metric_type": layout.metric_type, "params": params},
                output_fields=fields,
                consistency_level=level,
                timeout=self.timeout,
            )
        )
        freshness.read(self._key, level)
        return [_hits(hits, sample_field) for hits in found]

    def fetch(self, ids: Sequence[str]) -> Rows:
        """Reads rows with their vectors by primary key.

        Returns:
            the rows that exist, in the order of ``ids``
        """
        if (fresh := self._fresh_rows()) is not None:
            return fresh.take(ids)
        layout = self.layout
        size = self._fetch_rows()
        found_ids: list[str] = []
        sample_ids: list[str] = []
        vectors: list[Array] = []
        fields = [*layout.id_fields, layout.vector_field]
        for part in filters.batches(list(ids), size):
            rows = {
                row[layout.id_field]: row
                for row in self._query(filters.ids_in(layout.id_field, part), fields)
            }
            present = [i for i in part if i in rows]
            found_ids += present
            sample_ids += [layout.sample_id(rows[i]) for i in present]
            block = np.empty((len(present), layout.dimension), dtype=np.float32)
            for j, i in enumerate(present):
                block[j] = rows[i][layout.vector_field]
            vectors.append(block)
        if not vectors:
            vectors = [np.empty((0, layout.dimension), dtype=np.float32)]
        return Rows(found_ids, sample_ids, np.concatenate(vectors))

    def values(self, ids: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Reads fields of rows, without the vectors.

        Args:
            ids: primary keys
            names: Milvus fields

        Returns:
            a dict of those of ``ids`` that exist, to their values by name
        """
        key = self.layout.id_field
        found: dict[str, dict[str, Any]] = {}
        for part in filters.batches(ids):
            for row in self._query(filters.ids_in(key, part), [key, *names]):
                found[row[key]] = {name: row[name] for name in names}
        return found

    def existing(self, ids: Sequence[str]) -> dict[str, str]:
        """Returns ``{id: sample_id}`` of those of ``ids`` that are in the collection."""
        return self._id_table(self.layout.id_field, ids)

    def of_samples(self, sample_ids: Sequence[str]) -> dict[str, str]:
        """Returns ``{id: sample_id}`` of all rows of the given samples."""
        layout = self.layout
        if layout.sample_field is None:
            raise CollectionMismatchError(
                f"The {self.where} has no '{SAMPLE_ID}' field to find samples by; use label IDs"
            )
        return self._id_table(layout.sample_field, sample_ids)

    def matching(self, expression: str, ids: Sequence[str] | None = None) -> dict[str, str]:
        """Returns ``{id: sample_id}`` of the rows for which an expression is true.

        Args:
            expression: a filter expression, in parentheses
            ids: primary keys to choose from; None for all rows

        Raises:
            EngineError: if Milvus refuses the expression
        """
        layout = self.layout
        fields = layout.id_fields
        if ids is not None:
            rows = [
                row
                for part in filters.batches(ids)
                for row in self._query(
                    f"{filters.ids_in(layout.id_field, part)} and {expression}", fields
                )
            ]
        elif self.connection.engine.lite or self.count(expression) <= _ONE_READ:
            # Any filter lifts the query window
            rows = self._query(expression, fields)
        else:
            rows = self._iterate(fields, expression)
        return {row[layout.id_field]: layout.sample_id(row) for row in rows}

    def all_ids(self) -> tuple[list[str], list[str]]:
        """Returns the primary key and the sample ID of every row, in key order.

        Raises:
            EngineError: if Milvus returns fewer rows than it counts, as servers 2.6.0-2.6.21 do
                (https://github.com/milvus-io/milvus/issues/52055)
        """
        if (fresh := self._fresh_rows()) is not None:
            table = dict(zip(fresh.ids, fresh.sample_ids))
            return sorted(table), [table[i] for i in sorted(table)]
        layout = self.layout
        size = None if self.connection.engine.lite else self.count()
        if size is None or size <= _ONE_READ:
            # An ID filter lifts the query window; 100k keys take 0.3 s
            everything = filters.everything(layout.id_field)
            rows = self._query(everything, layout.id_fields)
        else:
            rows = self._iterate(layout.id_fields)
            if len({row[layout.id_field] for row in rows}) < min(size, self.count()):
                raise EngineError(
                    f"The {self.where} counts {size} rows but returns {len(rows)} of them, a bug "
                    "of Milvus 2.6.0-2.6.21; upgrade the server"
                )
        table = {row[layout.id_field]: layout.sample_id(row) for row in rows}
        ids = sorted(table)
        return ids, [table[i] for i in ids]

    @property
    def _fetch_bytes(self) -> int:
        return min(8 << 20, self.connection.engine.max_message_bytes // 4)

    def _fetch_rows(self) -> int:
        """Returns how many rows one read with vectors takes."""
        rows = self._fetch_bytes // (4 * self.layout.dimension)
        return max(1, min(filters.MAX_EXPRESSION_IDS, rows))

    def _query(self, expression: str, fields: list[str], *, strong: bool = False) -> list[Any]:
        level = "Strong" if strong else self._level()
        rows = self._call(
            lambda c: c.query(
                self.name,
                filter=expression,
                output_fields=fields,
                consistency_level=level,
                timeout=self.timeout,
            )
        )
        freshness.read(self._key, level)
        return list(rows)

    def _id_table(self, field: str, values: Sequence[str]) -> dict[str, str]:
        layout = self.layout
        table: dict[str, str] = {}
        for part in filters.batches(list(values)):
            for row in self._query(filters.ids_in(field, part), layout.id_fields, strong=True):
                table[row[layout.id_field]] = layout.sample_id(row)
        return table

    def _iterate(self, fields: list[str], expression: str = "") -> list[Any]:
        level = self._level()

        def iterate(client: MilvusClient) -> list[Any]:
            iterator = client.query_iterator(
                self.name,
                filter=expression,
                batch_size=PAGE,
                output_fields=fields,
                consistency_level=level,
                timeout=self.timeout,
            )
            try:
                rows: list[Any] = []
                while page := iterator.next():
                    rows += page
                return rows
            finally:
                iterator.close()

        return self._call(iterate)


def _hits(hits: Any, sample_field: str | None) -> Hits:
    ids = [str(i) for i in hits.ids]
    samples = ids
    if sample_field is not None:
        samples = [hit["entity"][sample_field] for hit in hits]
    return Hits(ids, samples, np.asarray(hits.distances, dtype=np.float64))
