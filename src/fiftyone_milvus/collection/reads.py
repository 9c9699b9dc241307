"""Reads rows by their keys, or by a condition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from fiftyone_milvus.collection import filters
from fiftyone_milvus.collection.prefetch import prefetched
from fiftyone_milvus.collection.recent import Rows
from fiftyone_milvus.collection.streams import Streams
from fiftyone_milvus.errors import CollectionMismatchError
from fiftyone_milvus.schema.layout import SAMPLE_ID

_Answer = tuple[Sequence[str], list[Any]]
"""The keys of one request, and the rows of those that exist."""


class Reads(Streams):
    """Reads rows by their keys, or by a condition."""

    def fetch(self, ids: Sequence[str], *, strong: bool = False) -> Rows:
        """Reads rows with their vectors by primary key.

        It takes the memory of the vectors and some 60 MB more, for any number of rows.

        Args:
            ids: primary keys
            strong (False): whether to wait for other processes' writes too; 0.2 s on an idle server

        Returns:
            the :class:`Rows` that exist, in the order of ``ids``; their vectors are a
            ``num_found x num_dims`` float32 array

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        if (recent := self._recent_rows()) is not None:
            return recent.take(ids)
        ids = list(ids)
        answers = self._answers(ids, strong)
        return self._collect(ids, prefetched(answers) if len(ids) > self._fetch_rows() else answers)

    def pages(self, rows: int, *, strong: bool = False) -> Iterator[Rows]:
        """Yields all rows with their vectors, each row once, reading ahead.

        Rows that are written or deleted meanwhile may or may not be included. Rows whose keys are
        no IDs of FiftyOne are skipped (:meth:`skipped`).

        Args:
            rows: the number of rows of a page
            strong (False): whether to wait for other processes' writes too; 0.2 s on an idle server

        Yields:
            :class:`Rows` with a ``rows x num_dims`` float32 array of vectors; the last page, and
            one from which rows were deleted meanwhile, have fewer

        Raises:
            EngineError: if Milvus does not return rows in the order of their keys
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        return self.fetch_pages(self._id_batches(rows, strong))

    def fetch_pages(self, batches: Iterable[Sequence[str]]) -> Iterator[Rows]:
        """Yields the rows that :meth:`fetch` returns for each batch of keys, reading ahead.

        Args:
            batches: primary keys, in batches

        Yields:
            the :class:`Rows` of each batch that exist, in its order

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        return prefetched(self._fetch(list(ids)) for ids in batches)

    def _fetch(self, ids: list[str]) -> Rows:
        if (recent := self._recent_rows()) is not None:
            return recent.take(ids)
        return self._collect(ids, self._answers(ids, False))

    def _answers(self, ids: list[str], strong: bool) -> Iterator[_Answer]:
        layout = self.layout
        fields = [*layout.id_fields, layout.vector_field]
        for part in filters.batches(ids, self._fetch_rows()):
            expression = filters.ids_in(layout.id_field, part)
            yield part, self._query(expression, fields, strong=strong, strict_float32=True)
            # The first read has brought the server up to date
            strong = False

    def _collect(self, ids: list[str], answers: Iterator[_Answer]) -> Rows:
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
                    # Equal strings share one object
                    sample_ids.append(i if sample_id == i else sample_id)
        # A slice, not a copy: the vectors may fill the memory
        return Rows(found_ids, sample_ids, vectors[: len(found_ids)])

    def _id_batches(self, size: int, strong: bool) -> Iterator[list[str]]:
        waiting: list[str] = []
        for page in self.id_pages(strong=strong, with_samples=False):
            strange = self.skipped(page.ids)
            waiting += (
                [_id for at, _id in enumerate(page.ids) if at not in strange]
                if strange
                else page.ids
            )
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
            the values by name of those of ``ids`` that exist, by primary key

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        key = self.layout.id_field
        return {
            row[key]: {name: row[name] for name in names}
            for part in filters.batches(ids)
            for row in self._query(filters.ids_in(key, part), [key, *names])
        }

    def existing(self, ids: Sequence[str]) -> dict[str, str]:
        """Returns the rows of those of ``ids`` that are in the collection.

        Args:
            ids: primary keys

        Returns:
            a dict from primary keys to sample IDs

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        return self._sample_ids(self.layout.id_field, ids, strong=True)

    def of_samples(self, sample_ids: Sequence[str]) -> dict[str, str]:
        """Returns all rows of the given samples.

        Args:
            sample_ids: sample IDs

        Returns:
            a dict from primary keys to sample IDs

        Raises:
            CollectionMismatchError: if the collection has no sample IDs
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        field = self.layout.sample_field
        if field is None:
            raise CollectionMismatchError(
                f"The {self.where} has no '{SAMPLE_ID}' field to find samples by; use label IDs"
            )
        return self._sample_ids(field, sample_ids, strong=True)

    def matching(self, expression: str, ids: Sequence[str] | None = None) -> dict[str, str]:
        """Returns the rows for which an expression is true.

        Args:
            expression: a filter expression, in parentheses
            ids (None): primary keys to choose from; None for all rows

        Returns:
            a dict from primary keys to sample IDs, without the rows that are :meth:`skipped`

        Raises:
            EngineError: if Milvus refuses the expression
            FiftyOneMilvusError: if Milvus can't be reached or refuses for another reason
        """
        layout = self.layout
        if ids is not None:
            return self._sample_ids(layout.id_field, ids, f" and {expression}")
        found: dict[str, str] = {}
        for page in self._row_pages(layout.id_fields, expression, strong=False):
            rows = [(row[layout.id_field], layout.sample_id(row)) for row in page]
            strange = self.skipped([_id for _id, _ in rows])
            found.update(row for at, row in enumerate(rows) if at not in strange)
        return found

    def _sample_ids(
        self, field: str, values: Sequence[str], condition: str = "", *, strong: bool = False
    ) -> dict[str, str]:
        layout = self.layout
        return {
            row[layout.id_field]: layout.sample_id(row)
            for part in filters.batches(list(values))
            for row in self._query(
                filters.ids_in(field, part) + condition, layout.id_fields, strong=strong
            )
        }

    def _fetch_rows(self) -> int:
        """Returns the number of rows that one request with vectors asks for."""
        size = min(4 << 20, self.connection.engine.max_message_bytes // 4)
        return max(1, min(filters.MAX_EXPRESSION_IDS, size // (4 * self.layout.dimension)))
