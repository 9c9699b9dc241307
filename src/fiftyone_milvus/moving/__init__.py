"""Indexes move: from FiftyOne's built-in backend, from other backends, between Milvus, to files.

Example::

    from fiftyone_milvus import moving

    for key in moving.adoptable(dataset):
        moving.adopt(dataset, key)

    moving.migrate(dataset, "similar", uri="http://localhost:19530")
    moving.export_index(dataset, "similar", "similar.parquet")
"""

from __future__ import annotations

from fiftyone_milvus.moving.adopting import Adopted, adopt
from fiftyone_milvus.moving.builtin import adoptable
from fiftyone_milvus.moving.exporting import Exported, export_index
from fiftyone_milvus.moving.importing import Imported, import_index
from fiftyone_milvus.moving.migrating import Migration, migrate
from fiftyone_milvus.moving.reverting import Reverted, revert

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
