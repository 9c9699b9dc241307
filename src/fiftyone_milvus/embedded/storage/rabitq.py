"""RaBitQ codes of a segment's vectors, in lists: the index type ``IVF_RABITQ``.

K-means divides the rows into ``nlist`` lists. Of each vector, turned by a random rotation, one bit
a dimension says on which side of its list's center it is (https://arxiv.org/abs/2405.12497). It
is the index of Faiss that Milvus has from 2.6 on. A search reads the codes of the ``nprobe``
nearest lists; exact comparisons of what seems nearest decide, see
:mod:`..executor.vector_indexes`.
"""

from __future__ import annotations

import hashlib
import importlib
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.embedded.storage import sidecars
from fiftyone_milvus.embedded.storage.codes import StoppedError, prepared
from fiftyone_milvus.embedded.storage.sidecars import Seqs

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

SUFFIX = ".rabitq"
#: As on a server, smaller segments have no index: all of their rows are compared.
MIN_ROWS = 1_024
_FORMAT = 1
#: Fewer lists than were asked for where they would have fewer rows, as on a server.
_ROWS_OF_A_LIST = 39
_ROWS_OF_A_CENTER, _ITERATIONS = 32, 6
_BLOCK_FLOATS = 4_000_000

_rotations: weakref.WeakValueDictionary[bytes, Floats] = weakref.WeakValueDictionary()


def _faiss() -> Any:
    return importlib.import_module("faiss")


@dataclass(frozen=True)
class Rabitq:
    """The codes of one field of one segment.

    Attributes:
        index: Faiss' index; the number of a vector is its row
        rotation: a ``num_dims x num_dims`` float32 array, which vectors are multiplied with
    """

    index: Any
    rotation: Floats

    def search(
        self,
        queries: Floats,
        count: int,
        nprobe: int,
        query_bits: int,
        allowed: npt.NDArray[np.bool_] | None,
    ) -> Rows:
        """Returns the rows that seem nearest.

        Args:
            queries: a ``num_queries x num_dims`` float32 array; of length one under ``COSINE``
            count: how many rows of each query
            nprobe: how many lists are looked at
            query_bits: the bits of a query's dimensions, at most 8; 0 for all 32, which takes long
            allowed: which rows may be found; None for all

        Returns:
            a ``num_queries x count`` int64 array, -1 where there are fewer
        """
        faiss = _faiss()
        params = faiss.IVFRaBitQSearchParameters()
        params.nprobe, params.qb = min(nprobe, self.index.nlist), query_bits
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            selector = faiss.IDSelectorBitmap(bits)
            params.sel = selector
        turned = np.ascontiguousarray(queries @ self.rotation)
        found: Rows = self.index.search(turned, count, params=params)[1].astype(np.int64)
        return found


def build(vectors: Floats, metric: str, lists: int, is_needed: Callable[[], bool]) -> Rabitq:
    """Makes the codes of vectors.

    Args:
        vectors: a ``num_rows x num_dims`` float32 array, which may not be aligned
        metric: ``COSINE``, ``IP`` or ``L2``
        lists: into how many lists to divide the rows, at most
        is_needed: asked now and then

    Raises:
        StoppedError: if they are no longer needed
    """
    faiss = _faiss()
    # Of this thread: searches at the same time need the other processors
    faiss.omp_set_num_threads(1)
    rows, dimension = vectors.shape
    number = max(1, min(lists, rows // _ROWS_OF_A_LIST))
    rng = np.random.default_rng(0)
    turns = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0].astype(np.float32)
    rotation = _shared(np.ascontiguousarray(turns))
    some = np.sort(rng.permutation(rows)[: _ROWS_OF_A_CENTER * number])
    sample = prepared(np.stack([vectors[row] for row in some.tolist()]), metric)[0] @ rotation
    means = faiss.Kmeans(
        dimension, number, niter=_ITERATIONS, seed=1, min_points_per_centroid=1,
        max_points_per_centroid=_ROWS_OF_A_CENTER,
    )  # fmt: skip
    means.train(sample)
    # Of vectors of length one, the nearest are those with the largest cosine
    kind = faiss.METRIC_INNER_PRODUCT if metric == "IP" else faiss.METRIC_L2
    quantizer = faiss.IndexFlat(dimension, kind)
    quantizer.add(np.ascontiguousarray(means.centroids))
    index = faiss.IndexIVFRaBitQ(quantizer, dimension, number, kind)
    quantizer.this.disown()
    index.own_fields = True
    index.train(sample)
    size = max(1024, _BLOCK_FLOATS // dimension)
    for start in range(0, rows, size):
        if not is_needed():
            raise StoppedError
        block = prepared(vectors[start : start + size], metric)[0] @ rotation
        ids = np.arange(start, start + len(block), dtype=np.int64)
        # Each row is in the list of its nearest center, under IP too
        nearest = np.ascontiguousarray(means.index.search(block, 1)[1][:, 0])
        index.add_core(len(block), *map(faiss.swig_ptr, (block, ids, nearest)))
    return Rabitq(index, rotation)


def save(found: Rabitq, file: Path, seqs: Seqs, metric: str, lists: int) -> None:
    """Writes codes to a file, see :func:`.sidecars.save`; what they are for is in :func:`load`."""
    about = {"format": _FORMAT, "metric": metric, "nlist": lists}
    sidecars.save(file, seqs, about, found.index, found.rotation.tobytes())


def load(file: Path, seqs: Seqs, metric: str, lists: int) -> Rabitq | None:
    """Reads codes.

    Args:
        file: the file
        seqs: the sequence numbers of the segment's rows
        metric: the metric that they must be for
        lists: the number of lists that was asked for

    Returns:
        None if the file is not there, not intact, or of other codes
    """
    asked = {"format": _FORMAT, "metric": metric, "nlist": lists}
    found = sidecars.load(file, seqs, asked)
    if found is None or found.index is None:
        return None
    dimension = found.index.d
    return Rabitq(
        found.index, _shared(np.frombuffer(found.rest, "<f4").reshape(dimension, dimension))
    )


def _shared(rotation: Floats) -> Floats:
    """The same array for the same rotation, which segments of a dimension usually have."""
    return _rotations.setdefault(hashlib.sha256(rotation.tobytes()).digest(), rotation)
