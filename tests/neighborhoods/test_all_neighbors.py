"""Whole-index work against plain numpy: every metric, ties, and tiles with many borders."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator

import numpy as np
import pytest
from fiftyone.brain.similarity import DuplicatesMixin

from fiftyone_milvus import neighborhoods
from fiftyone_milvus.neighborhoods import (
    Greedy,
    Vectors,
    cells,
    close_pairs,
    keep_count,
    near_cells,
    selection,
    threshold,
)
from fiftyone_milvus.neighborhoods.vectors import Tiles
from tests.support import oracle

KINDS = ("clustered", "copies", "equal", "zeros", "integers", "long", "sparse")


def _data(kind: str, count: int, dim: int = 12) -> np.ndarray:
    rng = np.random.default_rng(count)
    noise = rng.normal(size=(count, dim))
    if kind == "clustered":
        data = 3 * rng.normal(size=(6, dim))[rng.integers(6, size=count)] + noise
    elif kind == "copies":
        data = noise[rng.integers(max(1, count // 4), size=count)] if count else noise
        data = data + 1e-5 * rng.normal(size=data.shape) * rng.integers(0, 2, size=(count, 1))
    elif kind == "equal":
        data = np.full((count, dim), 0.3)
    elif kind == "zeros":
        data = noise * rng.integers(0, 2, size=(count, 1))
    elif kind == "integers":
        data = rng.integers(1, 4, size=(count, dim))
    elif kind == "long":
        data = 100 + 1e3 * noise
    else:
        data = np.eye(dim)[rng.integers(dim, size=count)]
    return np.asarray(data, dtype=np.float32)


def _square(metric: str, data: np.ndarray) -> np.ndarray:
    """The oracle's distances, with what numpy's products blur of equal vectors put right."""
    with np.errstate(invalid="ignore"):
        square = oracle.distances(metric, data, data)
    if metric == "cosine":
        lengths = np.linalg.norm(data.astype(np.float64), axis=1)
        unit = data / np.where(lengths == 0, 1, lengths)[:, None]
        square = 0.5 * ((unit[:, None] - unit[None]) ** 2).sum(axis=2)
        square[(lengths == 0)[:, None] | (lengths == 0)] = 1.0
    return square


def _clear(square: np.ndarray, quantile: float) -> float:
    """A threshold that no distance is near."""
    flat = np.unique(square[~np.eye(len(square), dtype=bool)])
    if len(flat) < 2:
        return float(flat[0]) + 1e-3 if len(flat) else 0.5
    at = int(quantile * (len(flat) - 2))
    low = max(0, at - 20)
    gaps = np.diff(flat[low : at + 22])
    best = low + int(np.argmax(gaps))
    return float((flat[best] + flat[best + 1]) / 2)


def _kept(square: np.ndarray, thresh: float) -> list[int]:
    keep: list[int] = []
    for i, row in enumerate(square):
        if not keep or row[keep].min() > thresh:
            keep.append(i)
    return keep


class _FiftyOnes(DuplicatesMixin):
    """FiftyOne's own search of the threshold, on a matrix."""

    def __init__(self, square: np.ndarray) -> None:
        super().__init__()
        self._square = square
        self.tried: list[float] = []

    def _radius_neighbors(self, query=None, thresh=None, return_dists=False):
        self.tried.append(thresh)
        assert len(self.tried) < 200
        near = self._square <= thresh
        np.fill_diagonal(near, False)
        return [np.flatnonzero(row) for row in near]


# The kind of points, how many, and the rows and columns of a tile
DATA = [*((kind, 96, 7, 5) for kind in KINDS), *((kind, 200, 64, 32) for kind in KINDS[:2])]
DATA += [("integers", count, 7, 5) for count in (0, 1, 2, 5)]
CASES = [(metric, *of) for metric, of in itertools.product(oracle.METRICS, DATA)]


