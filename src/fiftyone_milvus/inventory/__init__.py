"""Lists the indexes of a dataset and the collections of a Milvus.

Only :func:`clean_up` writes.

Example::

    from fiftyone_milvus import inventory

    for info in inventory.indexes(dataset):
        print(info.brain_key, info.vectors, info.missing, info.stale)
"""

from __future__ import annotations

from fiftyone_milvus.inventory.collections import CollectionInfo, clean_up, collections
from fiftyone_milvus.inventory.indexes import IndexInfo, index_info, indexes, keys
from fiftyone_milvus.inventory.runs import Run, built_in_runs, datasets
from fiftyone_milvus.inventory.status import MilvusStatus, configured, milvus_status

__all__ = [
    "CollectionInfo",
    "IndexInfo",
    "MilvusStatus",
    "Run",
    "built_in_runs",
    "clean_up",
    "collections",
    "configured",
    "datasets",
    "index_info",
    "indexes",
    "keys",
    "milvus_status",
]
