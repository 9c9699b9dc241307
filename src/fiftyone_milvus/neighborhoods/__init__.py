"""The neighborhoods of all vectors of an index: nearest neighbors, duplicates, what to keep.

The vectors are read once. Pairs are compared in tiles of float32 products, which use all cores,
each pair once where that suffices. For pairs within a small distance, most products are left out.
Pairs within the rounding error of a threshold are decided by
float64 distances. Memory holds the vectors (above a limit, a temporary file does), some tiles and
the result.
"""

from __future__ import annotations

from fiftyone_milvus.neighborhoods.all_neighbors import (
    all_pairs,
    nearest,
    nearest_of_all,
    within,
)
from fiftyone_milvus.neighborhoods.close_pairs import Pairs, pairs_within
from fiftyone_milvus.neighborhoods.groups import grouped
from fiftyone_milvus.neighborhoods.nearest_others import nearest_others
from fiftyone_milvus.neighborhoods.selection import Greedy, first_of_pairs
from fiftyone_milvus.neighborhoods.threshold import keep_count
from fiftyone_milvus.neighborhoods.vector_pages import read, read_into
from fiftyone_milvus.neighborhoods.vectors import Vectors

__all__ = [
    "Greedy", "Pairs", "Vectors", "all_pairs", "first_of_pairs", "grouped", "keep_count", "nearest",
    "nearest_of_all", "nearest_others", "pairs_within", "read", "read_into", "within",
]  # fmt: skip