@pytest.fixture(params=CASES, ids=lambda case: "-".join(map(str, case)))
def case(request: pytest.FixtureRequest) -> Iterator[tuple[Vectors, Tiles, np.ndarray]]:
    metric, kind, count, *size = request.param
    data = _data(kind, count)
    with Vectors.of(data, metric) as vectors:
        yield vectors, Tiles(vectors, *size), _square(metric, data)


def _close(found: np.ndarray, expected: np.ndarray) -> None:
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6 * scale)


def _nearest(vectors: Vectors, found: np.ndarray, expected: np.ndarray) -> None:
    """Fails unless these are the smallest distances as far as float32 products can tell."""
    everyone = slice(0, len(vectors))
    blur = 2 * float(vectors.error(everyone, everyone).max())
    if vectors.metric == "euclidean":
        assert (found**2 <= expected**2 + 2 * blur).all()
    else:
        assert (found <= expected + blur).all()


@pytest.mark.parametrize("k", [1, 30, None])
def test_the_nearest_of_every_point(case, k):
    vectors, tiles, square = case
    np.fill_diagonal(square, np.inf)
    inds, dists = neighborhoods.nearest(vectors, k, tiles)
    count = len(square)
    want = max(0, count - 1) if k is None else max(0, min(k, count - 1))
    assert len(inds) == len(dists) == count
    expected = np.sort(square, axis=1)
    for i, (found, apart) in enumerate(zip(inds, dists, strict=True)):
        assert found.shape == apart.shape == (want,)
        assert found.dtype == np.int64
        assert apart.dtype == np.float64
        assert len({i, *found.tolist()}) == want + 1
        assert (np.diff(apart) >= 0).all()
        _close(apart, square[i, found])
        _nearest(vectors, apart, expected[i, :want])


@pytest.mark.parametrize("k", [1, 30])
def test_the_nearest_of_every_point_in_cells(case, k, many_cells, monkeypatch):
    """Of so few points all are in the sample, so that none of their neighbors is missed."""
    monkeypatch.setattr(near_cells, "FROM", 2)
    monkeypatch.setattr(near_cells, "_MOST", 1.0)
    monkeypatch.setattr(near_cells, "RECALL", 1.0)
    monkeypatch.setattr(near_cells, "BLOCK_BYTES", 2000)
    test_the_nearest_of_every_point(case, k)


def test_too_few_in_the_cells_are_compared_with_all(case, many_cells, monkeypatch):
    monkeypatch.setattr(near_cells, "FROM", 2)
    monkeypatch.setattr(near_cells, "RECALL", 0.01)
    monkeypatch.setattr(near_cells, "BLOCK_BYTES", 2000)
    test_the_nearest_of_every_point(case, 95)


@pytest.mark.parametrize(
    ("metric", "kind", "scale"),
    [
        *((metric, "few", 1) for metric in oracle.METRICS),
        ("cosine", "many", 1),
        ("euclidean", "overlapping", 3),
    ],
)
def test_cells_hold_nearly_all_neighbors(metric, kind, scale, monkeypatch):
    rng = np.random.default_rng(4)
    count, k = 12_000, 10
    centers = rng.normal(size=(300 if kind == "many" else 12, 24))
    data = centers[rng.integers(len(centers), size=count)]
    # Most of it in a few directions, as embeddings are
    noise = rng.normal(size=data.shape) * np.geomspace(1, 0.02, data.shape[1])
    data = (data + 0.4 * scale * noise).astype(np.float32)
    if metric == "dotproduct":
        data /= np.linalg.norm(data, axis=1, keepdims=True)
    monkeypatch.setattr(near_cells, "FROM", 2)
    monkeypatch.setattr(near_cells, "_MOST", 0.6)
    with Vectors.of(data, metric) as vectors:
        found = near_cells.nearest_of_all(vectors, k, Tiles(vectors))
        assert found is not None
        monkeypatch.setattr(near_cells, "FROM", count + 1)
        true, _ = neighborhoods.nearest_of_all(vectors, k)
    assert not (found[0] == np.arange(count)[:, None]).any()
    hits = [len({*one} & {*other}) for one, other in zip(found[0].tolist(), true.tolist())]
    assert sum(hits) / true.size >= 0.999


