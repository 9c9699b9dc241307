"""What a collection is asked, in one request each."""

from __future__ import annotations

from typing import Any

import numpy as np

from fiftyone_milvus.collection import consistency
from fiftyone_milvus.collection.base import CollectionBase
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
        consistency.read(self._key, level)
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

    def partitions(self) -> list[str]:
        """Returns the names of the partitions of a collection with a partition key, in order."""
        if self._partitions is None:
            names = self._call(lambda c: c.list_partitions(self.name, timeout=self.timeout))
            self._partitions = sorted(names, key=lambda name: int(name.rpartition("_")[2]))
        return self._partitions

    def partition_rows(self, name: str) -> int:
        """Returns the sealed rows of a partition, deleted ones too."""
        stats = self._call(
            lambda c: c.get_partition_stats(self.name, name, timeout=self.timeout), reads=False
        )
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
        consistency.read(self._key, level)
        return [_hits(hits, sample_field) for hits in found]

    def _query(
        self, expression: str, fields: list[str], *, strong: bool = False, **options: Any
    ) -> list[Any]:
        level = "Strong" if strong else self._level()
        rows = self._call(
            lambda c: c.query(
                self.name,
                filter=expression,
                output_fields=fields,
                consistency_level=level,
                timeout=self.timeout,
                **options,
            )
        )
        consistency.read(self._key, level)
        return list(rows)


def _hits(hits: Any, sample_field: str | None) -> Hits:
    ids = [str(i) for i in hits.ids]
    samples = ids
    if sample_field is not None:
        samples = [hit["entity"][sample_field] for hit in hits]
    return Hits(ids, samples, np.asarray(hits.distances, dtype=np.float64))
