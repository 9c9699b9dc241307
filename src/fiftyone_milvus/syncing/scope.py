"""What is synced, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.fields.store import SyncedFields


@dataclass(frozen=True)
class Options:
    """How to sync.

    Attributes:
        prune: whether to remove rows whose sample or label is gone
        refresh: whether to embed samples again whose media may have changed
        update_fields: whether to bring the fields beside the vectors up to date
        batch_size: the model's batch size, or None
        skip_failures: whether to go on where a sample has no usable embedding
        progress: as FiftyOne's progress bars take it
    """

    prune: bool = True
    refresh: bool = False
    update_fields: bool = True
    batch_size: int | None = None
    skip_failures: bool = True
    progress: Any = None


@dataclass(frozen=True)
class Target:
    """What a sync needs to know of an index.

    Attributes:
        name: for messages
        collection: its collection, which may not exist yet
        create: makes the collection for vectors of a dimension; False if another process just did
        metric: its metric
        patches_field: the field of the patches, or None for samples
        fields: the fields beside the vectors, which may be none
        owned: whether the collection is recorded as this index's own
        dataset: the :class:`fiftyone.core.dataset.Dataset`
    """

    name: str
    collection: MilvusCollection
    create: Callable[[int], bool]
    metric: str
    patches_field: str | None
    fields: SyncedFields
    owned: Callable[[], bool]
    dataset: Any
