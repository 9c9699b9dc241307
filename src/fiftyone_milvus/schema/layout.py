"""The layout of a collection: the fields and properties that an index needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pymilvus import DataType

from fiftyone_milvus.errors import CollectionMismatchError
from fiftyone_milvus.schema.record import Record

PK, VECTOR, SAMPLE_ID = "pk", "vector", "sample_id"
"""The fields of our collections: those of FiftyOne's built-in backend."""

OWNER = "fiftyone"
"""The collection property that records the owner. Milvus Lite keeps properties, but no
descriptions."""

MAKER = "fiftyone_maker"
"""The collection property that records the call that made it, until others write to it too."""

SEVERAL = "several"
"""What :data:`MAKER` records as soon as another process writes to the collection."""

FIELDS = "fiftyone_fields"
"""The collection property that records the metadata fields."""

MOVING = "moving"
"""The key in the owner's record of a collection that vectors are still being moved to."""

EMBEDDED = "fiftyone_embedded"
"""The collection property that records when the vectors were computed."""


@dataclass(frozen=True)
class Layout:
    """The layout of a collection.

    Attributes:
        id_field: the VARCHAR primary key
        vector_field: the FLOAT_VECTOR field
        sample_field: the VARCHAR field with the sample ID, or None if there is none
        dimension: the dimension of the vectors
        metric_type: ``COSINE``, ``IP`` or ``L2``; None while the vectors have no index
        index_type: ``HNSW``, ``IVF_FLAT``, ...; None while the vectors have no index
        required: other fields that every row must fill, which this package can't
        owner: the recorded owner, or an empty dict
        fields: the record of the metadata fields, or None if there are none
        embedded: the record of when the vectors were computed, or an empty mapping
        partition_key: the field whose values decide the partition of a row, or None
        others: the fields of other programs, which a write must keep
        dynamic: whether rows may have further fields, which a write must keep too
        partitioned: whether rows may be in partitions that somebody named
        maker: the call that made it, ``SEVERAL`` if others write to it too; None if not recorded
    """

    id_field: str
    vector_field: str
    sample_field: str | None
    dimension: int
    metric_type: str | None
    index_type: str | None
    required: tuple[str, ...]
    owner: dict[str, Any]
    fields: Record | None = None
    embedded: Mapping[str, Any] = field(default_factory=dict)
    partition_key: str | None = None
    others: tuple[str, ...] = ()
    dynamic: bool = False
    partitioned: bool = False
    maker: str | None = None

    @property
    def own_fields(self) -> set[str]:
        """The fields that this package writes."""
        recorded = self.fields.milvus_fields if self.fields else ()
        return {*self.id_fields, self.vector_field, *recorded}

    @property
    def id_fields(self) -> list[str]:
        """The fields to read for a row's IDs."""
        return [self.id_field, *([self.sample_field] if self.sample_field else [])]

    def sample_id(self, row: Mapping[str, Any]) -> str:
        """Returns the sample ID of a row."""
        return str(row[self.sample_field or self.id_field])


_VECTORS = {kind for kind in DataType if "VECTOR" in kind.name}
_INDEX_FACTS = {
    "index_name", "field_name", "index_type", "metric_type", "state", "total_rows",
    "indexed_rows", "pending_index_rows", "index_state_fail_reason", "index_id",
}  # fmt: skip


@dataclass(frozen=True)
class Built:
    """The progress of building a vector index.

    Attributes:
        share: the share of sealed rows that are indexed, in [0, 1]; None if Milvus does not tell
        params: the build parameters, as Milvus reports them
        rows: the number of sealed rows that are indexed; None if Milvus does not tell
    """

    share: float | None
    params: dict[str, str]
    rows: int | None = None

    @classmethod
    def of(cls, index: Mapping[str, Any]) -> Built:
        """Reads what ``MilvusClient.describe_index`` returned; empty if there is no index."""
        found = {n: v for n, v in index.items() if n not in _INDEX_FACTS}
        # Milvus Lite returns them in a dictionary of their own
        inner = found.pop("params", None)
        found.update(inner if isinstance(inner, Mapping) else {})
        params = {str(n): str(v) for n, v in found.items()}
        done, waiting = index.get("indexed_rows"), index.get("pending_index_rows")
        if done is None or waiting is None:
            return cls(None, params)
        return cls(done / (done + waiting) if waiting else 1.0, params, done)


