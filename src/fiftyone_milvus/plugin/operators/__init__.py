"""The operators, in the order in which the App lists them."""

from __future__ import annotations

from fiftyone_milvus.plugin.operator import MilvusOperator
from fiftyone_milvus.plugin.operators.choose_distance import ChooseDistance
from fiftyone_milvus.plugin.operators.create_index import CreateIndex
from fiftyone_milvus.plugin.operators.duplicates import DeleteDuplicates, TagDuplicates
from fiftyone_milvus.plugin.operators.find import FindDuplicates, FindUnique
from fiftyone_milvus.plugin.operators.leave import ForgetSearches, LeaveResults
from fiftyone_milvus.plugin.operators.manage import (
    CleanUp,
    DeleteIndex,
    RemoveFromIndex,
    RenameIndex,
)
from fiftyone_milvus.plugin.operators.search import Search
from fiftyone_milvus.plugin.operators.sync import SyncFields, SyncIndex

OPERATORS: tuple[type[MilvusOperator], ...] = (
    CreateIndex, SyncIndex, SyncFields, RemoveFromIndex, DeleteIndex, RenameIndex, Search,
    ChooseDistance, LeaveResults, ForgetSearches, FindDuplicates, FindUnique, TagDuplicates,
    DeleteDuplicates, CleanUp,
)  # fmt: skip
