"""Removes the rows whose sample or label was deleted."""

from __future__ import annotations

import logging
from typing import Any

from fiftyone_milvus.collection.filters import batches
from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.syncing import expected_rows
from fiftyone_milvus.syncing.difference import Unexpected
from fiftyone_milvus.syncing.scope import Target

logger = logging.getLogger(__name__)

_BATCH = 10_000


def prune(target: Target, samples: Any, unexpected: Unexpected, progress: Any) -> tuple[int, int]:
    """Removes those unexpected rows whose sample or label is not in the dataset.

    Args:
        target: the index
        samples: the :class:`fiftyone.core.collections.SampleCollection` that is synced
        unexpected: the rows
        progress: as FiftyOne's progress bars take it

    Returns:
        the number of rows removed, and of stale rows left, as the collection may be another's
    """
    exist = expected_rows.existing(
        samples, target.patches_field, unexpected.keys, unexpected.sample_ids
    )
    stale = [*object_ids.to_strings(unexpected.keys[~exist]), *unexpected.foreign]
    if not stale:
        return 0, 0
    if not target.owned():
        logger.warning(
            "The %s has %d vectors that belong to no sample of this dataset; they stay, as the "
            "collection is not recorded as this index's; remove them with remove_from_index()",
            target.collection.where,
            len(stale),
        )
        return 0, len(stale)
    title, show = "Removing stale vectors from Milvus", len(stale) > _BATCH
    with ProgressBar(len(stale), title, show=show, progress=progress) as bar:
        for part in batches(stale, _BATCH):
            target.collection.delete(part)
            bar.update(len(part))
    return len(stale), 0
