"""Compact codes of a segment's vectors: what a search looks at first.

Two dimensions of a vector become 4 bits (product quantization), so that a code has a sixteenth of
the vector's size. Faiss compares a query with all codes of a segment by table lookups in
the processor's registers ("fast scan": https://arxiv.org/abs/1704.07355). The codes say only which
rows may be near; exact distances decide, see :mod:`..executor.candidates`.

They are made in the background, and kept in a file beside the segment's other indexes, see
:mod:`.sidecars`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.embedded.storage import lists, sidecars
from fiftyone_milvus.embedded.storage.lists import Lists
from fiftyone_milvus.embedded.storage.sidecars import Seqs

Floats = npt.NDArray[np.float32]

SUFFIX = ".codes"
#: Smaller segments are scanned, which takes as long.
MIN_ROWS = 8_192
MIN_BYTES = 8 << 20
_FORMAT = 3
_TRAINING_ROWS = 8_192
_BLOCK_FLOATS = 4_000_000
#: A row whose code is this many times as far off as usual is always compared exactly.
_OUTLIER = 4.0
_MOST_OUTLIERS = 0.02


def _faiss() -> Any:
    return importlib.import_module("faiss")


def pay(rows: int, dimension: int) -> bool:
    """Whether a segment of this size is searched faster with codes."""
    return rows >= MIN_ROWS and 4 * rows * dimension >= MIN_BYTES


@dataclass
class Codes:
    """The codes of one field of one segment.

    Attributes:
        index: Faiss' index; the number of a vector is its row
        metric: ``COSINE`` (codes of vectors of length one), ``IP`` or ``L2``
        offset: what is added to Faiss' scores so that they are right on average
        outliers: the rows whose codes are far off, int64
        lists: which rows are near each other
        inverse: one over each vector's length, float32; None unless the metric is ``COSINE``
    """

    index: Any
    metric: str
    offset: float
    outliers: npt.NDArray[np.int64]
    lists: Lists
    inverse: Floats | None = None

    def search(
        self, queries: Floats, count: int, allowed: npt.NDArray[np.bool_] | None
    ) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Returns the rows that seem nearest.

        Args:
            queries: a ``num_queries x num_dims`` float32 array; of length one under ``COSINE``
            count: how many rows of each query
            allowed: which rows may be found; None for all

        Returns:
            estimated scores, the higher the nearer, a ``num_queries x count`` float32 array; and
            row numbers, int64, -1 where there are fewer. Under ``L2``, a score is the squared
            distance times -1
        """
        params = self._parameters(allowed)
        found = self.index.search(np.ascontiguousarray(queries), count, params=params)
        scores, rows = found[0], found[1].astype(np.int64)
        scores = -scores if self.metric == "L2" else scores
        return np.where(rows < 0, -np.inf, scores + np.float32(self.offset)), rows

    def search_above(
        self, query: Floats, least: np.float32, allowed: npt.NDArray[np.bool_] | None
    ) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Returns all rows that seem nearer than a limit.

        Args:
            query: a ``1 x num_dims`` float32 array; of length one under ``COSINE``
            least: the estimated score that rows must exceed, as in :meth:`search`
            allowed: which rows may be found; None for all

        Returns:
            estimated scores, a float32 array, in no order; and row numbers, int64
        """
        limit = float(least) - self.offset
        found = self.index.range_search(
            np.ascontiguousarray(query),
            -limit if self.metric == "L2" else limit,
            params=self._parameters(allowed),
        )
        scores = -found[1] if self.metric == "L2" else found[1]
        return scores + np.float32(self.offset), found[2].astype(np.int64)

    def _parameters(self, allowed: npt.NDArray[np.bool_] | None) -> Any:
        faiss = _faiss()
        options: dict[str, Any] = {"nprobe": 1}
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            options["sel"] = faiss.IDSelectorBitmap(bits)
        return faiss.SearchParametersIVF(**options)


class StoppedError(Exception):
    """The codes are no longer needed."""


def build(vectors: Floats, metric: str, is_needed: Callable[[], bool]) -> Codes | None:
    """Makes the codes of vectors; None if codes tell too little about them.

    Args:
        vectors: a ``num_rows x num_dims`` float32 array, which may not be aligned
        metric: ``COSINE``, ``IP`` or ``L2``
        is_needed: asked now and then

    Raises:
        StoppedError: if they are no longer needed
    """
    faiss = _faiss()
    # Of this thread: searches at the same time need the other processors
    faiss.omp_set_num_threads(1)
    rows, dimension = vectors.shape
    parts = next(m for m in range(max(1, dimension // 2), dimension + 1) if dimension % m == 0)
    kind = faiss.METRIC_L2 if metric == "L2" else faiss.METRIC_INNER_PRODUCT
    quantizer = faiss.IndexFlat(dimension, kind)
    index = faiss.IndexIVFPQFastScan(quantizer, dimension, 1, parts, 4, kind)
    quantizer.this.disown()
    index.own_fields = True
    index.by_residual = False
    index.pq.cp.niter = 10
    some = np.sort(np.random.default_rng(0).permutation(rows)[:_TRAINING_ROWS])
    sample = prepared(np.stack([vectors[row] for row in some.tolist()]), metric)[0]
    index.train(sample)
    squares = np.empty(rows, dtype=np.float32)
    inverse = np.empty(rows, dtype=np.float32)
    size = max(1024, _BLOCK_FLOATS // dimension)

    def blocks() -> Iterator[Floats]:
        for start in range(0, rows, size):
            if not is_needed():
                raise StoppedError
            block, inverse[start : start + size] = prepared(vectors[start : start + size], metric)
            yield block

    for start, block in zip(range(0, rows, size), blocks(), strict=True):
        index.add(block)
        apart = block - index.pq.decode(index.pq.compute_codes(block))
        squares[start : start + size] = np.einsum("ij,ij->i", apart, apart)
    outliers = np.flatnonzero(squares > _OUTLIER**2 * np.median(squares)).astype(np.int64)
    if len(outliers) > _MOST_OUTLIERS * rows or not np.isfinite(squares).all():
        return None
    offset = -float(squares.mean(dtype=np.float64)) if metric == "L2" else 0.0
    near = lists.build(blocks, sample, rows, metric)
    return Codes(index, metric, offset, outliers, near, inverse if metric == "COSINE" else None)


def prepared(vectors: Floats, metric: str) -> tuple[Floats, Floats]:
    """Aligned vectors, of length one under ``COSINE``, and one over their lengths."""
    block = np.ascontiguousarray(vectors, dtype=np.float32)
    block = block if block.flags.aligned else block.copy()
    if metric != "COSINE":
        return block, np.ones(len(block), np.float32)
    norms = np.linalg.norm(block, axis=1)
    norms[norms == 0] = 1.0
    inverse = (1.0 / norms).astype(np.float32)
    return block * inverse[:, None], inverse


def path(folder: str, data_file: str, field: str) -> Path:
    """The file of the codes of a segment; see :func:`.sidecars.path`."""
    return sidecars.path(folder, data_file, field, SUFFIX)


def save(codes: Codes | None, file: Path, seqs: Seqs) -> None:
    """Writes codes to a file, whole or not at all; a full disk is logged.

    Args:
        codes: the codes; None writes that this segment has none
        file: the file
        seqs: the sequence numbers of the segment's rows
    """
    about: dict[str, Any] = {"format": _FORMAT}
    if codes is None:
        sidecars.save(file, seqs, about)
        return
    outliers = codes.outliers.tolist()
    about |= {"metric": codes.metric, "offset": codes.offset, "outliers": outliers}
    about |= codes.lists.about()
    rest = codes.lists.to_bytes()
    rest += b"" if codes.inverse is None else codes.inverse.tobytes()
    sidecars.save(file, seqs, about, codes.index, rest)


def load(file: Path, metric: str, seqs: Seqs) -> tuple[bool, Codes | None]:
    """Reads codes.

    Args:
        file: the file
        metric: the metric that they must be for
        seqs: the sequence numbers of the segment's rows

    Returns:
        whether the file is there and intact, and the codes, if the segment has some
    """
    found = sidecars.load(file, seqs, {"format": _FORMAT, "metric": metric})
    if found is None or "metric" not in found.about:
        return found is not None, None
    about, rest, inverse = found.about, found.rest, None
    outliers = np.array(about["outliers"], dtype=np.int64)
    if metric == "COSINE":
        inverse = np.frombuffer(rest[-4 * len(seqs) :], "<f4")
        rest = rest[: -4 * len(seqs)]
    near = Lists.from_bytes(rest, about, len(seqs))
    return True, Codes(found.index, metric, about["offset"], outliers, near, inverse)
