"""Groups of duplicates: each removed vector with the kept one that is nearest to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods.all_neighbors import nearest_others
from fiftyone_milvus.neighborhoods.vectors import Vectors

Groups = dict[str, list[tuple[str, float]]]


def grouped(vectors: Vectors, kept: Array, dropped: Array, ids: Sequence[str]) -> Groups:
    """Returns the removed vectors by the kept vector that is nearest to each.

    Args:
        vectors: the vectors
        kept: an ascending integer array of positions
        dropped: an ascending integer array of the other positions
        ids: the IDs of all vectors

    Returns:
        a dict from IDs of kept vectors to ``(id, distance)`` of removed ones, nearest first
    """
    if not len(kept) or not len(dropped):
        return {}
    nearest, distances = nearest_others(vectors, dropped, 1, among=kept)
    groups: Groups = defaultdict(list)
    for row, keep, distance in zip(dropped, nearest[:, 0], distances[:, 0].tolist()):
        groups[ids[keep]].append((ids[row], distance))
    return {keep: sorted(group, key=lambda pair: pair[1]) for keep, group in groups.items()}
