"""Rows read by their keys, or by a condition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from fiftyone_milvus.collection import filters
from fiftyone_milvus.collection.prefetch import ahead
from fiftyone_milvus.collection.recent import Rows
from fiftyone_milvus.collection.streams import Streams
from fiftyone_milvus.errors import CollectionMismatchError
from fiftyone_milvus.schema.layout import SAMPLE_ID

Answer = tuple[Sequence[str], list[Any]]
"""The keys that a request asked for, and the rows that exist."""


class Reads(Streams):
    """Reads rows by their keys, or by a condition."""

    def fetch(self, ids: Sequence[str], *, strong: bool = False) -> Rows:
        """Reads rows with their vectors by primary key.

        Takes the memory of the vectors and some 60 MB beside, whatever their number.

        Args:
            ids: primary keys
            strong: whether to wait for other processes' writes too; 0.2 s on an idle server

        Returns:
            the rows that exist, in the order of ``ids``
        """
        if (fresh := self._fresh_rows()) is not None:
            return fresh.take(ids)
        ids = list(ids)
        answers = self._answers(ids, strong)
        return self._collect(ids, ahead(answers) if len(ids) > self._fetch_rows() else answers)

    def _collect(self, ids: list[str], answers: Iterator[Answer]) -> Rows:
        layout = self.layout
        found_ids: list[str] = []
        sample_ids: list[str] = []
        vectors = np.empty((len(ids), layout.dimension), dtype=np.float32)
        for part, rows in answers:
            table = {row[layout.id_field]: row for row in rows}
            for i in part:
                if (row := table.get(i)) is not None:
                    vectors[len(found_ids)] = row[layout.vector_field]
                    found_ids.append(i)
                    sample_id = layout.sample_id(row)
                    sample_ids.append(i if sample_id == i else sample_id)
        # A view, so that many vectors are not there twice because one is missing
        return Rows(found_ids, sample_ids, vectors[: len(found_ids)])

    def _answers(self, ids: list[str], strong: bool) -> Iterator[Answer]:
        layout = self.layout
        fields = [*layout.id_fields, layout.vector_field]
        for part in filters.batches(ids, self._fetch_rows()):
            expression = filters.ids_in(layout.id_field, part)
            yield part, self._query(expression, fields, strong=strong, strict_float32=True)
            # Which brought the server up to date
            strong = False

    def pages(self, rows: int, *, strong: bool = False) -> Iterator[Rows]:
        """Yields all rows with their vectors, each row once, reading ahead.

        Rows that are written or deleted meanwhile may come or not.

        Args:
            rows: how many to yield at a time; the last ones are fewer
            strong: whether to wait for other processes' writes too; 0.2 s on an idle server

        Raises:
            EngineError: if Milvus does not return rows in the order of their keys
        """
        return self.fetch_pages(self._id_batches(rows, strong))

    def fetch_pages(self, batches: Iterable[Sequence[str]]) -> Iterator[Rows]:
        """Yields what :meth:`fetch` returns for each batch of primary keys, reading ahead."""
        return ahead(self._fetch(list(ids)) for ids in batches)

    def _fetch(self, ids: list[str]) -> Rows:
        if (fresh := self._fresh_rows()) is not None:
            return fresh.take(ids)
        return self._collect(ids, self._answers(ids, False))

    def _id_batches(self, size: int, strong: bool) -> Iterator[list[str]]:
        waiting: list[str] = []
        for page in self.id_pages(strong=strong, with_samples=False):
            waiting += page.ids
            while len(waiting) >= size:
                yield waiting[:size]
                del waiting[:size]
        if waiting:
            yield waiting

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
            return {row[layout.id_field]: layout.sample_id(row) for row in rows}
        return {
            row[layout.id_field]: layout.sample_id(row)
            for page in self._row_pages(fields, expression, strong=False)
            for row in page
        }

    @property
    def _fetch_bytes(self) -> int:
        return min(4 << 20, self.connection.engine.max_message_bytes // 4)

    def _fetch_rows(self) -> int:
        """Returns how many rows one read with vectors takes."""
        rows = self._fetch_bytes // (4 * self.layout.dimension)
        return max(1, min(filters.MAX_EXPRESSION_IDS, rows))

    def _id_table(self, field: str, values: Sequence[str]) -> dict[str, str]:
        layout = self.layout
        table: dict[str, str] = {}
        for part in filters.batches(list(values)):
            for row in self._query(filters.ids_in(field, part), layout.id_fields, strong=True):
                table[row[layout.id_field]] = layout.sample_id(row)
        return table
