"""Reads a whole collection page by page, in bounded memory.

Pages follow the primary key: each holds the smallest keys above those of the last page. So a row
that exists from start to end comes exactly once, whatever is written in the meantime. pymilvus'
``query_iterator`` does the same, but it does not escape keys, and on Milvus 2.3 it waits a second
for the server's clock to pass its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from fiftyone_milvus.collection import filters
from fiftyone_milvus.collection.prefetch import prefetched
from fiftyone_milvus.collection.queries import Queries
from fiftyone_milvus.errors import EngineError

PAGE_ROWS = 32_768
"""About the rows of a page without vectors: some 15 MB as Python objects."""

_WINDOW = 16_384
_FIRST_LIMIT = 1_024
_GUARDED_ROWS = 400_000
_SESSION_TS = "iterator_session_ts"


class IdPage(NamedTuple):
    """Rows without their vectors.

    Attributes:
        ids: primary keys
        sample_ids: the sample of each; the primary keys if the sample IDs were not read
    """

    ids: list[str]
    sample_ids: list[str]


class Streams(Queries):
    """Reads all rows, or all for which an expression is true."""

    def id_pages(self, *, strong: bool = False, with_samples: bool = True) -> Iterator[IdPage]:
        """Yields the primary keys and sample IDs of all rows, each row once, reading ahead.

        Rows that are written or deleted meanwhile may or may not be included.

        Args:
            strong (False): whether to wait for other processes' writes too; 0.2 s on an idle server
            with_samples (True): whether to read the sample IDs, which takes twice the time;
                without, the primary keys take their place, which are the same unless rows are
                patches

        Yields:
            :class:`IdPage` of about :data:`PAGE_ROWS` rows or fewer; one page of all rows while a
            server still loads the new collection

        Raises:
            EngineError: if Milvus does not return rows in the order of their keys
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        if (recent := self._recent_rows()) is not None:
            return iter([IdPage(list(recent.ids), list(recent.sample_ids))])
        return prefetched(self._id_pages(strong, with_samples))

    def _id_pages(self, strong: bool, with_samples: bool) -> Iterator[IdPage]:
        layout = self.layout
        sample_field = layout.sample_field if with_samples else None
        fields = layout.id_fields if sample_field else [layout.id_field]
        for rows in self._row_pages(fields, "", strong=strong):
            ids = [row[layout.id_field] for row in rows]
            yield IdPage(ids, [row[sample_field] for row in rows] if sample_field else ids)

    def all_ids(self, *, with_samples: bool = True) -> tuple[list[str], list[str]]:
        """Returns the primary key and the sample ID of every row, in key order.

        Args:
            with_samples (True): see :meth:`id_pages`

        Returns:
            two lists of the same length

        Raises:
            EngineError: if Milvus returns fewer rows than it counts, as servers 2.6.0-2.6.21 do
                (https://github.com/milvus-io/milvus/issues/52055)
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        size = None if self.connection.engine.lite else self.count()
        table: dict[str, str] = {}
        for page in self.id_pages(with_samples=with_samples):
            table.update(zip(page.ids, page.sample_ids))
        if size is not None and size > _GUARDED_ROWS and len(table) < min(size, self.count()):
            raise EngineError(
                f"The {self.where} counts {size} rows but returns {len(table)} of them, a bug "
                "of Milvus 2.6.0-2.6.21; upgrade the server"
            )
        ids = sorted(table)
        return ids, [table[i] for i in ids]

    def known_ids(self, *, with_samples: bool = True) -> tuple[list[str], list[str]]:
        """Returns what :meth:`all_ids` does, without the rows that are :meth:`skipped`."""
        ids, sample_ids = self.all_ids(with_samples=with_samples)
        if strange := self.skipped(ids, sample_ids if with_samples else None):
            kept = [at for at in range(len(ids)) if at not in strange]
            ids, sample_ids = [ids[at] for at in kept], [sample_ids[at] for at in kept]
        return ids, sample_ids

    def _row_pages(
        self, fields: list[str], expression: str, *, strong: bool
    ) -> Iterator[list[dict[str, Any]]]:
        """Yields the rows for which an expression, in parentheses, is true; all for ``""``."""
        key = self.layout.id_field
        every = filters.everything(key)
        if self.count(expression) <= PAGE_ROWS:
            # Without a filter, a server returns no more rows than fit its query window
            rows = self._query(expression or every, fields, strong=strong)
            if rows:
                yield rows
            return
        if strong:
            # The pages below are read at the collection's own consistency level
            self.count(strong=True)
        lite = self.connection.engine.lite
        limit, most = (PAGE_ROWS, PAGE_ROWS) if lite else (_FIRST_LIMIT, _WINDOW)
        beyond, last = every, ""
        snapshot: dict[str, int] = {}
        while True:
            answer = self._page(
                f"{beyond} and {expression}" if expression else beyond, fields, limit, snapshot
            )
            # To walk over pymilvus' answer takes ten times as long as over a list
            found = list(answer)
            if not found:
                return
            keys = [row[key] for row in found]
            if keys != sorted(keys) or keys[0] <= last:
                raise EngineError(
                    f"The {self.where} does not return rows in the order of their keys, so not "
                    "all can be read; upgrade Milvus"
                )
            last = keys[-1]
            beyond = f"{key} > {json.dumps(last, ensure_ascii=False)}"
            if not snapshot and (moment := _extra(answer).get(_SESSION_TS)):
                snapshot["guarantee_timestamp"] = moment
            # A server returns up to ``limit`` rows of each of its segments
            limit = max(1, min(most, limit * PAGE_ROWS // len(found), 4 * limit))
            del answer
            yield found

    def _page(
        self, expression: str, fields: list[str], limit: int, snapshot: dict[str, int]
    ) -> Any:
        request = self._request(
            "query",
            filter=expression,
            output_fields=fields,
            limit=limit,
            # In key order, and only up to the first key that a segment's part may not hold
            iterator="True",
            reduce_stop_for_best="True",
            **snapshot,
        )
        return self._call(request)


def _extra(answer: Any) -> dict[str, Any]:
    # Only for pages of one moment: without it, rows written meanwhile may or may not be included
    return getattr(answer, "extra", None) or {}
