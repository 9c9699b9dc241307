"""The rows of other brain runs in a shared collection."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.dataset.object_ids import IdArray
from fiftyone_milvus.dataset.users import User
from fiftyone_milvus.syncing import expected_rows

logger = logging.getLogger(__name__)


def of_others(
    users: Sequence[User],
    dataset: Any,
    patches_field: str | None,
    collection: MilvusCollection,
    keys: IdArray,
    sample_ids: IdArray,
) -> npt.NDArray[np.bool_]:
    """Returns for some rows whether they belong to a sample, or label, of another run.

    Args:
        users: the other runs that name the collection
        dataset: the :class:`fiftyone.core.dataset.Dataset` of the index
        patches_field: the field of the patches of the index, or None for samples
        collection: the shared collection
        keys: the rows' primary keys
        sample_ids: the sample of each
    """
    found = np.zeros(len(keys), dtype=bool)
    own = (str(dataset._doc.id), patches_field)
    others = {(u.dataset_id, u.patches_field): u for u in users}
    others.pop(own, None)
    if others and patches_field is None and any(field for _, field in others):
        # The samples of rows were not read, as keys and samples are the same in our own rows
        ids = object_ids.to_strings(keys)
        table = collection.existing(ids)
        samples, invalid = object_ids.from_strings([table.get(i, i) for i in ids])
        if not invalid.size:
            sample_ids = samples
    for user in others.values():
        found |= _of(user, dataset if user.dataset_id == own[0] else None, keys, sample_ids)
    return found


def _of(user: User, dataset: Any, keys: IdArray, sample_ids: IdArray) -> npt.NDArray[np.bool_]:
    """Returns which rows belong to a run; all, if its dataset can't be asked."""
    try:
        if not user.of_samples:
            raise ValueError("it is of frames or clips")
        dataset = dataset or fo.load_dataset(user.dataset)
        return expected_rows.existing(dataset, user.patches_field, keys, sample_ids)
    except Exception as error:
        there = fo.dataset_exists(user.dataset)
        if there:
            logger.warning("Index %s may need all stale rows, so they stay: %s", user, error)
        return np.full(len(keys), there)