def test_all_are_compared_where_cells_do_not_help(monkeypatch):
    data = np.random.default_rng(5).normal(size=(4000, 64)).astype(np.float32)
    monkeypatch.setattr(near_cells, "FROM", 2)
    with Vectors.of(data, "cosine") as vectors:
        assert near_cells.nearest_of_all(vectors, 5, Tiles(vectors)) is None


@pytest.mark.parametrize("quantile", [0.0, 0.03, 1.0])
def test_the_points_within_a_distance(case, quantile):
    vectors, tiles, square = case
    thresh = _clear(square, quantile)
    np.fill_diagonal(square, np.inf)
    inds, dists = neighborhoods.within(vectors, thresh, tiles)
    assert len(inds) == len(dists) == len(square)
    for row, found, apart in zip(square, inds, dists, strict=True):
        assert found.tolist() == np.flatnonzero(row <= thresh).tolist()
        assert found.dtype == np.int64
        _close(apart, row[found])


@pytest.fixture
def many_cells(monkeypatch):
    """Few vectors are treated like many: in cells, and bounded by some of their components."""
    monkeypatch.setattr(close_pairs, "PAYS_FROM", 2)
    monkeypatch.setattr(cells, "_CELL_ROWS", 8)
    monkeypatch.setattr(close_pairs, "_COMPONENTS", 4)
    monkeypatch.setattr(cells, "BLOCK_BYTES", 2000)
    monkeypatch.setattr(close_pairs, "BLOCK_BYTES", 2000)


@pytest.mark.parametrize("dense", [0.0, 2.0])
@pytest.mark.parametrize("quantile", [0.0, 0.03, 0.6])
def test_pairs_of_cells(case, quantile, dense, many_cells, monkeypatch):
    monkeypatch.setattr(close_pairs, "_DENSE", dense)
    vectors, _, square = case
    if len(square) < 2:
        return
    thresh = _clear(square, quantile)
    later, earlier, apart = neighborhoods.pairs_within(vectors, thresh)
    expected = np.argwhere(np.tril(square <= thresh, -1))
    assert np.column_stack([later, earlier]).tolist() == expected.tolist()
    _close(apart, square[later, earlier])

    kept = neighborhoods.first_of_pairs(len(square), (later, earlier, apart))
    assert kept.tolist() == _kept(square, thresh)
    dropped = np.setdiff1d(np.arange(len(square)), kept)
    ids = [str(i) for i in range(len(square))]
    groups = neighborhoods.grouped(vectors, kept, dropped, ids, (later, earlier, apart))
    found = {int(i): (int(keep), d) for keep, group in groups.items() for i, d in group}
    assert sorted(found) == dropped.tolist()
    for i, (keep, distance) in found.items():
        assert keep in kept
        _close(distance, square[i, keep])
        _nearest(vectors, np.array([distance]), square[i, kept].min(keepdims=True))


def test_points_within_a_distance_in_cells(case, many_cells):
    test_the_points_within_a_distance(case, 0.03)


def test_many_pairs_are_not_collected(many_cells, monkeypatch):
    with Vectors.of(_data("equal", 96), "cosine") as vectors:
        assert len(neighborhoods.pairs_within(vectors, 0.1)[0]) == 96 * 95 / 2
        monkeypatch.setattr(close_pairs, "MAX_PAIRS", 1000)
        assert neighborhoods.pairs_within(vectors, 0.1) is None
        monkeypatch.setattr(close_pairs, "expected_pairs", lambda vectors, thresh: 0.0)
        assert neighborhoods.pairs_within(vectors, 0.1) is None


@pytest.mark.parametrize("quantile", [0.0, 0.1, 0.6])
def test_what_is_kept(case, quantile, monkeypatch):
    vectors, tiles, square = case
    monkeypatch.setattr(selection, "_EARLIER", 4)
    thresh = _clear(square, quantile)
    expected = _kept(square, thresh)
    keeper = Greedy(vectors, tiles)
    assert keeper.keep(thresh)[0].tolist() == expected
    keeper.prepare()
    for other in (thresh, 0.3 * thresh, 3 * thresh, thresh):
        if abs(square - other).min(initial=1) > 1e-9:
            kept, decided = keeper.keep(other)
            assert kept.tolist() == _kept(square, other)
            assert decided == len(square)


