"""A collection is made, by one of those who want it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

from pymilvus import DataType, MilvusClient

from fiftyone_milvus.collection import consistency
from fiftyone_milvus.collection.base import CollectionBase
from fiftyone_milvus.errors import CollectionMismatchError, EngineError
from fiftyone_milvus.schema.columns import MAX_STRING_BYTES, MAX_STRINGS, Kind
from fiftyone_milvus.schema.layout import (
    EMBEDDED,
    FIELDS,
    MAKER,
    OWNER,
    PK,
    SAMPLE_ID,
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
_SHARED = "several"
_JOIN_SECONDS = 5.0
_JOIN_POLL = 0.05


class Creating(CollectionBase):
    """Makes the collection, or joins in with whoever makes it at the same time."""

    _maker: str | None = None

    def create(
        self,
        dimension: int,
        metric_type: str,
        index_type: str,
        index_params: dict[str, Any],
        owner: dict[str, Any],
        fields: Record | None = None,
        embedded: Mapping[str, Any] | None = None,
        scale: Scale | None = None,
    ) -> bool:
        """Creates the collection with its index and loads it, unless somebody else just did.

        On failure nothing of ours stays behind, and nothing of others goes away.

        Args:
            dimension: of the vectors
            metric_type: ``COSINE``, ``IP`` or ``L2``
            index_type: the vector index
            index_params: its build parameters
            owner: what to record about the owner
            fields: the FiftyOne fields that go beside the vectors, if any
            embedded: what to record about when the vectors were computed, if anything
            scale: how it is spread, as far as the engine can; see
                :mod:`fiftyone_milvus.schema.scale`

        Returns:
            whether this call made it; if not, others write to it too

        Raises:
            CollectionMismatchError: if somebody else just made one that can't serve
        """
        # Milvus takes a second creation for a repetition of the first if they are equal
        self._maker = uuid.uuid4().hex
        properties = {OWNER: json.dumps(owner), MAKER: self._maker}
        if fields:
            properties[FIELDS] = json.dumps(fields.to_dict())
        if embedded:
            properties[EMBEDDED] = json.dumps(embedded)
        scale = scale or Scale()
        if scale.mmap is not None:
            properties[MMAP] = str(scale.mmap).lower()
        schema = _schema(dimension, fields, scale.partition_key)
        options = {
            name: value
            for name in ("num_shards", "num_partitions")
            if (value := getattr(scale, name)) is not None
        }
        index = self._index(
            VECTOR, metric_type, index_type, {**index_params, **scale.for_index(index_type)}
        )
        wanted = Layout(
            PK,
            VECTOR,
            SAMPLE_ID,
            dimension,
            metric_type,
            index_type,
            required=(),
            owner=owner,
            fields=fields,
            embedded=embedded or {},
            partition_key=_partition_key(fields, scale.partition_key),
        )

        def create(client: MilvusClient) -> None:
            client.create_collection(
                self.name,
                schema=schema,
                consistency_level=self.consistency_level,
                properties=properties,
                timeout=self.timeout,
                **options,
            )

        try:
            try:
                self.connection.run(create)
            except EngineError:
                if not self.exists():
                    raise
            if not self._is_mine():
                self._maker = None
                self._join(wanted, index)
                return False
            self._make_index(index)
            self._load(_async=True)
        except BaseException:
            self.discard()
            raise
        consistency.forget(self._key)
        self._seen = self._loading = True
        self._layout = wanted
        return True

    def discard(self) -> bool:
        """Drops the collection if :meth:`create` made it and nobody else writes to it.

        Returns:
            whether it was dropped
        """
        mine = self._maker is not None and self.exists() and self._is_mine()
        return mine and self.drop()

    def _is_mine(self) -> bool:
        return self._maker is not None and self._property(MAKER) == self._maker

    def _property(self, name: str) -> str | None:
        info = self.connection.run(lambda c: c.describe_collection(self.name, timeout=self.timeout))
        return dict(info.get("properties") or {}).get(name)

    def _make_index(self, index: Any) -> None:
        def create(client: MilvusClient) -> None:
            # pymilvus would poll every 0.5 s; there is nothing to index yet
            client.create_index(self.name, index, timeout=self.timeout, sync=False)

        try:
            self.connection.run(create)
        except EngineError:
            # Milvus Lite refuses what is there already, if only by a repeated call
            if self._describe().index_type is None:
                raise

    def _join(self, wanted: Layout, index: Any) -> None:
        """Opens what somebody else just made."""
        deadline = time.monotonic() + _JOIN_SECONDS
        while self._describe().index_type is None:
            if time.monotonic() > deadline:  # whoever made it is gone
                self._make_index(index)
            time.sleep(_JOIN_POLL)
        found = self.layout
        columns = set(found.fields.columns if found.fields else ())
        if (found.dimension, found.metric_type) != (wanted.dimension, wanted.metric_type) or (
            wanted.fields and not columns.issuperset(wanted.fields.columns)
        ):
            self._layout = None
            raise CollectionMismatchError(
                f"The {self.where} was just made by somebody else, with {found.dimension} "
                f"dimensions and metric {found.metric_type}, and can't serve for "
                f"{wanted.dimension} and {wanted.metric_type}; use another collection_name"
            )
        self._call(
            lambda c: c.alter_collection_properties(
                self.name, properties={MAKER: _SHARED}, timeout=self.timeout
            )
        )


def _partition_key(fields: Record | None, path: str | None) -> str | None:
    """Returns the Milvus field of a FiftyOne field, or None if there is none."""
    columns = fields.columns if fields else ()
    return next((column.name for column in columns if column.path == path), None)


def _schema(dimension: int, fields: Record | None, partition_key: str | None) -> Any:
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field(PK, DataType.VARCHAR, is_primary=True, max_length=MAX_ID_BYTES)
    schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=dimension)
    schema.add_field(SAMPLE_ID, DataType.VARCHAR, max_length=MAX_ID_BYTES)
    for column in fields.columns if fields else ():
        key = {"is_partition_key": True} if column.path == partition_key else {}
        schema.add_field(column.name, **_MILVUS_TYPES[column.kind], **key)
        schema.add_field(column.presence, DataType.BOOL)
    return schema
