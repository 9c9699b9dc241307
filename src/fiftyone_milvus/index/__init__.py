"""FiftyOne's similarity index, on a Milvus collection."""

from __future__ import annotations

from typing import Any

from fiftyone_milvus.dataset.availability import methods_need_database
from fiftyone_milvus.index.comparison import IndexComparison
from fiftyone_milvus.index.duplicates import IndexDuplicates
from fiftyone_milvus.index.labels import IndexLabels
from fiftyone_milvus.index.map import IndexMap
from fiftyone_milvus.index.model import IndexModel
from fiftyone_milvus.index.queries import AGGREGATIONS
from fiftyone_milvus.index.ratings import IndexRatings
from fiftyone_milvus.index.reference import IndexReference
from fiftyone_milvus.index.search import DEFAULT_RESULTS
from fiftyone_milvus.index.selections import IndexSelections
from fiftyone_milvus.index.shown import IndexShown
from fiftyone_milvus.index.sync import IndexSync

__all__ = ["AGGREGATIONS", "DEFAULT_RESULTS", "MilvusSimilarityIndex"]


@methods_need_database(
    "current_label_ids",
    "current_sample_ids",
    "index_size",
    "label_ids",
    "missing_size",
    "sample_ids",
)
class MilvusSimilarityIndex(
    IndexShown,
    IndexSync,
    IndexMap,
    IndexReference,
    IndexSelections,
    IndexLabels,
    IndexRatings,
    IndexComparison,
    IndexDuplicates,
    IndexModel,
):
    """A similarity index whose vectors are in a Milvus collection.

    :func:`fiftyone.brain.compute_similarity` and
    :meth:`load_brain_results() <fiftyone.core.collections.SampleCollection.load_brain_results>`
    return it. It connects when it is first used, not when it is loaded.

    Args:
        samples: the :class:`fiftyone.core.collections.SampleCollection` of the run
        config: the :class:`fiftyone_milvus.backend.MilvusSimilarityConfig` of the run
        brain_key: the brain key, or None
        backend (None): a :class:`fiftyone_milvus.backend.MilvusSimilarity`
    """

    @classmethod
    def _from_dict(
        cls, d: dict[str, Any], samples: Any, config: Any, brain_key: str
    ) -> MilvusSimilarityIndex:
        return cls(samples, config, brain_key)
