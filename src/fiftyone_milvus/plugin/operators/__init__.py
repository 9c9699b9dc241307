"""The operators, in the order in which the App lists them."""

from __future__ import annotations

from typing import Any

from fiftyone_milvus.plugin.operators.clean_up import CleanUp
from fiftyone_milvus.plugin.operators.create_index import CreateIndex
from fiftyone_milvus.plugin.operators.delete_index import DeleteIndex
from fiftyone_milvus.plugin.operators.find_duplicates import FindDuplicates
from fiftyone_milvus.plugin.operators.find_unique import FindUnique
from fiftyone_milvus.plugin.operators.remove_from_index import RemoveFromIndex
from fiftyone_milvus.plugin.operators.rename_index import RenameIndex
from fiftyone_milvus.plugin.operators.search import Search
from fiftyone_milvus.plugin.operators.sync_fields import SyncFields
from fiftyone_milvus.plugin.operators.sync_index import SyncIndex

OPERATORS: tuple[type[Any], ...] = (
    CreateIndex,
    SyncIndex,
    SyncFields,
    RemoveFromIndex,
    DeleteIndex,
    RenameIndex,
    Search,
    FindDuplicates,
    FindUnique,
    CleanUp,
)
