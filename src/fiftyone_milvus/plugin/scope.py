"""An index restricted to samples, apart from everyone else's."""

from __future__ import annotations

import copy
from typing import Any

from fiftyone_milvus.index import MilvusSimilarityIndex


def restricted(index: MilvusSimilarityIndex, samples: Any) -> MilvusSimilarityIndex:
    """Returns an index like another that sees only some samples.

    FiftyOne hands every caller of a process the same loaded index, whose view and duplicates are
    its attributes: a search in the App must change neither those that a notebook set, nor those of
    an operator that is at work.

    Args:
        index: the index, which stays as it is
        samples: a :class:`fiftyone.core.collections.SampleCollection`
    """
    own: MilvusSimilarityIndex = copy.copy(index)
    own.use_view(samples)
    return own
