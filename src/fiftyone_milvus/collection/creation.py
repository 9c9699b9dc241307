"""Creates a collection, also where several processes do so at the same time."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pymilvus import DataType, MilvusClient

from fiftyone_milvus.collection import consistency
from fiftyone_milvus.collection.base import CollectionBase
from fiftyone_milvus.connection import Request, Retry, default_retry
from fiftyone_milvus.errors import (
    CollectionMismatchError,
    EngineError,
    FiftyOneMilvusError,
    PermissionDeniedError,
)
from fiftyone_milvus.schema.columns import MAX_STRING_BYTES, MAX_STRINGS, Column, Kind
from fiftyone_milvus.schema.layout import (
    EMBEDDED,
    FIELDS,
    MAKER,
    OWNER,
    PK,
    SAMPLE_ID,
    SEVERAL,
    VECTOR,
    Layout,
)
from fiftyone_milvus.schema.record import Record
from fiftyone_milvus.schema.scale import MMAP, Scale

MAX_ID_BYTES = 512

_MILVUS_TYPES: dict[Kind, dict[str, Any]] = {
    Kind.STRING: {"datatype": DataType.VARCHAR, "max_length": MAX_STRING_BYTES},
    Kind.INT: {"datatype": DataType.INT64},
    Kind.FLOAT: {"datatype": DataType.DOUBLE},
    Kind.BOOL: {"datatype": DataType.BOOL},
    Kind.DATE: {"datatype": DataType.INT64},
    Kind.DATETIME: {"datatype": DataType.INT64},
    Kind.STRINGS: {
        "datatype": DataType.ARRAY,
        "element_type": DataType.VARCHAR,
        "max_capacity": MAX_STRINGS,
        "max_length": MAX_STRING_BYTES,
    },
}
_LONGEST_NAME = 200
_JOIN_SECONDS = 5.0
_JOIN_POLL = 0.05


@dataclass(frozen=True)
class CollectionSpec:
    """What a new collection is made of.

    Attributes:
        dimension: the dimension of the vectors
        metric_type: ``COSINE``, ``IP`` or ``L2``
        index_type: the vector index, for example ``HNSW``
        index_params: its build parameters
        owner: what to record about the owner
        fields: the metadata fields; None for none
        embedded: what to record about when the vectors were computed; None for nothing
        scale: its shards, partitions and memory map, as far as the engine supports them
    """

    dimension: int
    metric_type: str
    index_type: str
    index_params: Mapping[str, Any] = field(default_factory=dict)
    owner: dict[str, Any] = field(default_factory=dict)
    fields: Record | None = None
    embedded: Mapping[str, Any] | None = None
    scale: Scale = field(default_factory=Scale)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the metadata fields."""
        return self.fields.columns if self.fields else ()

    @property
    def layout(self) -> Layout:
        """The layout of the collection once it is created."""
        return Layout(
            PK,
            VECTOR,
            SAMPLE_ID,
            self.dimension,
            self.metric_type,
            self.index_type,
            required=(),
            owner=self.owner,
            fields=self.fields,
            embedded=self.embedded or {},
            partition_key=next(
                (column.name for column in self.columns if self._is_partition_key(column)), None
            ),
        )

    @property
    def properties(self) -> dict[str, str]:
        """The properties that Milvus keeps with the collection."""
        records = {
            OWNER: self.owner,
            FIELDS: self.fields.to_dict() if self.fields else None,
            EMBEDDED: self.embedded,
            MMAP: self.scale.mmap,
        }
        return {n: json.dumps(v) for n, v in records.items() if n == OWNER or v not in (None, {})}

    @property
    def options(self) -> dict[str, int]:
        """The number of shards and of partitions, where they are given."""
        found = {n: getattr(self.scale, n) for n in ("num_shards", "num_partitions")}
        return {name: value for name, value in found.items() if value is not None}

    def schema(self) -> Any:
        """Returns the ``CollectionSchema`` for ``MilvusClient.create_collection``."""
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(PK, DataType.VARCHAR, is_primary=True, max_length=MAX_ID_BYTES)
        schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=self.dimension)
        schema.add_field(SAMPLE_ID, DataType.VARCHAR, max_length=MAX_ID_BYTES)
        for column in self.columns:
            key = {"is_partition_key": True} if self._is_partition_key(column) else {}
            schema.add_field(column.name, **_MILVUS_TYPES[column.kind], **key)
            schema.add_field(column.presence, DataType.BOOL)
        return schema

    def _is_partition_key(self, column: Column) -> bool:
        return column.path == self.scale.partition_key


