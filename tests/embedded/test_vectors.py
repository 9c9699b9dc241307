"""Vectors that are compared where they are, aligned or not, next to numpy."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_milvus.embedded.executor import scan
from fiftyone_milvus.embedded.executor.parts import LivePart, Part
from fiftyone_milvus.embedded.executor.vectors import FEW_QUERIES, Vectors
from fiftyone_milvus.embedded.storage.keys import AnyKeys

ROWS, DIMENSION = 3_000, 48


def _vectors(offset: int) -> np.ndarray:
    """The same vectors, ``offset`` bytes behind an aligned place, and read-only as a file is."""
    values = np.random.default_rng(0).normal(size=(ROWS, DIMENSION)).astype("f4")
    values[7] = 0
    values[100:140] = values[99]
    content = memoryview(bytes(64 + offset) + values.tobytes())
    found = np.frombuffer(content, "<f4", ROWS * DIMENSION, 64 + offset).reshape(ROWS, DIMENSION)
    assert found.flags.aligned == (offset == 0)
    return found


class _InMemory(Part):
    def __init__(self, vectors: np.ndarray) -> None:
        super().__init__(AnyKeys(list(range(len(vectors)))), np.arange(len(vectors), dtype="u8"))
        self._vectors["vector"] = vectors


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_rows_are_the_same_at_any_place(offset):
    data = _vectors(offset)
    vectors = Vectors(data)
    rows = np.array([5, 2, 2, ROWS - 1])
    assert vectors.block(slice(10, 20)).tolist() == data[10:20].tolist()
    assert vectors.take(rows).tolist() == data[rows].tolist()
    assert len(vectors.first(12)) == 12
    np.testing.assert_allclose(vectors.squares(), (data.astype("f8") ** 2).sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize("metric", ["COSINE", "IP", "L2"])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("queries", [1, FEW_QUERIES, FEW_QUERIES + 1])
@pytest.mark.parametrize("share", [None, 0.9, 0.3, 0.001])
def test_few_and_many_queries_find_what_numpy_finds(metric, offset, queries, share, monkeypatch):
    monkeypatch.setattr("fiftyone_milvus.embedded.executor.vectors._SHARE_BYTES", 100_000)
    rng = np.random.default_rng(1)
    data = _vectors(offset)
    asked = (data[rng.choice(ROWS, queries)] + rng.normal(size=(queries, DIMENSION))).astype("f4")
    asked = scan.normalize(asked) if metric == "COSINE" else asked
    allowed = None if share is None else rng.random(ROWS) < share
    hits = scan.search(LivePart(_InMemory(data), ROWS, None), allowed, "vector", asked, 25, metric)

    exact = data.astype("f8")
    if metric == "L2":
        truth = ((asked[:, None] - exact[None]) ** 2).sum(axis=2)
    else:
        lengths = np.linalg.norm(exact, axis=1) if metric == "COSINE" else np.ones(ROWS)
        truth = -asked @ (exact / np.where(lengths == 0, 1, lengths)[:, None]).T
    if allowed is not None:
        truth[:, ~allowed] = np.inf
        assert allowed[hits.rows].all()
    count = min(25, ROWS if allowed is None else int(allowed.sum()))
    expected = np.sort(truth, axis=1)[:, :count]
    of_hits = np.take_along_axis(truth, hits.rows, axis=1)
    np.testing.assert_allclose(of_hits, expected, rtol=1e-4, atol=1e-4)
    scores = hits.scores if metric == "L2" else -hits.scores
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)
    assert all(len({*rows.tolist()}) == count for rows in hits.rows)
