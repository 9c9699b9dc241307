"""Searches all datasets at once.

Example::

    from fiftyone_milvus.everywhere import search_everywhere

    for result in search_everywhere("a red car", k=20):
        print(result.dataset, result.sample_id, result.distance)
"""

from __future__ import annotations

from fiftyone_milvus.everywhere.results import EverywhereResult, EverywhereResults, Skipped
from fiftyone_milvus.everywhere.search import search_everywhere
from fiftyone_milvus.inventory.runs import NO_MODEL

__all__ = ["NO_MODEL", "EverywhereResult", "EverywhereResults", "Skipped", "search_everywhere"]
