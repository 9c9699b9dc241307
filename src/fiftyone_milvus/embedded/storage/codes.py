"""Compact codes of a segment's vectors: what a search looks at first.

Two dimensions of a vector become 4 bits (product quantization), so that a code has a sixteenth of
the vector's size. Faiss compares a query with all codes of a segment by table lookups in
the processor's registers ("fast scan": https://arxiv.org/abs/1704.07355). The codes say only which
rows may be near; exact distances decide, see :mod:`..executor.candidates`.

They are made in the background, and kept in a file beside the segment's other indexes. It is not
the only copy of anything: where it is missing, of another segment, or damaged, it is made again.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.embedded.storage.fsync import fsync_file

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]

SUFFIX = ".codes"
#: Smaller segments are scanned, which takes as long.
MIN_ROWS = 8_192
MIN_BYTES = 8 << 20
_FORMAT = 2
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
        inverse: one over each vector's length, float32; None unless the metric is ``COSINE``
    """

    index: Any
    metric: str
    offset: float
    outliers: npt.NDArray[np.int64]
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
        faiss = _faiss()
        options: dict[str, Any] = {"nprobe": 1}
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            options["sel"] = faiss.IDSelectorBitmap(bits)
        params = faiss.SearchParametersIVF(**options)
        found = self.index.search(np.ascontiguousarray(queries), count, params=params)
        scores, rows = found[0], found[1].astype(np.int64)
        scores = -scores if self.metric == "L2" else scores
        return np.where(rows < 0, -np.inf, scores + np.float32(self.offset)), rows


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
    index.train(_prepared(np.stack([vectors[row] for row in some.tolist()]), metric)[0])
    squares = np.empty(rows, dtype=np.float32)
    inverse = np.empty(rows, dtype=np.float32)
    size = max(1024, _BLOCK_FLOATS // dimension)
    for start in range(0, rows, size):
        if not is_needed():
            raise StoppedError
        block, inverse[start : start + size] = _prepared(vectors[start : start + size], metric)
        index.add(block)
        apart = block - index.pq.decode(index.pq.compute_codes(block))
        squares[start : start + size] = np.einsum("ij,ij->i", apart, apart)
    outliers = np.flatnonzero(squares > _OUTLIER**2 * np.median(squares)).astype(np.int64)
    if len(outliers) > _MOST_OUTLIERS * rows or not np.isfinite(squares).all():
        return None
    offset = -float(squares.mean(dtype=np.float64)) if metric == "L2" else 0.0
    return Codes(index, metric, offset, outliers, inverse if metric == "COSINE" else None)


def _prepared(vectors: Floats, metric: str) -> tuple[Floats, Floats]:
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
    """The file of the codes of a segment.

    Args:
        folder: the folder of the partition's indexes
        data_file: the segment's data file
        field: the vector field
    """
    return Path(folder) / f"{Path(data_file).stem}.{field}{SUFFIX}"


def save(codes: Codes | None, file: Path, seqs: npt.NDArray[np.uint64]) -> None:
    """Writes codes to a file, whole or not at all; a full disk is logged.

    Args:
        codes: the codes; None writes that this segment has none
        file: the file
        seqs: the sequence numbers of the segment's rows
    """
    faiss = _faiss()
    draft = file.with_name(file.name + ".draft")
    try:
        file.parent.mkdir(exist_ok=True)
        draft.touch()
        if codes is not None:
            faiss.write_index(codes.index, str(draft))
        about: dict[str, Any] = {"format": _FORMAT, "segment": _of_segment(seqs)}
        if codes is not None:
            outliers = codes.outliers.tolist()
            about |= {"metric": codes.metric, "offset": codes.offset, "outliers": outliers}
            if codes.inverse is not None:
                # Faiss reads its own part of the file only
                with draft.open("ab") as stream:
                    stream.write(codes.inverse.tobytes())
        about["crc"] = _crc(draft)
        with draft.open("ab") as stream:
            text = json.dumps(about).encode()
            stream.write(text + len(text).to_bytes(8, "little") + b"%08x" % zlib.crc32(text))
        fsync_file(str(draft))
        draft.replace(file)
    except (OSError, RuntimeError) as error:
        logger.warning("'%s' is not saved: %s", file, error)
        with contextlib.suppress(OSError):
            draft.unlink()


def load(file: Path, metric: str, seqs: npt.NDArray[np.uint64]) -> tuple[bool, Codes | None]:
    """Reads codes.

    Args:
        file: the file
        metric: the metric that they must be for
        seqs: the sequence numbers of the segment's rows

    Returns:
        whether the file is there and intact, and the codes, if the segment has some
    """
    faiss = _faiss()
    try:
        with file.open("rb") as stream:
            stream.seek(-16, os.SEEK_END)
            tail = stream.read()
            size = int.from_bytes(tail[:8], "little")
            stream.seek(-16 - size, os.SEEK_END)
            end = stream.tell()
            text = stream.read(size)
        if zlib.crc32(text) != int(tail[8:], 16):
            raise ValueError("it was changed")
        about = json.loads(text)
        if about["format"] != _FORMAT or about["segment"] != _of_segment(seqs):
            return False, None
        if _crc(file, end) != about["crc"]:
            raise ValueError("it was changed")
        if "metric" not in about:
            return True, None
        if about["metric"] != metric:
            return False, None
        index = faiss.read_index(str(file))
        outliers = np.array(about["outliers"], dtype=np.int64)
        inverse = None
        if metric == "COSINE":
            inverse = np.fromfile(file, "<f4", len(seqs), offset=end - 4 * len(seqs))
        return True, Codes(index, metric, about["offset"], outliers, inverse)
    except FileNotFoundError:
        return False, None
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        logger.warning("'%s' is made again: %s", file, error)
        return False, None


def _of_segment(seqs: npt.NDArray[np.uint64]) -> list[int]:
    return [len(seqs), zlib.crc32(seqs.tobytes())]


def _crc(file: Path, end: int | None = None) -> int:
    crc, left = 0, file.stat().st_size if end is None else end
    with file.open("rb") as stream:
        while left > 0 and (block := stream.read(min(left, 1 << 20))):
            crc = zlib.crc32(block, crc)
            left -= len(block)
    return crc
