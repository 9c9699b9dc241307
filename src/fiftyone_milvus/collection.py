"""One Milvus collection: its layout, its life, and what it is asked.

The layout is that of FiftyOne's built-in backend, so collections are interchangeable: ``pk`` (the
sample ID, or the label ID of a patch), ``vector``, and ``sample_id``. Collections of others serve
too if they have a VARCHAR primary key and a float vector.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
from pymilvus import DataType, MilvusClient

from fiftyone_milvus import filters, freshness
from fiftyone_milvus.connection import Connection
from fiftyone_milvus.errors import (
    CollectionMismatchError,
    CollectionNotFoundError,
    EngineError,
)
from fiftyone_milvus.fresh import MAX_BYTES, Hits, Rows
from fiftyone_milvus.layout import (
    OWNER,
    PK,
    SAMPLE_ID,
    VECTOR,
    Layout,
    find_vector_field,
    read_layout,
)
from fiftyone_milvus.scores import Array

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_ID_BYTES = 512
PAGE = 16_384
"""Rows per page of a read without vectors: Milvus' query window."""

_ONE_READ = 400_000
_LOAD_SECONDS = 60.0
_LOAD_POLL = 0.02


class MilvusCollection:
    """A collection that may or may not exist yet.

    Args:
        connection: where it is
        name: its name
        consistency_level: ``"Strong"``, ``"Session"``, ``"Bounded"`` or ``"Eventually"``
        timeout: seconds that one call may take, or None for no limit
        id_field: the primary key, or None to find it
        vector_field: the vector field, or None to find it
    """

    def __init__(
        self,
        connection: Connection,
        name: str,
        *,
        consistency_level: str = "Session",
        timeout: float | None = None,
        id_field: str | None = None,
        vector_field: str | None = None,
    ) -> None:
        self.connection = connection
        self.name = name
        self.consistency_level = consistency_level
        self.timeout = timeout
        self._id_field = id_field
        self._vector_field = vector_field
        self._layout: Layout | None = None
        self._seen = False
        self._loading = False
        self._fresh: Rows | None = None

    @property
    def where(self) -> str:
        """The collection and its address, for messages."""
        return f"Milvus collection '{self.name}' at {self.connection.target.address}"

    # -- life ----------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether the collection exists."""
        return bool(
            self.connection.run(lambda c: c.has_collection(self.name, timeout=self.timeout))
        )

    def present(self) -> bool:
        """Whether the collection exists, where it may not have been created yet.

        Raises:
            CollectionNotFoundError: if it did exist, and was dropped by somebody else since
        """
        exists = self.exists()
        if self._seen and not exists:
            raise self._not_found()
        return exists

    @property
    def layout(self) -> Layout:
        """The collection's layout; opens (describes and loads) it on first use.

        Raises:
            CollectionNotFoundError: if it does not exist
            CollectionMismatchError: if it can't hold an index
        """
        if self._layout is None:
            if not self.exists():
                raise self._not_found()
            layout = self._describe()
            if layout.index_type is not None:
                self._load()
            self._layout = layout
            self._seen = True
        return self._layout

    def create(
        self,
        dimension: int,
        metric_type: str,
        index_type: str,
        index_params: dict[str, Any],
        owner: dict[str, Any],
    ) -> None:
        """Creates the collection with its index and loads it.

        On failure nothing stays behind.

        Args:
            dimension: of the vectors
            metric_type: ``COSINE``, ``IP`` or ``L2``
            index_type: the vector index
            index_params: its build parameters
            owner: what to record about the owner
        """
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(PK, DataType.VARCHAR, is_primary=True, max_length=MAX_ID_BYTES)
        schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=dimension)
        schema.add_field(SAMPLE_ID, DataType.VARCHAR, max_length=MAX_ID_BYTES)
        index = self._index(VECTOR, metric_type, index_type, index_params)

        def create(client: MilvusClient) -> None:
            client.create_collection(
                self.name,
                schema=schema,
                consistency_level=self.consistency_level,
                properties={OWNER: json.dumps(owner)},
                timeout=self.timeout,
            )
            # pymilvus would poll every 0.5 s; there is nothing to index yet
            client.create_index(self.name, index, timeout=self.timeout, sync=False)
            client.load_collection(self.name, timeout=self.timeout, _async=True)

        try:
            self.connection.run(create, idempotent=False)
        except BaseException:
            self.drop()
            raise
        freshness.forget(self._key)
        self._seen = self._loading = True
        self._layout = Layout(
            PK, VECTOR, SAMPLE_ID, dimension, metric_type, index_type, required=(), owner=owner
        )

    def keep_fresh(self, rows: Rows) -> None:
        """Remembers the rows that a new collection consists of, for as long as it loads."""
        if self._loading and rows.vectors.nbytes <= MAX_BYTES:
            self._fresh = rows

    def wait_until_loaded(self) -> None:
        """Waits for a new collection to be ready for reads.

        Raises:
            EngineError: if it is not within a minute
        """
        deadline = time.monotonic() + (self.timeout or _LOAD_SECONDS)
        while not self._loaded():
            if time.monotonic() > deadline:
                raise EngineError(
                    f"The {self.where} is not loaded after {self.timeout or _LOAD_SECONDS:.0f} s; "
                    "see the server's log, and whether it has memory left"
                )
            time.sleep(_LOAD_POLL)

    def _loaded(self) -> bool:
        if self._loading:
            state = self.connection.run(lambda c: c.get_load_state(self.name)).get("state")
            self._loading = getattr(state, "name", str(state)) != "Loaded"
        if not self._loading:
            self._fresh = None
        return not self._loading

    def _fresh_rows(self) -> Rows | None:
        """Returns all rows of a new collection that is still loading, else None."""
        if self._fresh is not None:
            self._loaded()
        return self._fresh

    def ensure_index(self, metric_type: str, index_type: str, params: dict[str, Any]) -> None:
        """Gives the vectors of a collection that has none an index, and loads it."""
        layout = self.layout
        if layout.index_type is None:
            logger.info("Creating a %s index on the %s", index_type, self.where)
            index = self._index(layout.vector_field, metric_type, index_type, params)
            self._call(lambda c: c.create_index(self.name, index, timeout=self.timeout))
            self._load()
            self._layout = None

    def drop(self) -> bool:
        """Drops the collection if it exists; returns whether it did."""
        self._layout = self._fresh = None
        self._seen = self._loading = False
        freshness.forget(self._key)
        if not self.exists():
            return False
        self.connection.run(lambda c: c.drop_collection(self.name, timeout=self.timeout))
        return True

    def set_owner(self, owner: dict[str, Any]) -> None:
        """Records the owner in the collection's properties."""
        self._call(
            lambda c: c.alter_collection_properties(
                self.name, properties={OWNER: json.dumps(owner)}, timeout=self.timeout
            )
        )
        self._layout = None

    def flush(self) -> None:
        """Seals what was written, so that its index is built."""
        self._call(lambda c: c.flush(self.name, timeout=self.timeout), reads=False)

    # -- reads ---------------------------------------------------------------------------------

    def count(self, *, strong: bool = False) -> int:
        """Returns the exact number of rows that this process can see.

        Args:
            strong: whether to wait for other processes' writes too; 0.2 s on an idle server
        """
        if (fresh := self._fresh_rows()) is not None:
            return len(fresh.ids)
        level = "Strong" if strong else self._level()
        rows = self._call(
            lambda c: c.query(
                self.name,
                filter="",
                output_fields=["count(*)"],
                consistency_level=level,
                timeout=self.timeout,
            )
        )
        freshness.read(self._key, level)
        return int(rows[0]["count(*)"])

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
        size = max(1, min(filters.MAX_EXPRESSION_IDS, self._fetch_bytes // (4 * layout.dimension)))
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

    # -- writes --------------------------------------------------------------------------------

    def write(self, rows: list[dict[str, Any]], *, replace: bool) -> None:
        """Writes rows, replacing those of the same key if ``replace``.

        Without ``replace`` the keys must be new: a Milvus server keeps both rows otherwise.
        """
        self._fresh = None
        if replace:
            self._call(lambda c: c.upsert(self.name, rows, timeout=self.timeout), reads=False)
            freshness.deleted(self._key)
        else:
            # A repeated insert after a lost answer would leave every row twice on a server
            self._call(
                lambda c: c.insert(self.name, rows, timeout=self.timeout),
                idempotent=self.connection.engine.lite,
                reads=False,
            )

    def delete(self, ids: Sequence[str]) -> None:
        """Deletes rows by primary key; unknown keys are fine."""
        self._fresh = None
        for part in filters.batches(list(ids)):
            expression = filters.ids_in(self.layout.id_field, part)
            self._call(partial(self._delete, expression), reads=False)
        freshness.deleted(self._key)

    # -- inside --------------------------------------------------------------------------------

    @property
    def _key(self) -> tuple[str, str | None, str]:
        target = self.connection.target
        return target.address, target.settings.db_name, self.name

    @property
    def _fetch_bytes(self) -> int:
        return min(8 << 20, self.connection.engine.max_message_bytes // 4)

    def _index(self, field: str, metric_type: str, index_type: str, params: dict[str, Any]) -> Any:
        index = MilvusClient.prepare_index_params()
        index.add_index(
            field,
            index_type=index_type,
            index_name=field,
            metric_type=metric_type,
            params=params,
        )
        return index

    def _load(self) -> None:
        self.connection.run(lambda c: c.load_collection(self.name, timeout=self.timeout))

    def _delete(self, expression: str, client: MilvusClient) -> None:
        client.delete(self.name, filter=expression, timeout=self.timeout)

    def _call(
        self, operation: Callable[[MilvusClient], T], *, idempotent: bool = True, reads: bool = True
    ) -> T:
        """Runs an operation on the open collection; says so if it was dropped meanwhile."""
        _ = self.layout
        if self._loading and reads:
            self.wait_until_loaded()
        try:
            return self.connection.run(operation, timeout=self.timeout, idempotent=idempotent)
        except (EngineError, CollectionNotFoundError):
            if not self.exists():
                self._layout = None
                raise self._not_found() from None
            # A restarted embedded service has its collections released, and so has a user
            state = self.connection.run(lambda c: c.get_load_state(self.name)).get("state")
            if getattr(state, "name", str(state)) == "Loaded":
                raise
            self._load()
        return self.connection.run(operation, timeout=self.timeout, idempotent=idempotent)

    def _not_found(self) -> CollectionNotFoundError:
        if self._seen:
            return CollectionNotFoundError(
                f"The {self.where} was dropped by somebody else; call cleanup() and add its "
                "embeddings again (add_to_index), or delete the brain run"
            )
        return CollectionNotFoundError(
            f"There is no {self.where}: nothing was added yet, or it was dropped, or it is in "
            "another Milvus; add embeddings (add_to_index), or load the run with its own uri="
        )

    def _level(self) -> str:
        if self.connection.engine.lite:
            return self.consistency_level
        return freshness.read_level(self._key, self.consistency_level)

    def _describe(self) -> Layout:
        info = self.connection.run(lambda c: c.describe_collection(self.name, timeout=self.timeout))
        vector_field = find_vector_field(info, where=self.where, named=self._vector_field)

        def describe_index(client: MilvusClient) -> dict[str, Any]:
            for name in client.list_indexes(self.name, field_name=vector_field):
                index = client.describe_index(self.name, name, timeout=self.timeout)
                if index and index.get("field_name", vector_field) == vector_field:
                    return dict(index)
            return {}

        return read_layout(
            info,
            self.connection.run(describe_index),
            where=self.where,
            id_field=self._id_field,
            vector_field=vector_field,
        )

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

    def _iterate(self, fields: list[str]) -> list[Any]:
        level = self._level()

        def iterate(client: MilvusClient) -> list[Any]:
            iterator = client.query_iterator(
                self.name,
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