def read_layout(
    info: Mapping[str, Any],
    index: Mapping[str, Any],
    *,
    where: str,
    id_field: str | None,
    vector_field: str,
) -> Layout:
    """Reads the layout of a collection from its description by Milvus.

    Args:
        info: from ``MilvusClient.describe_collection``
        index: from ``MilvusClient.describe_index``; empty if there is no index
        where: the name of the collection in messages
        id_field: the primary key that the user named, or None
        vector_field: from :func:`find_vector_field`

    Raises:
        CollectionMismatchError: if the collection can't hold an index
    """
    fields = {f["name"]: f for f in info["fields"]}
    key = _find_id_field(fields, where, id_field)
    sample = fields.get(SAMPLE_ID)
    has_sample = sample is not None and sample["type"] == DataType.VARCHAR and key != SAMPLE_ID
    recorded = Record.from_dict(parse_record(info, FIELDS))
    known = {key, vector_field, SAMPLE_ID if has_sample else None}
    known.update(recorded.milvus_fields if recorded else ())
    partition_key = next((n for n, f in fields.items() if f.get("is_partition_key")), None)
    return Layout(
        id_field=key,
        vector_field=vector_field,
        sample_field=SAMPLE_ID if has_sample else None,
        dimension=int(fields[vector_field]["params"]["dim"]),
        metric_type=index.get("metric_type"),
        index_type=index.get("index_type"),
        required=tuple(n for n, f in fields.items() if n not in known and not _optional(f)),
        others=tuple(n for n, f in fields.items() if n not in known and _kept(f)),
        dynamic=bool(info.get("enable_dynamic_field")),
        partitioned=partition_key is None and int(info.get("num_partitions") or 1) > 1,
        maker=dict(info.get("properties") or {}).get(MAKER),
        owner=parse_record(info, OWNER),
        fields=recorded,
        embedded=parse_record(info, EMBEDDED),
        partition_key=partition_key,
    )


def find_vector_field(info: Mapping[str, Any], *, where: str, named: str | None) -> str:
    """Returns the float vector field that the user named, or else the only one.

    Raises:
        CollectionMismatchError: if there is none, or several to choose from
    """
    vectors = [f["name"] for f in info["fields"] if f["type"] == DataType.FLOAT_VECTOR]
    if named is not None:
        if named not in vectors:
            raise CollectionMismatchError(
                f"vector_field={named!r} is not a float vector of the {where}; its float vectors "
                f"are {vectors}"
            )
        return named
    if not vectors:
        raise CollectionMismatchError(
            f"The {where} has no FLOAT_VECTOR field; use another collection_name"
        )
    if len(vectors) > 1:
        raise CollectionMismatchError(
            f"The {where} has several float vectors {vectors}; say which with vector_field="
        )
    return str(vectors[0])


def _find_id_field(fields: Mapping[str, Any], where: str, named: str | None) -> str:
    key = next(name for name, f in fields.items() if f.get("is_primary"))
    if named not in (None, key):
        raise CollectionMismatchError(
            f"id_field={named!r} is not the primary key of the {where}; that is {key!r}"
        )
    if fields[key]["type"] != DataType.VARCHAR or fields[key].get("auto_id"):
        raise CollectionMismatchError(
            f"The primary key {key!r} of the {where} can't hold FiftyOne IDs; expected a VARCHAR "
            "key without auto_id"
        )
    return key


def _optional(field: Mapping[str, Any]) -> bool:
    if field.get("is_function_output"):
        return True
    # Not every Milvus returns vectors as it takes them, so another vector could not be kept
    vector = field["type"] in _VECTORS
    return not vector and bool(
        field.get("nullable") or field.get("default_value") or field.get("is_dynamic")
    )


def _kept(field: Mapping[str, Any]) -> bool:
    return _optional(field) and not field.get("is_dynamic") and not field.get("is_function_output")


def parse_record(info: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns the record in one of our properties of a collection, or an empty dict.

    Args:
        info: from ``MilvusClient.describe_collection``
        name: :data:`OWNER`, :data:`FIELDS` or :data:`EMBEDDED`
    """
    try:
        record = json.loads(dict(info.get("properties") or {}).get(name, "{}"))
    except (TypeError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
