"""Groups of vectors of which every two are within a distance, exact copies included."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fiftyone_milvus.curation.copies import same_vectors
from fiftyone_milvus.curation.linkage import collected, complete_linkage
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods import Vectors, all_pairs

_BLOCK = 8_192
_EXACT = 256
"""Members of a group up to which their mean distances are float64."""


def grouped(vectors: Vectors, thresh: float, same: Sequence[Array] = ()) -> list[Array]:
    """Groups vectors by complete linkage; see :func:`complete_linkage`.

    Args:
        vectors: the vectors
        thresh: the largest distance of two in a group, inclusive
        same ((),): arrays of positions that are in one group, whatever their vectors

    Returns:
        an ascending int64 array of positions for each group of two or more

    Raises:
        InvalidInputError: if too many pairs are within the distance
    """
    # A thousand equal vectors are half a million pairs, which say nothing
    twins = same_vectors(vectors) if thresh >= 0 else []
    first = np.arange(len(vectors))
    for group in twins:
        first[group] = group[0]
    rows = np.unique(first)
    if twins:
        with _some(vectors, rows) as few:
            one, other, apart = collected(all_pairs(few, thresh))
    else:
        one, other, apart = collected(all_pairs(vectors, thresh))
    mapped = [np.unique(first[positions]) for positions in same]
    joined = [positions for positions in mapped if len(positions) > 1]
    found = complete_linkage(len(vectors), (rows[one], rows[other], apart), joined)
    more = {int(group[0]): group for group in twins}
    groups = []
    for group in found:
        parts = [more.pop(row, np.array([row])) for row in group.tolist()]
        groups.append(np.sort(np.concatenate(parts)))
    return groups + list(more.values())


def mean_distances(vectors: Vectors, group: Array) -> Array:
    """Returns the mean distance of each of some vectors to the others.

    Args:
        vectors: all vectors
        group: an ascending integer array of two positions or more

    Returns:
        a float64 array of the same length; to six digits if there are many
    """
    count = len(group)
    if count <= _EXACT:
        rows, cols = np.repeat(group, count), np.tile(group, count)
        apart = vectors.distances(rows, cols).reshape(count, count)
        np.fill_diagonal(apart, 0.0)
        return np.asarray(apart.sum(axis=1) / (count - 1))
    sums = np.zeros(count)
    right = vectors.right(group)
    for start in range(0, count, _EXACT):
        part = group[start : start + _EXACT]
        apart = vectors.distance(vectors.left(part) @ right.T)
        apart[np.arange(len(part)), np.arange(start, start + len(part))] = 0.0
        sums[start : start + len(part)] = apart.sum(axis=1)
    return np.array([float(f"{mean:.6g}") for mean in sums / (count - 1)])


def _some(vectors: Vectors, rows: Array) -> Vectors:
    found = Vectors(len(rows), vectors.dim, vectors.metric)
    for start in range(0, len(rows), _BLOCK):
        found.fill(start, vectors.rows(rows[start : start + _BLOCK]))
        vectors.release_pages()
    return found
