"""What a sync is given: the index, and options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.dataset.users import User
from fiftyone_milvus.fields.store import SyncedFields
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.syncing.shard import Shard


@dataclass(frozen=True)
class Options:
    """How to sync.

    Attributes:
        prune: whether to remove rows whose sample or label was deleted
        refresh: whether to embed samples again if they, or their files, may have changed
        update_fields: whether to bring the metadata fields up to date
        batch_size: the model's batch size, or None
        skip_failures: whether to continue if a sample has no usable embedding
        progress: as FiftyOne's progress bars take it
        shard: the part of the samples to add; None for all
    """

    prune: bool = True
    refresh: bool = False
    update_fields: bool = True
    batch_size: int | None = None
    skip_failures: bool = True
    progress: Any = None
    shard: Shard | None = None


@dataclass(frozen=True)
class Target:
    """The index that is synced.

    Attributes:
        name: for messages
        collection: its collection, which may not exist yet
        create: creates the collection for vectors, of which it gets the first; returns False if
            another process has just created it
        metric: its metric
        patches_field: the field of the patches, or None for samples
        fields: its metadata fields, of which there may be none
        owned: returns whether the collection is recorded as this index's
        others: returns the other runs that name the collection
        dataset: the :class:`fiftyone.core.dataset.Dataset`
    """

    name: str
    collection: MilvusCollection
    create: Callable[[Array], bool]
    metric: str
    patches_field: str | None
    fields: SyncedFields
    owned: Callable[[], bool]
    others: Callable[[], list[User]]
    dataset: Any
