"""Restricted searches, and their results as a view or with a tag."""

from __future__ import annotations

import copy
from typing import Any

from fiftyone_milvus.dataset.selected import all_samples, tag, view_of
from fiftyone_milvus.index import MilvusSimilarityIndex

__all__ = ["all_samples", "restricted", "tag", "view_of"]


def restricted(index: MilvusSimilarityIndex, samples: Any) -> MilvusSimilarityIndex:
    """Returns a copy of an index that searches only some samples.

    All callers of a process share one loaded index, whose view and duplicates are its attributes.
    A search in the App must not change those of a notebook, or of another operator.

    Args:
        index: the index, which is not changed
        samples: a :class:`fiftyone.core.collections.SampleCollection`
    """
    own: MilvusSimilarityIndex = copy.copy(index)
    own.use_view(samples)
    return own
