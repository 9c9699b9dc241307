"""Counts, searches and queries rows, each in one request."""

from __future__ import annotations

from typing import Any

import numpy as np

from fiftyone_milvus.collection.base import CollectionBase
from fiftyone_milvus.collection.consistency import SegmentState
from fiftyone_milvus.collection.recent import Hits
from fiftyone_milvus.errors import ConnectionFailedError, EngineError, PermissionDeniedError
from fiftyone_milvus.metrics import Array


class Queries(CollectionBase):
    """Counts and searches."""

    def count(
        self, expression: str = "", *, strong: bool = False, sealed_only: bool = False
    ) -> int:
        """Returns the exact number of rows that this process can see.

        Args:
            expression (""): a filter expression, or ``""`` for all rows
            strong (False): whether to wait for other processes' writes too; 0.2 s on an idle server
            sealed_only (False): whether to leave out segments that still grow

        Raises:
            EngineError: if Milvus refuses the expression
            FiftyOneMilvusError: if Milvus can't be reached or refuses for another reason
        """
        if not expression and (recent := self._recent_rows()) is not None:
            return len(recent.ids)
        options = {"ignore_growing": True} if sealed_only else {}
        rows = self._query(expression, ["count(*)"], strong=strong, **options)
        count = int(rows[0]["count(*)"])
        if not expression and not sealed_only:
            self._rows = count
        return count

    def rows_hint(self) -> int:
        """Returns the number of rows when they were last counted; counts them the first time.

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        return self._rows if self._rows is not None else self.count()

    def segment_state(self) -> SegmentState:
        """Returns the state of a server's segments, which may be up to two seconds old.

        It is never older than the last change by this process.

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        return self._session.segments(self._ask_segments)

    def _ask_segments(self) -> SegmentState:
        sealed, found = self.count(sealed_only=True), self.sealed_segments()
        stored = sum(rows for rows, _ in found or ())
        return SegmentState(self._session.stored(self.count() - sealed, stored - sealed), found)

    @property
    def knows_segments(self) -> bool:
        """Whether :meth:`segment_state` is known, so that Milvus need not be asked."""
        return self._session.knows_segments

    def sealed_segments(self) -> list[tuple[int, bool]] | None:
        """Returns the rows of each loaded segment, deleted ones too, and whether it is indexed.

        Returns:
            a list of ``(rows, indexed)``; None where Milvus does not tell, such as on Zilliz Cloud
        """
        try:
            found = self._call(self._request("list_loaded_segments"))
        except (EngineError, ConnectionFailedError, PermissionDeniedError):
            return None
        return [(int(s.num_rows), bool(s.index_name)) for s in found]

    def partitions(self) -> list[str]:
        """Returns the names of the partitions of a collection with a partition key, in order.

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        if self._partitions is None:
            names = self._call(self._request("list_partitions"))
            self._partitions = sorted(names, key=lambda name: int(name.rpartition("_")[2]))
        return self._partitions

    def partition_rows(self, name: str) -> int:
        """Returns the number of sealed rows in a partition, deleted ones included.

        Args:
            name: one of :meth:`partitions`

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        stats = self._call(self._request("get_partition_stats", name), reads=False)
        return int(stats["row_count"])

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
            limit: the number of rows to return per query
            params: the search parameters of the index
            expression (""): a filter expression, or ``""`` for all rows
            with_samples (False): whether to read the sample IDs of patches too

        Returns:
            a list of ``num_queries`` :class:`Hits` of at most ``limit`` rows, the best first; their
            ``sample_ids`` are the primary keys if there is no sample field or it was not read

        Raises:
            EngineError: if Milvus refuses the search, for example for its filter expression
            FiftyOneMilvusError: if Milvus can't be reached or refuses for another reason
        """
        layout = self.layout
        if not expression and (recent := self._recent_rows()) is not None:
            return recent.search(queries, limit, str(layout.metric_type))
        sample_field = layout.sample_field if with_samples else None
        found = self._read(
            "search",
            data=list(queries),
            anns_field=layout.vector_field,
            limit=limit,
            filter=expression,
            search_params={"metric_type": layout.metric_type, "params": params},
            output_fields=layout.id_fields if sample_field else [layout.id_field],
        )
        return [_hits(hits, sample_field) for hits in found]

    def _query(
        self, expression: str, fields: list[str], *, strong: bool = False, **options: Any
    ) -> list[Any]:
        rows = self._read(
            "query", strong=strong, filter=expression, output_fields=fields, **options
        )
        return list(rows)

    def _read(self, method: str, *, strong: bool = False, **options: Any) -> Any:
        level = "Strong" if strong else self.consistency_level
        if not self.connection.engine.lite:
            level = self._session.read_level(level)
        answer = self._call(self._request(method, consistency_level=level, **options))
        self._session.read(level)
        return answer


def _hits(hits: Any, sample_field: str | None) -> Hits:
    ids = [str(i) for i in hits.ids]
    samples = [hit["entity"][sample_field] for hit in hits] if sample_field is not None else ids
    return Hits(ids, samples, np.asarray(hits.distances, dtype=np.float64))
