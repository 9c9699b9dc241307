"""FiftyOne's built-in Milvus backend with an index that has nothing to build.

A server goes on building the graph of one upload while the next one is timed.
"""

from __future__ import annotations

from typing import Any

from fiftyone.brain.internal.core import milvus


class MilvusSimilarityConfig(milvus.MilvusSimilarityConfig):  # type: ignore[misc]
    @property
    def index_params(self) -> dict[str, Any]:
        return {**super().index_params, "index_type": "FLAT", "params": {}}


class MilvusSimilarity(milvus.MilvusSimilarity):  # type: ignore[misc]
    pass
