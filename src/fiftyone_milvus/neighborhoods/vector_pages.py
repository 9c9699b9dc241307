"""Reads the vectors of an index page by page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.errors import MissingIDsError
from fiftyone_milvus.neighborhoods.vectors import SHOW_FROM, Vectors

_PAGE_BYTES = 8 << 20


def read(
    collection: MilvusCollection, ids: Sequence[str], metric: str, *, progress: Any = None
) -> Vectors:
    """Returns the vectors of IDs, in their order.

    Args:
        collection: the collection to read
        ids: primary keys
        metric: a key of :data:`fiftyone_milvus.metrics.METRICS`
        progress (None): a progress setting of FiftyOne

    Returns:
        :class:`Vectors` of length ``len(ids)``, to be closed by a ``with`` statement

    Raises:
        MissingIDsError: if some of them were removed from the collection
        FiftyOneMilvusError: if Milvus can't be reached or refuses
    """
    if not ids:
        return Vectors(0, 1, metric)
    vectors = Vectors(len(ids), collection.layout.dimension, metric)
    read_into(vectors, 0, collection, ids, progress=progress)
    return vectors


def read_into(
    vectors: Vectors,
    start: int,
    collection: MilvusCollection,
    ids: Sequence[str],
    *,
    progress: Any = None,
) -> None:
    """Reads the vectors of IDs, in their order, into others.

    Args:
        vectors: are filled
        start: the position of the first
        collection: the collection to read
        ids: primary keys
        progress (None): a progress setting of FiftyOne

    Raises:
        MissingIDsError: if some of them were removed from the collection
        FiftyOneMilvusError: if Milvus can't be reached or refuses
    """
    size = max(1, _PAGE_BYTES // (4 * vectors.dim))
    show = len(ids) >= SHOW_FROM
    with ProgressBar(len(ids), "Reading vectors", show=show, progress=progress) as bar:
        for at in range(0, len(ids), size):
            page = list(ids[at : at + size])
            rows = collection.fetch(page)
            if len(rows.ids) != len(page):
                missing = next(i for i in page if i not in set(rows.ids))
                raise MissingIDsError(
                    f"Found {len(page) - len(rows.ids)} IDs (for example '{missing}') that were "
                    f"removed from the {collection.where} meanwhile; call reload() and try again"
                )
            vectors.fill(start + at, rows.vectors)
            bar.update(len(page))
