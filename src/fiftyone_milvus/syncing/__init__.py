"""Brings an index up to date with its dataset: adds what is missing, removes what is stale."""

from fiftyone_milvus.syncing.report import SyncReport
from fiftyone_milvus.syncing.scope import Options, Target
from fiftyone_milvus.syncing.sync import sync

__all__ = ["Options", "SyncReport", "Target", "sync"]
