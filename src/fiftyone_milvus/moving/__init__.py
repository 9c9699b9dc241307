"""Moves indexes: from FiftyOne's backends to this one and back, between Milvus, and to files.

Example::

    from fiftyone_milvus import moving

    for key in moving.adoptable(dataset):
        moving.adopt(dataset, key)

    moving.migrate(dataset, "similar", uri="http://localhost:19530")
    moving.export_index(dataset, "similar", "similar.parquet")
"""

from __future__ import annotations

from fiftyone_milvus.moving.adoption import Adopted, adopt
from fiftyone_milvus.moving.builtin import adoptable
from fiftyone_milvus.moving.migration import Migration, migrate
from fiftyone_milvus.moving.parquet_export import Exported, export_index
from fiftyone_milvus.moving.parquet_import import Imported, import_index
from fiftyone_milvus.moving.reversion import Reverted, revert

__all__ = [
    "Adopted",
    "Exported",
    "Imported",
    "Migration",
    "Reverted",
    "adopt",
    "adoptable",
    "export_index",
    "import_index",
    "migrate",
    "revert",
]
