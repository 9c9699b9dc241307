"""The rows with the largest Euclidean distance, by a scan.

Under the other metrics, they are the nearest rows of the opposite vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fiftyone_milvus.embedded.executor import scan
from fiftyone_milvus.embedded.executor.live_rows import View
from fiftyone_milvus.embedded.executor.parts import Mask
from fiftyone_milvus.embedded.executor.vectors import Floats


def search(
    view: View, masks: Sequence[Mask | None], field: str, queries: Floats, k: int
) -> scan.Hits:
    """Finds the farthest rows of each query, exactly.

    Args:
        view: the rows
        masks: for each part, which rows may be found; None for all
        field: the vector field
        queries: a ``num_queries x num_dims`` float32 array
        k: the number of hits of each query

    Returns:
        :class:`~fiftyone_milvus.embedded.executor.scan.Hits` of at most ``k`` columns, the farthest
        first, with squared distances
    """
    best = np.full((len(queries), 0), -np.inf, np.float32)
    rows = np.zeros((len(queries), 0), np.int64)
    for part, start, mask in zip(view.parts, view.offsets[:-1].tolist(), masks, strict=True):
        scores = -part.vectors(field).scores(queries, "L2")
        found = np.arange(start, start + part.rows)
        if mask is not None:
            scores, found = scores[:, mask], found[mask]
        best = np.concatenate([best, scores], axis=1)
        rows = np.concatenate([rows, np.broadcast_to(found, scores.shape)], axis=1)
        if best.shape[1] > k:
            top = np.argpartition(best, best.shape[1] - k, axis=1)[:, -k:]
            best, rows = np.take_along_axis(best, top, 1), np.take_along_axis(rows, top, 1)
    order = np.lexsort((rows, -best), axis=-1)
    return scan.Hits(np.take_along_axis(rows, order, 1), np.take_along_axis(best, order, 1))