def test_no_distance_is_beyond_infinity(case):
    vectors, tiles, square = case
    everyone = list(range(len(square)))
    assert Greedy(vectors, tiles).keep(-np.inf)[0].tolist() == everyone
    assert Greedy(vectors, tiles).keep(np.inf)[0].tolist() == everyone[:1]
    assert all(len(i) == len(square) - 1 for i in neighborhoods.within(vectors, np.inf, tiles)[0])
    assert not any(len(i) for i in neighborhoods.within(vectors, -np.inf, tiles)[0])


@pytest.mark.parametrize(
    ("share", "lists", "recorded"),
    [
        (0.02, False, False),
        (0.3, True, False),
        (0.3, False, False),
        (0.95, True, False),
        (0.3, False, True),
        (0.95, False, True),
    ],
)
def test_a_number_is_kept_as_by_fiftyone(case, share, lists, recorded, many_cells, monkeypatch):
    vectors, tiles, square = case
    monkeypatch.setattr(threshold, "_RECORD_FROM", 2 if recorded else 1e9)
    monkeypatch.setattr(threshold, "_MOST_DROPPED", 1.0)
    monkeypatch.setattr(selection, "_EARLIER", 4)
    monkeypatch.setattr(threshold, "_PREPARE_FROM", 1e9 if lists else 0)
    count = len(square)
    target = round(share * count)
    theirs = _FiftyOnes(square)
    ids, expected = theirs._remove_duplicates_count(target, list(range(count)))
    kept, thresh, pairs = keep_count(vectors, target, tiles=tiles)
    if pairs is not None:
        assert recorded
        within = np.argwhere(np.tril(square <= thresh - 1e-9, -1)).tolist()
        assert {*map(tuple, within)} <= {*zip(pairs[0].tolist(), pairs[1].tolist())}
    if thresh is None:
        assert expected is None
        assert set(kept.tolist()) == ids
        return
    # For this threshold, the answer is that of brute force; and it is no worse than FiftyOne's
    assert abs(len(kept) - target) <= abs(len(ids) - target)
    if abs(square - thresh).min() > 1e-9:
        assert kept.tolist() == _kept(square, thresh)
        if vectors.nearest_possible == 0 and all(
            abs(square - t).min() > 1e-9 for t in theirs.tried
        ):
            assert thresh == expected


def test_the_nearest_among_the_kept(case):
    vectors, tiles, square = case
    if len(square) < 2:
        return
    cols = np.flatnonzero(np.arange(len(square)) % 3 == 0)
    rows = np.setdiff1d(np.arange(len(square)), cols)
    inds, dists = neighborhoods.nearest_others(vectors, rows, 1, tiles, among=cols)
    inds, dists = inds[:, 0], dists[:, 0]
    assert set(inds.tolist()) <= set(cols.tolist())
    _close(dists, square[rows, inds])
    _nearest(vectors, dists, square[np.ix_(rows, cols)].min(axis=1))


@pytest.mark.parametrize("metric", oracle.METRICS)
def test_vectors_in_a_file(metric, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data = _data("clustered", 300)
    square = _square(metric, data)
    thresh = _clear(square, 0.1)

    def interrupted() -> None:
        with Vectors(300, 12, metric, max_bytes=0) as vectors:
            vectors.fill(0, data[:100])
            vectors.fill(100, data[100:])
            tiles = Tiles(vectors, 64, 32)
            assert Greedy(vectors, tiles).keep(thresh)[0].tolist() == _kept(square, thresh)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_memory_is_bounded():
    """The matrix of all pairs would be 900 MB."""
    import tracemalloc

    data = _data("clustered", 15_000, 8)
    with Vectors.of(data, "euclidean") as vectors:
        tracemalloc.start()
        try:
            keep_count(vectors, 100)
            keep_count(vectors, 13_500)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 150 << 20
