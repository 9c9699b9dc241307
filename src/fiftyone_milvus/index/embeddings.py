"""Reads the embeddings of an index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.collection import filters
from fiftyone_milvus.collection.recent import Rows
from fiftyone_milvus.index.base import IndexBase
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.numbers import check_batch_size, check_flag

Embeddings = tuple[Array, npt.NDArray[np.str_], "npt.NDArray[np.str_] | None"]
"""Embeddings, their sample IDs, and their label IDs if they are of patches."""

BATCH_BYTES = 8 << 20


class IndexEmbeddings(IndexBase):
    """Reads embeddings."""

    def get_embeddings(
        self,
        sample_ids: Sequence[str] | None = None,
        label_ids: Sequence[str] | None = None,
        allow_missing: bool = True,
        warn_missing: bool = False,
    ) -> Embeddings:
        """Reads embeddings from the index, in the order of the given IDs.

        The arrays are in memory as a whole; :meth:`iter_embeddings` reads them in parts.

        Args:
            sample_ids (None): a sample ID or a list of them; for patches, all patches of these
                samples. By default, with no ``label_ids`` either, the whole index
            label_ids (None): a label ID or a list of them, for patches
            allow_missing (True): whether to ignore (True) or raise an error (False) when an ID is
                not in the index
            warn_missing (False): whether to log a warning if IDs are not in the index

        Returns:
            a tuple of

            -   a ``num_embeddings x num_dims`` float32 array
            -   a ``num_embeddings`` array of sample IDs
            -   a ``num_embeddings`` array of label IDs, or None if it is not an index of patches

        Raises:
            InvalidInputError: if one is no ID
            MissingIDsError: if IDs are not in the index and ``allow_missing`` is False
        """
        allow_missing = check_flag("allow_missing", allow_missing)
        warn_missing = check_flag("warn_missing", warn_missing)
        ids, by_sample = self._lookup.given(sample_ids, label_ids)
        checked = not allow_missing or warn_missing
        if not self._collection.present():
            self._lookup.check_missing(ids or (), (), allow_missing, warn_missing)
            empty = np.array([], dtype=str)
            return np.empty((0, 0), np.float32), empty, empty if self._patches else None
        if ids is None:
            ids, checked = self._collection.known_ids(with_samples=False)[0], False
        elif by_sample:
            ids = self._lookup.find(ids, by_sample, allow_missing, warn_missing)
            checked = False
        rows = self._collection.fetch(ids, strong=checked)
        if checked and len(rows.ids) < len(ids):
            self._lookup.check_missing(ids, set(rows.ids), allow_missing, warn_missing)
        return self._arrays(rows)

    def iter_embeddings(self, batch_size: int | None = None) -> Iterator[Embeddings]:
        """Reads the embeddings of the index in parts, each once, in bounded memory.

        If :meth:`use_view` restricts the index to a view, reads those of the view, in its order.
        Embeddings that are added or removed at the same time may be included or not.

        Example::

            index = dataset.load_brain_results("similar")
            total = 0
            for embeddings, sample_ids, _ in index.iter_embeddings():
                total += embeddings.sum(axis=0, dtype=float)
            mean = total / index.index_size

        Args:
            batch_size (None): how many embeddings to yield at a time. The last part is smaller,
                and so are parts of a view that is not completely in the index. By default, 8 MB

        Yields:
            tuples of

            -   a ``num_embeddings x num_dims`` float32 array
            -   a ``num_embeddings`` array of sample IDs
            -   a ``num_embeddings`` array of label IDs, or None if it is not an index of patches

        Raises:
            InvalidInputError: if ``batch_size`` is not an integer above 0
        """
        # Checked now, not when the first part is read
        return self._iterate(check_batch_size(batch_size))

    def _iterate(self, batch_size: int | None) -> Iterator[Embeddings]:
        collection = self._collection
        if not collection.present():
            return
        size = batch_size or max(1, BATCH_BYTES // (4 * collection.layout.dimension))
        scope = self._scope()
        if scope is None:
            pages = collection.pages(size)
        else:
            pages = collection.fetch_pages(filters.batches(scope.ids(), size))
        for rows in pages:
            if rows.ids:
                yield self._arrays(rows)

    def _arrays(self, rows: Rows) -> Embeddings:
        ids, sample_ids = self._lookup.with_samples(rows.ids, rows.sample_ids)
        if not self._patches:
            return rows.vectors, np.array(ids, dtype=str), None  # whatever a field `sample_id` says
        labels = np.array(ids, dtype=str)
        return rows.vectors, np.array(sample_ids, dtype=str), labels
