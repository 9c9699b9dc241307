"""The operators, in the order in which the App lists them."""

from __future__ import annotations

from fiftyone_milvus.plugin.operator import MilvusOperator
from fiftyone_milvus.plugin.operators.check_new import CheckNew
from fiftyone_milvus.plugin.operators.choose_distance import ChooseDistance
from fiftyone_milvus.plugin.operators.compare import CompareDatasets
from fiftyone_milvus.plugin.operators.create_index import CreateIndex
from fiftyone_milvus.plugin.operators.duplicates import DeleteDuplicates, TagDuplicates
from fiftyone_milvus.plugin.operators.feedback import LessLike, MoreLike
from fiftyone_milvus.plugin.operators.find import FindDuplicates, FindUnique
from fiftyone_milvus.plugin.operators.groups import FindGroups
from fiftyone_milvus.plugin.operators.labels import FindLabelErrors, PredictLabels
from fiftyone_milvus.plugin.operators.leaks import FindLeaks
from fiftyone_milvus.plugin.operators.leave import ForgetSearches, LeaveResults
from fiftyone_milvus.plugin.operators.manage import (
    CleanUp,
    DeleteIndex,
    RemoveFromIndex,
    RenameIndex,
)
from fiftyone_milvus.plugin.operators.rate import RateSamples
from fiftyone_milvus.plugin.operators.search import Search
from fiftyone_milvus.plugin.operators.select import SelectSamples
from fiftyone_milvus.plugin.operators.sync import SyncFields, SyncIndex

OPERATORS: tuple[type[MilvusOperator], ...] = (
    CreateIndex, SyncIndex, SyncFields, RemoveFromIndex, DeleteIndex, RenameIndex, Search,
    MoreLike, LessLike, ChooseDistance, LeaveResults, ForgetSearches, FindDuplicates, FindGroups,
    FindLeaks, CheckNew, FindUnique, RateSamples, SelectSamples, TagDuplicates, DeleteDuplicates,
    PredictLabels, FindLabelErrors, CompareDatasets, CleanUp,
)  # fmt: skip
