"""FiftyOne's contract of a similarity index, on a Milvus collection.

Says what; the modules that it imports say how.
"""

from __future__ import annotations

from typing import Any

from fiftyone.brain.similarity import DuplicatesMixin

from fiftyone_milvus.index.aggregations import AGGREGATIONS
from fiftyone_milvus.index.comparison import Comparable
from fiftyone_milvus.index.duplicates import Duplicates
from fiftyone_milvus.index.embeddings import Reading
from fiftyone_milvus.index.queries import DEFAULT_RESULTS, Querying
from fiftyone_milvus.index.sync import Syncing

__all__ = ["AGGREGATIONS", "DEFAULT_RESULTS", "MilvusSimilarityIndex"]


class MilvusSimilarityIndex(Syncing, Reading, Querying, Comparable, Duplicates, DuplicatesMixin):
    """A similarity index whose vectors are in a Milvus collection.

    Made by :func:`fiftyone.brain.compute_similarity` and
    :meth:`load_brain_results() <fiftyone.core.collections.SampleCollection.load_brain_results>`.
    Connects on first use, not when loaded.

    Args:
        samples: the :class:`fiftyone.core.collections.SampleCollection` of the run
        config: the :class:`fiftyone_milvus.backend.MilvusSimilarityConfig` of the run
        brain_key: the brain key, or None
        backend (None): a :class:`fiftyone_milvus.backend.MilvusSimilarity`
    """

    def __init__(
        self, samples: Any, config: Any, brain_key: str | None, backend: Any = None
    ) -> None:
        super().__init__(samples, config, brain_key, backend=backend)
        DuplicatesMixin.__init__(self)

    @classmethod
    def _from_dict(
        cls, d: dict[str, Any], samples: Any, config: Any, brain_key: str
    ) -> MilvusSimilarityIndex:
        return cls(samples, config, brain_key)
