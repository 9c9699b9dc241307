"""Removes the rows whose sample or label is gone."""

from __future__ import annotations

import logging
from typing import Any

from fiftyone_milvus.collection.filters import batches
from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.syncing import expected_rows
from fiftyone_milvus.syncing.difference import Surplus
from fiftyone_milvus.syncing.scope import Target

logger = logging.getLogger(__name__)

_BATCH = 10_000


def prune(target: Target, samples: Any, surplus: Surplus, progress: Any) -> tuple[int, int]:
    """Removes those rows of a surplus whose sample or label is not in the dataset.

    Args:
        target: the index
        samples: the :class:`fiftyone.core.collections.SampleCollection` that is synced
        surplus: rows that it did not ask for
        progress: as FiftyOne's progress bars take it

    Returns:
        how many were removed, and how many were left, as the collection might be another's
    """
    there = expected_rows.still_there(
        samples, target.patches_field, surplus.keys, surplus.sample_ids
    )
    stale = [*object_ids.to_strings(surplus.keys[~there]), *surplus.others]
    if not stale:
        return 0, 0
    if not target.owned():
        logger.warning(
            "The %s holds %d vectors of no sample of this dataset; it is not recorded as this "
            "index's, so they stay; use remove_from_index() if they are not needed",
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
