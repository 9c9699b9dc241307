"""Which near-duplicates belong to which kept point."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods.all_neighbors import nearest_among
from fiftyone_milvus.neighborhoods.vectors import Vectors

Groups = dict[str, list[tuple[str, float]]]


def grouped(vectors: Vectors, kept: Array, dropped: Array, ids: Sequence[str]) -> Groups:
    """Returns the dropped points by the kept point that is nearest to each.

    Args:
        vectors: the points
        kept: an ascending integer array of indexes
        dropped: an ascending integer array of the others
        ids: the IDs of all points

    Returns:
        a dict from IDs of kept points to ``(id, distance)`` of dropped ones, nearest first
    """
    if not len(kept) or not len(dropped):
        return {}
    nearest, distances = nearest_among(vectors, dropped, kept)
    groups: Groups = defaultdict(list)
    for point, owner, distance in zip(dropped, nearest, distances.tolist()):
        groups[ids[owner]].append((ids[point], distance))
    return {owner: sorted(group, key=lambda pair: pair[1]) for owner, group in groups.items()}
