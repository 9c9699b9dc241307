"""The life of a collection: made, opened, loaded, dropped."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pymilvus import MilvusClient

from fiftyone_milvus.collection import consistency
from fiftyone_milvus.collection.recent import MAX_BYTES, Rows
from fiftyone_milvus.connection import RETRY_SECONDS, Connection, Retry
from fiftyone_milvus.errors import (
    CollectionNotFoundError,
    EngineError,
)
from fiftyone_milvus.schema.layout import (
    EMBEDDED,
    FIELDS,
    OWNER,
    Built,
    Layout,
    find_vector_field,
    parse_record,
    read_layout,
)
from fiftyone_milvus.schema.record import Record

logger = logging.getLogger(__name__)

T = TypeVar("T")

_LOAD_SECONDS = 60.0
_LOAD_POLL = 0.02


class CollectionBase:
    """What the parts of :class:`fiftyone_milvus.collection.MilvusCollection` share."""

    def __init__(
        self,
        connection: Connection,
        name: str,
        *,
        consistency_level: str = "Session",
        timeout: float | None = None,
        id_field: str | None = None,
        vector_field: str | None = None,
        replicas: int | None = None,
    ) -> None:
        self.connection = connection
        self.name = name
        self.consistency_level = consistency_level
        self.timeout = timeout
        self.replicas = replicas
        self._id_field = id_field
        self._vector_field = vector_field
        self._layout: Layout | None = None
        self._seen = False
        self._loading = False
        self._fresh: Rows | None = None
        self._rows: int | None = None
        self._partitions: list[str] | None = None

    @property
    def where(self) -> str:
        """The collection and its address, for messages."""
        return f"Milvus collection '{self.name}' at {self.connection.target.address}"

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
            self._seen = True
            if layout.index_type is None:
                return layout  # whoever makes it may not be done, so ask again
            self._load()
            self._layout = layout
        return self._layout

    def opened(self) -> bool:
        """Whether the layout is known already, without asking Milvus."""
        return self._layout is not None

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
            state = self._load_state()
            if state == "NotLoad":
                # A service that was restarted meanwhile has its collections released
                self._load()
                state = "Loaded"
            self._loading = state != "Loaded"
        if not self._loading:
            self._fresh = None
        return not self._loading

    def _fresh_rows(self) -> Rows | None:
        """Returns all rows of a new collection that is still loading, else None."""
        if self._fresh is not None:
            self._loaded()
        return self._fresh

    def describe(self) -> Layout:
        """Returns the collection's layout as it is now; loads nothing.

        Raises:
            CollectionNotFoundError: if it does not exist
            CollectionMismatchError: if it can't hold an index
        """
        if not self.exists():
            raise self._not_found()
        return self._describe()

    def estimated_rows(self) -> int:
        """Returns about how many rows there are; loads nothing.

        Of a collection that is not loaded, as in Milvus' statistics: the sealed ones, deleted ones
        included.
        """
        if self._load_state() == "Loaded":
            answer = self.connection.run(
                lambda c: c.query(
                    self.name,
                    filter="",
                    output_fields=["count(*)"],
                    consistency_level="Bounded",
                    timeout=self.timeout,
                )
            )
            return int(answer[0]["count(*)"])
        stats = self.connection.run(
            lambda c: c.get_collection_stats(self.name, timeout=self.timeout)
        )
        return int(stats["row_count"])

    def built(self) -> Built:
        """Returns how much of the vector index is built."""
        name = self.layout.vector_field

        def describe(client: MilvusClient) -> dict[str, Any]:
            found = client.list_indexes(self.name, field_name=name)
            return dict(client.describe_index(self.name, found[0]) or {}) if found else {}

        return Built.of(self._call(describe, reads=False))

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
        self._layout = self._fresh = self._partitions = None
        self._seen = self._loading = False
        consistency.forget(self._key)
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

    def record_embedded(self, embedded: Mapping[str, Any]) -> None:
        """Records as of when the vectors were computed."""
        text = json.dumps(embedded)
        self._call(
            lambda c: c.alter_collection_properties(
                self.name, properties={EMBEDDED: text}, timeout=self.timeout
            ),
            reads=False,
        )
        self._layout = replace(self.layout, embedded=embedded)

    def fields(self) -> Record | None:
        """Reads what is recorded now about the FiftyOne fields beside the vectors."""
        info = self._call(
            lambda c: c.describe_collection(self.name, timeout=self.timeout), reads=False
        )
        fields = Record.from_dict(parse_record(info, FIELDS))
        self._layout = replace(self.layout, fields=fields)
        return fields

    def record_fields(self, fields: Record) -> None:
        """Records something about the FiftyOne fields beside the vectors."""
        text = json.dumps(fields.to_dict())
        self._call(
            lambda c: c.alter_collection_properties(
                self.name, properties={FIELDS: text}, timeout=self.timeout
            ),
            reads=False,
        )
        self._layout = replace(self.layout, fields=fields)

    def flush(self, *, retry: float | Retry = RETRY_SECONDS) -> None:
        """Seals what was written, so that its index is built."""
        self._call(lambda c: c.flush(self.name, timeout=self.timeout), reads=False, retry=retry)

    @property
    def _key(self) -> tuple[str, str | None, str]:
        target = self.connection.target
        return target.address, target.settings.db_name, self.name

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

    def _load_state(self) -> str:
        state = self.connection.run(lambda c: c.get_load_state(self.name)).get("state")
        return getattr(state, "name", str(state))

    def _load(self, **options: Any) -> None:
        if self.replicas is not None and not self.connection.engine.lite:
            options["replica_number"] = self.replicas
        try:
            self.connection.run(
                lambda c: c.load_collection(self.name, timeout=self.timeout, **options)
            )
        except EngineError as error:
            # Milvus 2.3 refuses to load what is loaded with another number of replicas
            state = self._load_state()
            if state not in ("Loaded", "Loading"):
                raise
            self._loading = state == "Loading"
            logger.info("The %s stays loaded as it is: %s", self.where, error)

    def _call(
        self,
        operation: Callable[[MilvusClient], T],
        *,
        reads: bool = True,
        retry: float | Retry = RETRY_SECONDS,
    ) -> T:
        """Runs an operation on the open collection; says so if it was dropped meanwhile."""
        _ = self.layout
        if self._loading and reads:
            self.wait_until_loaded()
        try:
            return self.connection.run(operation, timeout=self.timeout, retry=retry)
        except (EngineError, CollectionNotFoundError):
            if not self.exists():
                self._layout = None
                raise self._not_found() from None
            # A restarted embedded service has its collections released, and so has a user
            if self._load_state() == "Loaded":
                raise
            self._load()
        return self.connection.run(operation, timeout=self.timeout, retry=retry)

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
        return consistency.read_level(self._key, self.consistency_level)

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
