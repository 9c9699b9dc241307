"""Opens, loads, describes and drops a collection."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from pymilvus import MilvusClient

from fiftyone_milvus.collection import consistency
from fiftyone_milvus.collection.recent import MAX_BYTES, Rows
from fiftyone_milvus.connection import RETRY_SECONDS, Connection, Request, Retry
from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.errors import (
    CollectionDamagedError,
    CollectionMismatchError,
    CollectionNotFoundError,
    EngineError,
    FiftyOneMilvusError,
    NotLoadedError,
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
_INDEX_SECONDS = 0.5
_INDEX_POLL = 0.05
_LOADS = 5
"""How often one call loads a collection that others release meanwhile."""


class CollectionBase:
    """What the parts of :class:`fiftyone_milvus.collection.MilvusCollection` share."""

    _maker: str | None = None
    """What :data:`MAKER <fiftyone_milvus.schema.layout.MAKER>` records if this has created it."""

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
        check: Callable[[Layout], None] | None = None,
        index: Callable[[int], tuple[str, str, dict[str, Any]]] | None = None,
    ) -> None:
        self.connection = connection
        self.name = name
        self.consistency_level = consistency_level
        self.timeout = timeout
        self.replicas = replicas
        self._id_field = id_field
        self._vector_field = vector_field
        self._check = check
        self._own_index = index
        self._layout: Layout | None = None
        self._seen = False
        self._loading = False
        self._recent: Rows | None = None
        self._rows: int | None = None
        self._partitions: list[str] | None = None
        self._warned = False
        self._loading_again = threading.Lock()

    @property
    def where(self) -> str:
        """The collection and its address, for messages."""
        return f"Milvus collection '{self.name}' at {self.connection.target.address}"

    # -- what it is ----------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether the collection exists, be it damaged.

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        try:
            return bool(self.connection.run(self._request("has_collection")))
        except CollectionDamagedError:
            return True

    def present(self) -> bool:
        """Whether the collection exists, where it may not have been created yet.

        Raises:
            CollectionNotFoundError: if it existed before, and another program dropped it
        """
        exists = self.exists()
        if self._seen and not exists:
            raise self._not_found()
        return exists

    def opened(self) -> bool:
        """Whether :attr:`layout` is known already, so that Milvus need not be asked."""
        return self._layout is not None

    @property
    def layout(self) -> Layout:
        """The collection's layout; the first use describes, checks and loads the collection.

        Raises:
            CollectionNotFoundError: if it does not exist
            CollectionMismatchError: if it can't hold an index, or not that of ``check``
        """
        if self._layout is None:
            layout = self.describe()
            self._seen = True
            self._verify(layout)
            if layout.index_type is None and layout.owner and self._own_index is not None:
                layout = self._indexed()
            if layout.index_type is None:
                return layout  # another process may be about to create the index
            self._load()
            self._layout = layout
        return self._layout

    def reopen(self) -> None:
        """Looks again what the collection is, if it exists.

        Raises:
            CollectionNotFoundError: if another program dropped or renamed it
            CollectionMismatchError: if it was made again, and can't hold the index any more
        """
        if self._loading and not self._loaded():
            return  # made by this process, seconds ago
        self._layout = None
        if self.present():
            layout = self.layout
            if layout.index_type is None and self._own_index is not None:
                self.ensure_index(*self._own_index(layout.dimension))
            _ = self.layout

    def _verify(self, layout: Layout) -> None:
        if self._check is not None:
            self._check(layout)

    def _indexed(self) -> Layout:
        """Builds the vector index of our own collection again, if no other process does."""
        deadline = time.monotonic() + _INDEX_SECONDS
        while (layout := self._describe()).index_type is None:
            if time.monotonic() > deadline:
                assert self._own_index is not None
                metric_type, index_type, params = self._own_index(layout.dimension)
                logger.warning(
                    "The %s has no vector index: another program dropped it; building it again "
                    "(%s)",
                    self.where,
                    index_type,
                )
                index = self._index(layout.vector_field, metric_type, index_type, params)
                with suppress(EngineError):  # another process may just have created it
                    self.connection.run(self._request("create_index", index))
                layout = self._describe()
                break
            time.sleep(_INDEX_POLL)
        self._verify(layout)
        return layout

    def describe(self) -> Layout:
        """Returns the collection's current layout, without loading it.

        Raises:
            CollectionNotFoundError: if it does not exist
            CollectionMismatchError: if it can't hold an index
        """
        if not self.exists():
            raise self._not_found()
        return self._describe()

    def names(self) -> tuple[str, ...]:
        """Returns the name of the collection, and its aliases.

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        try:
            info = self.connection.run(self._request("describe_collection"))
        except CollectionDamagedError:
            info = {}
        name = str(info.get("collection_name") or self.name)
        aliases = info.get("aliases") or ()
        if self.connection.engine.lite:
            aliases = self.connection.run(Request("list_aliases", name, timeout=self.timeout))[
                "aliases"
            ]
        return name, *sorted(aliases)

    def is_alias(self) -> bool:
        """Whether :attr:`name` is an alias of an existing collection.

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        name, *aliases = self.names()
        return name != self.name or self.name in aliases

    def estimated_rows(self) -> int:
        """Returns about how many rows there are, without loading the collection.

        If it is not loaded, this is from Milvus' statistics: sealed rows, deleted ones included.
        The embedded engine does not open the collection for it.

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        # The embedded engine's statistics are exact where the collection is open
        if not self.connection.engine.lite and self._load_state() == "Loaded":
            count = {"filter": "", "output_fields": ["count(*)"], "consistency_level": "Bounded"}
            with suppress(NotLoadedError):
                return int(self.connection.run(self._request("query", **count))[0]["count(*)"])
        return int(self.connection.run(self._request("get_collection_stats"))["row_count"])

    def built(self) -> Built:
        """Returns how much of the vector index is built.

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        return Built.of(self._call(self._describe_index(self.layout.vector_field), reads=False))

    # -- what changes --------------------------------------------------------------------------

    def ensure_index(self, metric_type: str, index_type: str, params: dict[str, Any]) -> None:
        """Creates a vector index if there is none, and loads the collection.

        Args:
            metric_type: ``COSINE``, ``IP`` or ``L2``
            index_type: the index type, for example ``HNSW``
            params: its build parameters

        Raises:
            CollectionNotFoundError: if the collection does not exist
            CollectionMismatchError: if it can't hold an index
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        layout = self.layout
        if layout.index_type is None:
            logger.info("Creating a %s index on the %s", index_type, self.where)
            index = self._index(layout.vector_field, metric_type, index_type, params)
            self._call(self._request("create_index", index), reads=False)
            self._load()
            self._layout = None

    def flush(self, *, retry: float | Retry = RETRY_SECONDS) -> None:
        """Seals the rows that were written, so that their index is built.

        Args:
            retry (RETRY_SECONDS): for how many seconds to retry after transient errors, or a
                :class:`Retry <fiftyone_milvus.connection.Retry>`

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        self._call(self._request("flush"), reads=False, retry=retry)
        self._session.sealed()

    def drop(self) -> bool:
        """Drops the collection if it exists.

        Returns:
            whether it existed

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        self.forget()
        if not self.exists():
            return False
        self.connection.run(self._request("drop_collection"))
        return True

    def forget(self) -> None:
        """Forgets everything about the collection, which stays."""
        self._layout = self._recent = self._partitions = None
        self._seen = self._loading = False
        consistency.forget(self._key)

    def set_owner(self, owner: dict[str, Any]) -> None:
        """Records the owner in the collection's properties.

        Args:
            owner: values that JSON can hold, by name

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        self._record(OWNER, owner)
        self._layout = None

    def record_embedded(self, embedded: Mapping[str, Any]) -> None:
        """Records in the collection's properties when the vectors were computed.

        Args:
            embedded: values that JSON can hold, by name

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        self._record(EMBEDDED, embedded)
        self._layout = replace(self.layout, embedded=embedded)

    def record_fields(self, fields: Record) -> None:
        """Records the state of the metadata fields in the collection's properties.

        Args:
            fields: the state

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        self._record(FIELDS, fields.to_dict())
        self._layout = replace(self.layout, fields=fields)

    def fields(self) -> Record | None:
        """Reads what is recorded now about the metadata fields; None if there are none.

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        info = self._call(self._request("describe_collection"), reads=False)
        fields = Record.from_dict(parse_record(info, FIELDS))
        self._layout = replace(self.layout, fields=fields)
        return fields

    def _record(self, name: str, value: Mapping[str, Any]) -> None:
        self._set_property(name, json.dumps(value))

    def _set_property(self, name: str, value: str) -> None:
        request = self._request("alter_collection_properties", properties={name: value})
        self._call(request, reads=False)

    # -- loading -------------------------------------------------------------------------------

    def wait_until_loaded(self) -> None:
        """Waits until a new collection can be read.

        Raises:
            EngineError: if it takes more than the collection's timeout, by default 60 seconds
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        seconds = self.timeout or _LOAD_SECONDS
        deadline = time.monotonic() + seconds
        while not self._loaded():
            if time.monotonic() > deadline:
                raise EngineError(
                    f"The {self.where} is not loaded after {seconds:.0f} s; see the server's log, "
                    "and whether it has memory left"
                )
            time.sleep(_LOAD_POLL)

    def keep_recent(self, rows: Rows) -> None:
        """Keeps all rows of a new collection, to answer from while the server loads it.

        Does nothing if the collection is loaded, or if the vectors take more than
        :data:`MAX_BYTES <fiftyone_milvus.collection.recent.MAX_BYTES>`.

        Args:
            rows: all rows of the collection
        """
        if self._loading and rows.vectors.nbytes <= MAX_BYTES:
            self._recent = rows

    @property
    def held(self) -> bool:
        """Whether all rows of a new collection are held here, and searched without a server."""
        return self._recent_rows() is not None

    def _recent_rows(self) -> Rows | None:
        """Returns all rows of a new collection that is still loading, else None."""
        if self._recent is not None:
            self._loaded()
        return self._recent

    def _loaded(self) -> bool:
        if self._loading:
            state = self._load_state()
            if state == "NotExist":
                self._loading = False
                self._layout = self._recent = None
                raise self._not_found()
            if state == "NotLoad":
                # A service that was restarted meanwhile has released its collections
                self._load()
                state = "Loaded"
            self._loading = state != "Loaded"
        if not self._loading:
            self._recent = None
        return not self._loading

    def _load_state(self) -> str:
        state = self.connection.run(self._request("get_load_state")).get("state")
        return getattr(state, "name", str(state))

    def _load(self, **options: Any) -> None:
        if self.replicas is not None and not self.connection.engine.lite:
            options["replica_number"] = self.replicas
        try:
            self.connection.run(self._request("load_collection", **options))
        except EngineError as error:
            # Milvus 2.3 refuses to load what is loaded with another number of replicas
            state = self._load_state()
            if state not in ("Loaded", "Loading"):
                raise
            self._loading = state == "Loading"
            logger.info("The %s stays loaded as it is: %s", self.where, error)

    # -- rows of other programs ----------------------------------------------------------------

    def skipped(self, ids: Sequence[str], sample_ids: Sequence[str] | None = None) -> set[int]:
        """Returns which rows are of another program: their keys are no IDs of FiftyOne.

        Warns the first time that there are any.

        Args:
            ids: primary keys
            sample_ids (None): the sample of each, if they were read

        Returns:
            their positions in ``ids``
        """
        strange = set(object_ids.strangers(ids).tolist())
        if sample_ids is not None and sample_ids is not ids:
            strange.update(object_ids.strangers(sample_ids).tolist())
        if strange and not self._warned:
            self._warned = True
            logger.warning(
                "The %s also has rows whose keys are no IDs of FiftyOne, such as '%s' (%d of the "
                "%d that were just read); all calls skip them, and sync() counts them; move them "
                "to a collection of their own, and searches need not look past them",
                self.where,
                ids[min(strange)],
                len(strange),
                len(ids),
            )
        return strange

    # -- calls ---------------------------------------------------------------------------------

    @property
    def _key(self) -> consistency.Key:
        target = self.connection.target
        return target.address, target.settings.db_name, self.name

    @property
    def _session(self) -> consistency.Session:
        return consistency.session(self._key)

    def _request(self, method: str, *args: Any, **options: Any) -> Callable[[MilvusClient], Any]:
        """Returns the call of a method of the client for this collection, within its timeout."""
        return Request(method, self.name, *args, timeout=self.timeout, **options)

    def _call(
        self,
        operation: Callable[[MilvusClient], T],
        *,
        reads: bool = True,
        retry: float | Retry = RETRY_SECONDS,
    ) -> T:
        """Runs an operation on the open collection.

        Raises:
            CollectionNotFoundError: if another program dropped it
        """
        known = self.layout
        if reads and known.index_type is None:
            raise CollectionMismatchError(
                f"The {self.where} has no vector index: another program dropped it, or is about to "
                "build another; call reload() to build one, or create one with pymilvus"
            )
        if self._loading and reads:
            self.wait_until_loaded()
        for _ in range(_LOADS):
            try:
                return self.connection.run(operation, timeout=self.timeout, retry=retry)
            except (EngineError, CollectionNotFoundError) as error:  # noqa: PERF203
                if not self.exists():
                    self._layout = None
                    raise self._not_found() from None
                if not self._recovered(known) and not isinstance(error, NotLoadedError):
                    raise
        return self.connection.run(operation, timeout=self.timeout, retry=retry)

    def _recovered(self, known: Layout) -> bool:
        """Loads the collection, or builds its index, if a request failed for lack of that.

        Returns:
            whether to try the request again

        Raises:
            CollectionMismatchError: if the collection was made again with other vectors
        """
        try:
            now = self._describe()
        except CollectionMismatchError:
            self._layout = None
            raise
        except FiftyOneMilvusError:
            return False
        if known.index_type is None:
            return False
        if now.index_type is None:
            self._layout = None
            return self.layout.index_type is not None
        self._require_same(known, now)
        # It was released: by a restart of the embedded service, or by a user. Another call may
        # have loaded it since
        return self._load_again()

    def _require_same(self, known: Layout, now: Layout) -> None:
        names = ("id_field", "vector_field", "sample_field", "dimension", "metric_type")
        differ = [n for n in names if getattr(known, n) != getattr(now, n)]
        if not differ:
            return
        self._layout = None
        self._verify(now)
        what = ", ".join(
            f"{n} {getattr(now, n)!r} instead of {getattr(known, n)!r}" for n in differ
        )
        raise CollectionMismatchError(
            f"The {self.where} was made again by another program, with {what}; call reload()"
        )

    def _load_again(self) -> bool:
        """Loads the collection if it is not loaded, and returns whether it was not."""
        with self._loading_again:  # one call loads, and the others find it loaded
            if (state := self._load_state()) == "Loaded":
                return False
            if state == "NotLoad":
                self._load()
            self._loading = True
            self.wait_until_loaded()
            return True

    def _not_found(self) -> CollectionNotFoundError:
        if self._seen:
            return CollectionNotFoundError(
                f"The {self.where} was dropped or renamed by somebody else; call cleanup() and add "
                "its embeddings again (add_to_index), or delete the brain run"
            )
        return CollectionNotFoundError(
            f"There is no {self.where}: nothing was added yet, or it was dropped, or it is in "
            "another Milvus; add embeddings (add_to_index), or load the run with its own uri="
        )

    def _describe(self) -> Layout:
        info = self.connection.run(self._request("describe_collection"))
        vector_field = find_vector_field(info, where=self.where, named=self._vector_field)
        return read_layout(
            info,
            self.connection.run(self._describe_index(vector_field)),
            where=self.where,
            id_field=self._id_field,
            vector_field=vector_field,
        )

    def _describe_index(self, field: str) -> Callable[[MilvusClient], dict[str, Any]]:
        def describe(client: MilvusClient) -> dict[str, Any]:
            for name in self._request("list_indexes", field_name=field)(client):
                index = self._request("describe_index", name)(client)
                if index and index.get("field_name", field) == field:
                    return dict(index)
            return {}

        return describe

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
