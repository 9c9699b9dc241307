"""Exact copies: vectors of the same bytes, and files of the same bytes."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.metrics import Array
from fiftyone_milvus.neighborhoods import Vectors

_BLOCK = 8_192
_CHUNK = 1 << 20


def same_vectors(vectors: Vectors) -> list[Array]:
    """Returns the positions of vectors that are equal, for each such vector.

    Args:
        vectors: the vectors

    Returns:
        ascending int64 arrays of two positions or more. None if the metric is ``dotproduct``, and
        none of zero vectors if it is ``cosine``: equal ones are not at distance 0
    """
    if vectors.metric == "dotproduct":
        return []
    digests: list[Hashable] = []
    for start in range(0, len(vectors), _BLOCK):
        part = np.ascontiguousarray(vectors.rows(slice(start, start + _BLOCK)))
        digests += [hashlib.blake2b(row, digest_size=16).digest() for row in part]
        vectors.release_pages()
    if vectors.metric == "cosine":
        for zero in np.flatnonzero(vectors.lengths == 0).tolist():
            digests[zero] = zero
    return _repeated(digests)


def same_files(paths: Sequence[str], progress: bool | None = None) -> tuple[list[Array], int]:
    """Returns the positions of files with the same content, for each such content.

    Only files of the same size are read.

    Args:
        paths: the files
        progress (None): a progress setting of FiftyOne

    Returns:
        ascending int64 arrays of two positions or more, and the number of files that could not be
        read
    """
    sizes = [_size(path) for path in paths]
    unread = sizes.count(None)
    alike = [group for group in _repeated(sizes) if sizes[group[0]] is not None]
    found: list[Array] = []
    total = sum(map(len, alike))
    with ProgressBar(
        total, "Reading files", show=total > 0, what="files", progress=progress
    ) as bar:
        for group in alike:
            digests = [_digest(paths[i]) for i in group.tolist()]
            unread += digests.count(None)
            found += [group[one] for one in _repeated(digests) if digests[one[0]] is not None]
            bar.update(len(group))
    return found, unread


def _repeated(values: Iterable[Hashable]) -> list[Array]:
    places: defaultdict[Hashable, list[int]] = defaultdict(list)
    for at, value in enumerate(values):
        places[value].append(at)
    return [np.array(group) for group in places.values() if len(group) > 1]


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def _digest(path: str) -> bytes | None:
    digest = hashlib.blake2b(digest_size=20)
    try:
        with open(path, "rb") as file:
            while block := file.read(_CHUNK):
                digest.update(block)
    except OSError:
        return None
    return digest.digest()
