"""The record of its metadata fields that a collection keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fiftyone_milvus.schema.columns import Column


@dataclass(frozen=True)
class Record:
    """The record of its metadata fields that a collection keeps.

    Attributes:
        columns: the metadata fields
        dataset_id: the ID of the dataset that has these fields
        watermark: see :mod:`fiftyone_milvus.fields.staleness`; None if values were never complete
    """

    columns: tuple[Column, ...]
    dataset_id: str
    watermark: int | None = None

    @property
    def milvus_fields(self) -> list[str]:
        """The Milvus fields of the columns, in their order."""
        return [name for column in self.columns for name in (column.name, column.presence)]

    def to_dict(self) -> dict[str, Any]:
        """Returns a dict that JSON can hold."""
        return {
            "columns": [column.to_dict() for column in self.columns],
            "dataset_id": self.dataset_id,
            "watermark": self.watermark,
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Record | None:
        """Reads what :meth:`to_dict` returned; None if nothing is recorded."""
        if not d.get("columns"):
            return None
        columns = tuple(Column.from_dict(column) for column in d["columns"])
        return cls(columns, str(d.get("dataset_id")), d.get("watermark"))
