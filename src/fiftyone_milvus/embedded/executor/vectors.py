"""A part's vectors, used where they are: in memory, or in a mapped file.

In a file they may not be aligned. Numpy copies such vectors before each product; Faiss' functions
read them as they are, and for few queries they are as fast as a matrix product.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.embedded.storage.block_checksums import BlockChecksums

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

#: Up to so many queries, Faiss' functions are as fast as a matrix product.
FEW_QUERIES = 4
#: What a thread does at once, in bytes of vectors.
_SHARE_BYTES = 8 << 20
#: With several queries, what is compared at once fits into a processor's cache.
_CACHED_BYTES = 256 << 10


def _faiss() -> Any:
    return importlib.import_module("faiss")


def _one_thread_each() -> None:
    _faiss().omp_set_num_threads(1)


THREADS = os.cpu_count() or 1
threads = ThreadPoolExecutor(
    THREADS, thread_name_prefix="fiftyone-milvus-search", initializer=_one_thread_each
)
"""Where parts of one search run at the same time. A task of it must not wait for another."""


class Vectors:
    """Vectors of one field, which are verified before they are first used.

    Args:
        data: a ``num_rows x num_dims`` float32 array
        checksums (None): what verifies them, if they are not verified yet

    Attributes:
        shape: the numbers of rows and dimensions
    """

    def __init__(self, data: Floats, checksums: BlockChecksums | None = None) -> None:
        self._data, self._checksums = data, checksums
        self.shape: tuple[int, int] = data.shape

    def __len__(self) -> int:
        return self.shape[0]

    def first(self, rows: int) -> Vectors:
        """The first rows."""
        return self if rows == len(self) else Vectors(self._data[:rows], self._checksums)

    @property
    def is_aligned(self) -> bool:
        """Whether consecutive rows need no copy."""
        return bool(self._data.flags.aligned)

    def take(self, rows: Rows) -> Floats:
        """Some rows, as a copy."""
        self._verify(rows)
        if self.is_aligned:
            return self._data.take(rows, axis=0)
        found: Floats = self._data.view(np.uint8).take(rows, axis=0).view(np.float32)
        return found

    def block(self, rows: slice) -> Floats:
        """Consecutive rows, aligned."""
        self._verify(slice(rows.start, min(rows.stop, len(self))))
        found = self._data[rows]
        return found if found.flags.aligned else found.copy()

    def scores(self, queries: Floats, metric: str) -> Floats:
        """Compares all rows with few queries.

        Args:
            queries: a ``num_queries x num_dims`` float32 array
            metric: ``L2`` for squared distances times -1, else for inner products

        Returns:
            a ``num_queries x num_rows`` float32 array
        """
        found = np.empty((len(queries), len(self)), np.float32)
        asked = np.ascontiguousarray(queries)
        step = _SHARE_BYTES if len(asked) == 1 else _CACHED_BYTES
        step = max(1, step // (4 * self.shape[1]))

        def compare(start: int, stop: int) -> None:
            self._verify(slice(start, stop))
            for at in range(start, stop, step):
                some = self._data[at : min(at + step, stop)]
                for query, line in zip(asked, found, strict=True):
                    _compare(query, some, line[at : at + len(some)], metric)

        in_shares(compare, len(self), self.shape[1])
        return found

    def scores_of(self, rows: Rows, query: Floats, metric: str) -> Floats:
        """Compares some rows with one query, without a copy of them, in this thread.

        Args:
            rows: row numbers, int64, none below 0
            query: a float32 array of length ``num_dims``
            metric: ``L2`` for squared distances times -1, else for inner products

        Returns:
            a float32 array of length ``num_rows``
        """
        faiss = _faiss()
        found = np.empty(len(rows), np.float32)
        ids, asked = np.ascontiguousarray(rows, np.int64), np.ascontiguousarray(query)
        by_row = faiss.fvec_L2sqr_by_idx if metric == "L2" else faiss.fvec_inner_products_by_idx
        if len(ids):
            self._verify(ids)
            faiss.omp_set_num_threads(1)  # to wake others takes longer than most of this
            by_row(*map(faiss.swig_ptr, (found, asked, self._data, ids)), len(asked), 1, len(ids))
        return -found if metric == "L2" else found

    def mean(self) -> npt.NDArray[np.float64]:
        """The mean of all vectors."""
        self._verify(slice(0, len(self)))
        found: npt.NDArray[np.float64] = self._data.mean(axis=0, dtype=np.float64)
        return found

    def squares(self) -> Floats:
        """The squared length of each vector, a float32 array."""
        faiss = _faiss()
        self._verify(slice(0, len(self)))
        found = np.empty(len(self), np.float32)
        if len(found):
            faiss.fvec_norms_L2sqr(
                faiss.swig_ptr(found), faiss.swig_ptr(self._data), self.shape[1], len(found)
            )
        return found

    def _verify(self, rows: slice | Rows) -> None:
        if self._checksums is not None:
            self._checksums.verify(rows)


def _compare(query: Floats, data: Floats, found: Floats, metric: str) -> None:
    faiss = _faiss()
    of_rows = faiss.fvec_L2sqr_ny if metric == "L2" else faiss.fvec_inner_products_ny
    of_rows(*map(faiss.swig_ptr, (found, query, data)), len(query), len(data))
    if metric == "L2":
        np.negative(found, out=found)


def in_shares(work: Callable[[int, int], None], count: int, dimension: int) -> None:
    """Calls ``work(start, stop)`` for all of ``count`` vectors, in threads if there are many."""
    size = max(1, _SHARE_BYTES // (4 * dimension))
    if count > size:
        starts = range(0, count, size)
        list(threads.map(lambda start: work(start, min(start + size, count)), starts))
    elif count:
        work(0, count)
