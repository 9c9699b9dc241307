"""Groups of duplicates: each removed vector with the kept one that is nearest to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods.close_pairs import Pairs
from fiftyone_milvus.neighborhoods.nearest_others import nearest_others
from fiftyone_milvus.neighborhoods.vectors import Vectors

Groups = dict[str, list[tuple[str, float]]]


def grouped(
    vectors: Vectors, kept: Array, dropped: Array, ids: Sequence[str], pairs: Pairs | None = None
) -> Groups:
    """Returns the removed vectors by the kept vector that is nearest to each.

    Args:
        vectors: the vectors
        kept: an ascending integer array of positions
        dropped: an ascending integer array of the other positions
        ids: the IDs of all vectors
        pairs (None): all pairs within a distance at which each removed vector has a kept one

    Returns:
        a dict from IDs of kept vectors to ``(id, distance)`` of removed ones, nearest first
    """
    if not len(kept) or not len(dropped):
        return {}
    if pairs is None:
        inds, dists = nearest_others(vectors, dropped, 1, among=kept)
        nearest, distances = inds[:, 0], dists[:, 0]
    else:
        nearest, distances = _nearest_kept(kept, dropped, pairs)
    groups: Groups = defaultdict(list)
    for row, keep, distance in zip(dropped, nearest, distances.tolist()):
        groups[ids[keep]].append((ids[row], distance))
    return {keep: sorted(group, key=lambda pair: pair[1]) for keep, group in groups.items()}


def _nearest_kept(kept: Array, dropped: Array, pairs: Pairs) -> tuple[Array, Array]:
    """The nearest kept vector of each removed one, which may come after it, and its distance."""
    later, earlier, apart = pairs
    rows, others = np.r_[later, earlier], np.r_[earlier, later]
    chosen = np.isin(rows, dropped) & np.isin(others, kept)
    rows, others, apart = rows[chosen], others[chosen], np.r_[apart, apart][chosen]
    order = np.lexsort((others, apart, rows))
    rows, first = np.unique(rows[order], return_index=True)
    return others[order][first], apart[order][first]