class Creation(CollectionBase):
    """Creates the collection, or uses the one that another process creates at the same time."""

    def create(self, spec: CollectionSpec) -> bool:
        """Creates the collection with its index and loads it, unless another process just did.

        If this fails, it drops what it created, and nothing else.

        Args:
            spec: what the collection is made of

        Returns:
            whether this call created it; if not, others write to it too

        Raises:
            CollectionMismatchError: if another process just created one that does not fit
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        # Milvus takes a second creation for a retry of the first if the two are equal
        self._maker = uuid.uuid4().hex
        index = self._index(
            VECTOR,
            spec.metric_type,
            spec.index_type,
            {**spec.index_params, **spec.scale.for_index(spec.index_type)},
        )

        create = self._request(
            "create_collection",
            schema=spec.schema(),
            consistency_level=self.consistency_level,
            properties={**spec.properties, MAKER: self._maker},
            **spec.options,
        )
        try:
            try:
                self.connection.run(create)
            except EngineError:
                if not self.exists():
                    raise
            if not self._is_mine():
                self._maker = None
                self._join(spec, index)
                return False
            self._make_index(index)
            self._load(_async=True)
        except BaseException:
            # Not again for as long as its caller waits; what can't be dropped has no rows
            with suppress(FiftyOneMilvusError), default_retry(Retry()):
                self.discard()
            raise
        consistency.forget(self._key)
        self._seen = self._loading = True
        self._layout = spec.layout
        return True

    def discard(self) -> bool:
        """Drops the collection if :meth:`create` created it and no other process writes to it.

        It is renamed first: another process that is about to write to it then gets an error instead
        of losing what it wrote. If one did just write to it, the name is given back.

        Returns:
            whether it was dropped

        Raises:
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        if self._maker is None or not self.exists() or not self._is_mine():
            return False
        aside = f"{self.name[:_LONGEST_NAME]}_discarded_{self._maker[:8]}"
        run, timeout = self.connection.run, self.timeout
        try:
            run(Request("rename_collection", self.name, aside, timeout=timeout))
        except (EngineError, PermissionDeniedError):
            return self.drop()  # without this protection
        if not self._is_mine(aside):
            run(Request("rename_collection", aside, self.name, timeout=timeout))
            return False
        self.forget()
        run(Request("drop_collection", aside, timeout=timeout))
        return True

    def _is_mine(self, name: str | None = None) -> bool:
        request = Request("describe_collection", name or self.name, timeout=self.timeout)
        info = self.connection.run(request)
        maker = dict(info.get("properties") or {}).get(MAKER)
        return maker is not None and maker == self._maker

    def _make_index(self, index: Any) -> None:
        try:
            # With sync, pymilvus would poll every 0.5 s, although there is nothing to index yet
            self.connection.run(self._request("create_index", index, sync=False))
        except EngineError:
            # Milvus Lite refuses an index that exists, also in a retry
            if self._describe().index_type is None:
                raise

    def _join(self, spec: CollectionSpec, index: Any) -> None:
        """Opens the collection that another process just created."""
        deadline = time.monotonic() + _JOIN_SECONDS
        while self._describe().index_type is None:
            if time.monotonic() > deadline:  # that process has died
                self._make_index(index)
            time.sleep(_JOIN_POLL)
        found = self.layout
        columns = found.fields.columns if found.fields else ()
        if ((found.dimension, found.metric_type) != (spec.dimension, spec.metric_type)) or not set(
            columns
        ).issuperset(spec.columns):
            self._layout = None
            raise CollectionMismatchError(
                f"Another process just created the {self.where} with {found.dimension} dimensions, "
                f"metric {found.metric_type} and fields {[c.path for c in columns]}; this index "
                f"needs {spec.dimension}, {spec.metric_type} and {[c.path for c in spec.columns]}; "
                "use another collection_name"
            )
        self._set_property(MAKER, SEVERAL)
