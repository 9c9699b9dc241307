"""A dataset and its index, brought in step: what is missing, what is stale, what has changed."""

from fiftyone_milvus.syncing.report import SyncReport
from fiftyone_milvus.syncing.scope import Options, Target
from fiftyone_milvus.syncing.sync import sync

__all__ = ["Options", "SyncReport", "Target", "sync"]
