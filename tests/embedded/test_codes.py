"""Search by codes, compared with numpy."""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pymilvus import MilvusClient

from fiftyone_milvus.collection.index_build import SCANNED_BYTES
from fiftyone_milvus.embedded.database import Database
from fiftyone_milvus.embedded.executor import candidates, near_lists, scan
from fiftyone_milvus.embedded.executor.candidates import Coded
from fiftyone_milvus.embedded.executor.parts import LivePart, Part
from fiftyone_milvus.embedded.storage import automatic_index, codes
from fiftyone_milvus.embedded.storage.keys import AnyKeys
from fiftyone_milvus.embedded.storage.lists import Lists
from fiftyone_milvus.embedded.storage.segments import MappedSegment
from tests.support.waiting import wait_until

from .test_executor import Engine

ROWS, DIM = 6000, 32
HALF = ROWS // 2


class Rows(Part):
    """Vectors in memory."""

    def __init__(self, vectors: np.ndarray) -> None:
        super().__init__(AnyKeys(list(range(len(vectors)))), np.arange(len(vectors)).astype("u8"))
        self._vectors["vector"] = vectors


def clusters(count: int, spread: float, rng: np.random.Generator) -> np.ndarray:
    centers = rng.standard_normal((count, DIM))
    return centers[rng.integers(0, count, ROWS)] + spread * rng.standard_normal((ROWS, DIM))


def data(kind: str) -> np.ndarray:
    rng = np.random.default_rng(1)
    if kind == "clusters":
        found = clusters(20, 0.3, rng)
    elif kind == "many clusters":
        found = clusters(1500, 0.3, rng)
    elif kind == "uniform":
        found = rng.uniform(-1, 1, (ROWS, DIM))
    elif kind == "far from the origin":
        found = clusters(200, 0.3, rng) + 30
    elif kind == "few dimensions matter":
        found = rng.standard_normal((ROWS, DIM)) * 0.9 ** np.arange(DIM)
    elif kind == "ties":
        found = clusters(300, 0.0, rng)
    elif kind == "outliers":
        found = clusters(200, 0.2, rng)
        found[::500] *= 40
    elif kind == "lengths":
        found = rng.standard_normal((ROWS, DIM)) * rng.lognormal(0, 1, (ROWS, 1))
    elif kind == "zeros":
        found = np.maximum(clusters(100, 0.5, rng), 0)
        found[:50] = 0
    else:
        raise ValueError(kind)
    return found.astype(np.float32)


KINDS = [
    "clusters",
    "many clusters",
    "uniform",
    "far from the origin",
    "few dimensions matter",
    "ties",
    "outliers",
    "lengths",
    "zeros",
]


def exact_scores(vectors: np.ndarray, queries: np.ndarray, metric: str) -> np.ndarray:
    """The higher the nearer."""
    vectors, queries = vectors.astype(np.float64), queries.astype(np.float64)
    if metric == "L2":
        return -((vectors[None] - queries[:, None]) ** 2).sum(axis=2)
    if metric == "COSINE":
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.where(norms == 0, 1, norms)
    return queries @ vectors.T


def always() -> bool:
    return True


@pytest.fixture(scope="module")
def made():
    cache: dict[tuple[str, str, int, int], codes.Codes | None] = {}

    def make(kind: str, metric: str, start: int = 0, stop: int = ROWS) -> codes.Codes | None:
        key = (kind, metric, start, stop)
        if key not in cache:
            cache[key] = codes.build(data(kind)[start:stop], metric, always)
        return cache[key]

    return make


@pytest.fixture
def without_lists(monkeypatch):
    monkeypatch.setattr(near_lists, "FEW_BYTES", -1)
    monkeypatch.setattr(near_lists, "_SHARE_OF_BATCH", -1)


@pytest.fixture
def many_parts(monkeypatch):
    """All are many rows, and one part of two is looked at first."""
    monkeypatch.setattr(candidates, "_MANY_ROWS", 0)
    monkeypatch.setattr(candidates, "_SAMPLED", 2)
    monkeypatch.setattr(candidates, "_FIRST", 64)


def halves(vectors: np.ndarray, found: list[codes.Codes], allowed: np.ndarray | None):
    for start, some in zip((0, HALF), found, strict=True):
        part = LivePart(Rows(vectors[start : start + HALF]), HALF, None)
        mask = None if allowed is None else allowed[start : start + HALF]
        yield Coded(part, start, mask, some)


@pytest.mark.parametrize("way", ["codes", "codes of many parts", "lists", "lists of a batch"])
@pytest.mark.parametrize("metric", ["COSINE", "IP", "L2"])
@pytest.mark.parametrize("kind", KINDS)
def test_recall(made, kind, metric, way, request, monkeypatch):
    if way.startswith("codes"):
        request.getfixturevalue("without_lists")
    monkeypatch.setattr(near_lists, "_FIRST", 64)
    count = 3 if way in ("lists", "codes of many parts") else 9
    vectors, several = data(kind), [made(kind, metric)]
    if way == "codes of many parts":
        request.getfixturevalue("many_parts")
        several = [made(kind, metric, 0, HALF), made(kind, metric, HALF, ROWS)]
    if None in several:
        assert kind in ("lengths", "outliers", "zeros")  # which codes say too little about
        return
    rng = np.random.default_rng(2)
    queries = vectors[rng.integers(0, ROWS, count)] + 0.1 * rng.standard_normal((count, DIM))
    queries = queries.astype(np.float32)
    if metric == "COSINE":
        queries = scan.normalize(queries)
    scores = exact_scores(vectors, queries, metric)
    order = np.argsort(-scores.mean(axis=0))
    far = np.zeros(ROWS, dtype=bool)
    far[order[ROWS // 2 :]] = True  # what is far from the queries
    for allowed in (None, rng.random(ROWS) < 0.3, far):
        mask = np.ones(ROWS, dtype=bool) if allowed is None else allowed
        parts = [Coded(LivePart(Rows(vectors), ROWS, None), 0, allowed, several[0])]
        if len(several) > 1:
            parts = list(halves(vectors, several, allowed))
        for k in (1, 25, 150):
            hits = candidates.search(parts, "vector", queries, k, metric)
            assert hits.rows.shape == (count, k)
            assert mask[hits.rows].all()
            best = -np.sort(-np.where(mask, scores, -np.inf), axis=1)[:, :k]
            reported = -hits.scores if metric == "L2" else hits.scores
            size = np.abs(scores).max()
            mine = np.take_along_axis(scores, hits.rows, 1)
            assert np.allclose(reported, mine, rtol=1e-4, atol=1e-5 * size)
            assert all(len(set(row)) == k for row in hits.rows.tolist())
            # With ties, any of them
            enough = mine >= best[:, -1:] - 1e-6 * size
            assert enough.mean() >= 0.99, (kind, metric, k, enough.mean())


@pytest.mark.parametrize("is_alike", [True, False])
def test_codes_of_many_parts_are_read_once(made, without_lists, many_parts, monkeypatch, is_alike):
    """Where many rows seem as near as the nearest; and again where one part has other rows."""
    vectors = data("uniform")
    several = [made("uniform", "COSINE", 0, HALF), made("uniform", "COSINE", HALF, ROWS)]
    monkeypatch.setattr(candidates, "_POOL", 256)
    monkeypatch.setattr(candidates, "_LEAST", 16)
    read: list[str] = []
    for name in ("search", "search_above"):
        plain = getattr(codes.Codes, name)

        def reading(self, *args, name=name, plain=plain):
            read.append(f"{name} {next(n for n, some in enumerate(several) if some is self)}")
            return plain(self, *args)

        monkeypatch.setattr(codes.Codes, name, reading)
    rng = np.random.default_rng(7)
    queries = scan.normalize(rng.standard_normal((3, DIM)).astype(np.float32))
    scores = exact_scores(vectors, queries, "COSINE")
    for query, exact in zip(queries, scores, strict=True):
        # What is far from the query, but for the first part where this is not like the other
        allowed = exact < np.median(exact)
        if not is_alike:
            allowed[:HALF] = True
        parts = list(halves(vectors, several, allowed))
        hits = candidates.search(parts, "vector", query[None], 10, "COSINE")
        best = -np.sort(-np.where(allowed, exact, -np.inf))[:10]
        assert np.allclose(hits.scores[0], best, atol=1e-5)
        above = [name for name in read if name.startswith("search_above")]
        assert [name for name in read if name not in above] == ["search 0"]
        assert len(above) == 2 or (not is_alike and len(above) == 4)
        read.clear()


def test_lists_that_are_far_are_not_read(made):
    """Where rows are in few clusters; a search of uniform data may need all."""
    vectors, found = data("clusters"), made("clusters", "COSINE")
    rng = np.random.default_rng(5)
    chosen = scan.normalize(vectors[rng.integers(0, ROWS, 300)] + 0.05)
    _, bounds = found.lists.bounds(chosen, "COSINE")
    exact = exact_scores(vectors, chosen, "COSINE")
    kth = -np.sort(-exact, axis=1)[:, 24:25]
    sizes = np.diff(found.lists.ends, prepend=0)
    assert ((bounds >= kth) @ sizes).mean() < 0.2 * ROWS
    # And the best row of each list is as good as its bound says, but for some of a thousand
    tops = np.maximum.reduceat(exact[:, found.lists.rows], found.lists.starts, axis=1)
    assert (tops <= bounds + 1e-6).mean() > 0.98
    assert sorted(found.lists.rows.tolist()) == list(range(ROWS))


@pytest.mark.parametrize("ends", [[3, 3, 7, 10], [0, 4, 10, 10]])
def test_allowed_rows_of_each_list(ends):
    rows = np.random.default_rng(8).permutation(10).astype(np.int32)
    several = Lists(np.zeros((4, 2), "f4"), np.ones(4, "f4"), rows, np.array(ends), 0.0, 0.0)
    for allowed in (np.arange(10) % 3 > 0, np.zeros(10, bool), np.ones(10, bool)):
        inside = [allowed[some].sum() for some in np.split(rows, ends[:-1])]
        assert several.counts(allowed).tolist() == inside


@pytest.mark.parametrize("count", [1, 9])
def test_of_few_rows_all_are_compared(made, monkeypatch, count):
    """How far lists reach is not known to a query that is far from all of them."""
    vectors, found = data("clusters"), made("clusters", "IP")
    monkeypatch.setattr(near_lists, "_FIRST", 64)
    bounds = Lists.bounds

    def too_low(self, queries, metric):
        centers, bound = bounds(self, queries, metric)
        bound[:] = -np.inf
        bound[:, ::2] = np.inf  # many lists seem to be needed
        return centers, bound

    monkeypatch.setattr(Lists, "bounds", too_low)
    rng = np.random.default_rng(6)
    queries = rng.standard_normal((count, DIM)).astype(np.float32)
    scores = exact_scores(vectors, queries, "IP")
    hits = candidates.search(
        [Coded(LivePart(Rows(vectors), ROWS, None), 0, None, found)], "vector", queries, 25, "IP"
    )
    assert np.sort(hits.rows).tolist() == np.sort(np.argsort(-scores)[:, :25]).tolist()


def test_small_distances_keep_their_digits(made):
    vectors, found = data("far from the origin"), made("far from the origin", "L2")
    part = LivePart(Rows(vectors), ROWS, None)
    queries = vectors[:20].copy()
    hits = candidates.search([Coded(part, 0, None, found)], "vector", queries, 3, "L2")
    assert hits.rows[:, 0].tolist() == list(range(20))
    assert (hits.scores[:, 0] == 0).all()


@pytest.mark.parametrize("faster", ["codes", "scan"])
def test_many_queries_take_the_faster_way(made, without_lists, monkeypatch, faster):
    vectors, found = data("uniform"), made("uniform", "COSINE")
    monkeypatch.setattr(candidates, "_QUERY_CHUNK", 8)
    asked = {"codes": 0, "scan": 0}
    ways = {"codes": candidates._search_chunk, "scan": candidates._scanned}

    def way(name):
        def search(parts, field, queries, k, metric):
            asked[name] += len(queries)
            time.sleep(0 if name == faster else 0.3)
            return ways[name](parts, field, queries, k, metric)

        return search

    monkeypatch.setattr(candidates, "_search_chunk", way("codes"))
    monkeypatch.setattr(candidates, "_scanned", way("scan"))
    queries = scan.normalize(vectors[:100] + 0.1)
    part = LivePart(Rows(vectors), ROWS, None)
    hits = candidates.search([Coded(part, 0, None, found)], "vector", queries, 10, "COSINE")
    other = "scan" if faster == "codes" else "codes"
    assert (asked[faster], asked[other]) == (92, 8)
    best = -np.sort(-exact_scores(vectors, queries, "COSINE"), axis=1)[:, :10]
    assert np.allclose(hits.scores, best, atol=1e-4)


def test_several_parts_and_dead_rows(made):
    vectors = data("many clusters")
    rng = np.random.default_rng(3)
    queries = scan.normalize(vectors[:5] + 0.1)
    allowed = rng.random(ROWS) < 0.5
    part = LivePart(Rows(vectors), ROWS, None)
    found = made("many clusters", "COSINE")
    parts = [Coded(part, 0, None, found), Coded(part, 2 * ROWS, allowed, found)]
    hits = candidates.search(parts, "vector", queries, 20, "COSINE")
    scores = exact_scores(vectors, queries, "COSINE")
    every = np.full((5, 3 * ROWS), -np.inf)
    every[:, :ROWS], every[:, 2 * ROWS :] = scores, np.where(allowed, scores, -np.inf)
    best = -np.sort(-every, axis=1)[:, :20]
    assert np.allclose(np.take_along_axis(every, hits.rows, 1), best, atol=1e-6)


def test_doubt_ends_in_an_exact_answer(without_lists, monkeypatch):
    vectors = data("uniform")
    wrong = codes.build(np.random.default_rng(9).permutation(vectors), "IP", always)
    monkeypatch.setattr(candidates, "_POOL", 64)
    monkeypatch.setattr(candidates, "_LEAST", 16)
    scans: list[int] = []
    exact = scan.search
    monkeypatch.setattr(scan, "search", lambda *args: scans.append(1) or exact(*args))
    part = LivePart(Rows(vectors), ROWS, None)
    hits = candidates.search([Coded(part, 0, None, wrong)], "vector", vectors[:4], 25, "IP")
    best = np.argsort(-exact_scores(vectors, vectors[:4], "IP"), axis=1)[:, :25]
    assert [set(row) for row in hits.rows.tolist()] == [set(row) for row in best.tolist()]
    assert scans


def test_rows_that_the_codes_leave_out_are_found(made, without_lists, monkeypatch):
    vectors, found = data("clusters"), made("clusters", "IP")
    by_codes = codes.Codes.search

    def half(self, queries, count, allowed):
        estimates, rows = by_codes(self, queries, count, allowed)
        estimates[:, ::2], rows[:, ::2] = -np.inf, -1
        order = np.argsort(-estimates, axis=1)
        return np.take_along_axis(estimates, order, 1), np.take_along_axis(rows, order, 1)

    monkeypatch.setattr(codes.Codes, "search", half)
    part = LivePart(Rows(vectors), ROWS, None)
    hits = candidates.search([Coded(part, 0, None, found)], "vector", vectors[:3], 10, "IP")
    best = -np.sort(-exact_scores(vectors, vectors[:3], "IP"), axis=1)[:, :10]
    assert np.allclose(hits.scores, best, atol=1e-4)


@pytest.mark.parametrize("dimension", [2, 7, 30])
def test_any_dimension(dimension):
    vectors = np.random.default_rng(0).standard_normal((ROWS, dimension)).astype(np.float32)
    found = codes.build(vectors, "L2", always)
    part = LivePart(Rows(vectors), ROWS, None)
    hits = candidates.search([Coded(part, 0, None, found)], "vector", vectors[:5], 10, "L2")
    best = -np.sort(-exact_scores(vectors, vectors[:5], "L2"), axis=1)[:, :10]
    assert np.allclose(-hits.scores, best, atol=1e-4)


def test_few_allowed_rows_are_scanned(made, monkeypatch):
    """Not by lists, of which each takes as long as hundreds of rows."""
    part, found = LivePart(Rows(data("uniform")), ROWS, None), made("uniform", "IP")
    monkeypatch.setattr(candidates, "_SCANNED_BYTES", 0)
    monkeypatch.setattr(candidates, "_ALLOWED_BYTES", 4 * DIM * ROWS // 2)
    some = np.arange(ROWS) < ROWS // 2
    query = np.zeros((1, DIM), np.float32)
    for allowed, by_codes in ((some, 0), (np.arange(ROWS) <= ROWS // 2, 1), (None, 1)):
        parts = [Coded(part, 0, allowed, found)]
        assert len(candidates.worthwhile(parts, 10, query)) == by_codes


def test_what_is_scanned_is_known_to_tune():
    assert candidates._SCANNED_BYTES == SCANNED_BYTES


def test_codes_that_are_no_longer_needed():
    with pytest.raises(codes.StoppedError):
        codes.build(data("uniform"), "IP", lambda: False)


# -- files --------------------------------------------------------------------------------------

SEQS = np.arange(ROWS, dtype=np.uint64)


def test_a_file_of_codes(made, tmp_path):
    file, found = tmp_path / "indexes" / "data_1_2.vector.codes", made("uniform", "IP")
    codes.save(found, file, SEQS)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    intact, read = codes.load(file, "IP", SEQS)
    assert intact
    assert read.offset == found.offset
    queries = data("uniform")[:3]
    for one, other in zip(read.search(queries, 5, None), found.search(queries, 5, None)):
        assert np.array_equal(one, other)
    assert codes.load(file, "L2", SEQS) == (False, None)
    assert codes.load(file, "IP", SEQS + np.uint64(1)) == (False, None)
    assert codes.load(file, "IP", SEQS[:-1]) == (False, None)
    assert codes.load(tmp_path / "none.codes", "IP", SEQS) == (False, None)
    codes.save(None, file, SEQS)
    assert codes.load(file, "IP", SEQS) == (True, None)


def test_no_damage_of_codes_is_believed(made, tmp_path):
    file = tmp_path / "data_1_2.vector.codes"
    codes.save(made("uniform", "IP"), file, SEQS)
    content = file.read_bytes()
    rng = np.random.default_rng(0)
    places = [
        0,
        5,
        len(content) - 1,
        len(content) - 12,
        *rng.integers(0, len(content), 12).tolist(),
    ]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(changed)
        assert codes.load(file, "IP", SEQS) == (False, None), place
    for size in (0, 1, 15, 16, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:size])
        assert codes.load(file, "IP", SEQS) == (False, None), size
    file.write_bytes(bytes(len(content)))
    assert codes.load(file, "IP", SEQS) == (False, None)


# -- in a collection ----------------------------------------------------------------------------

COUNT = 4000


@pytest.fixture
def small_codes(monkeypatch):
    """Codes pay from 1,000 rows on, in this test."""
    monkeypatch.setattr(codes, "MIN_ROWS", 1000)
    monkeypatch.setattr(codes, "MIN_BYTES", 0)
    monkeypatch.setattr(candidates, "_SCANNED_BYTES", 0)
    monkeypatch.setattr(candidates, "_ALLOWED_BYTES", 0)


def create(client: MilvusClient, index_type: str = "AUTOINDEX", metric: str = "L2") -> None:
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("pk", 21, is_primary=True, max_length=64)
    schema.add_field("vector", 101, dim=16)
    index = client.prepare_index_params()
    index.add_index("vector", index_type=index_type, metric_type=metric)
    client.create_collection("c", schema=schema, index_params=index)


def key(number: int) -> str:
    return f"{number:024x}"


def rows(vectors: np.ndarray, first: int = 0) -> list[dict[str, object]]:
    return [{"pk": key(first + i), "vector": v.tolist()} for i, v in enumerate(vectors)]


class Truth:
    """What the collection has, and what it answers."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = dict(enumerate(vectors))

    def check(self, client: MilvusClient, among: list[int] | None = None, **params) -> None:
        names = [n for n in self.vectors if among is None or n in set(among)]
        all_vectors = np.stack([self.vectors[n] for n in names])
        queries = all_vectors[[1, len(names) // 2]] + np.float32(0.01)
        expression = "" if among is None else f"pk in {json.dumps([key(n) for n in among])}"
        found = client.search(
            "c", queries.tolist(), filter=expression, limit=10, search_params={"params": params}
        )
        for query, hits in zip(queries, found):
            order = np.argsort(((all_vectors - query) ** 2).sum(axis=1))[:10]
            assert [hit["pk"] for hit in hits] == [key(names[i]) for i in order]


def settle(engine: Engine) -> None:
    """Waits as users do: until all rows are indexed."""
    described = functools.partial(engine.client.describe_index, "c", "vector")
    wait_until(lambda: not int(described().get("pending_index_rows", 0)))


def files_of_codes(path: Path) -> list[Path]:
    return sorted(path.rglob(f"*{codes.SUFFIX}"))


@pytest.mark.parametrize("asked", [1, 4, 9])
def test_vectors_of_any_length_in_filters_of_any_size(tmp_path, small_codes, monkeypatch, asked):
    """Few rows of a part are scanned, with the lengths that its codes have."""
    monkeypatch.setattr(near_lists, "_FIRST", 64)
    monkeypatch.setattr(candidates, "_ALLOWED_BYTES", 0)
    vectors = data("clusters")[:COUNT, :16] * np.random.default_rng(7).lognormal(0, 1, (COUNT, 1))
    vectors = vectors.astype(np.float32)
    engine = Engine(tmp_path / "data.db", fast=True, database=Database)
    create(engine.client, metric="COSINE")
    engine.client.insert("c", rows(vectors))
    engine.flush("c")
    settle(engine)
    queries = vectors[5 : 5 + asked] + np.float32(0.01)
    scores = exact_scores(vectors, scan.normalize(queries), "COSINE")
    for step in (200, 20, 2, 1):
        among = np.arange(0, COUNT, step)
        expression = f"pk in {json.dumps([key(n) for n in among.tolist()])}" if step > 1 else ""
        found = engine.client.search("c", queries.tolist(), filter=expression, limit=15)
        for hits, row in zip(found, scores):
            best = among[np.argsort(-row[among], kind="stable")[:15]]
            assert [hit["pk"] for hit in hits] == [key(n) for n in best.tolist()], step
            assert np.allclose(hits.distances, row[best], atol=1e-5)
    engine.close()


def test_a_collection_with_codes(tmp_path, small_codes, monkeypatch):
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((COUNT, 16)).astype(np.float32)
    truth, path = Truth(vectors), tmp_path / "data.db"
    engine = Engine(path, fast=True, database=Database)
    searched: list[int] = []
    by_codes = candidates.search
    monkeypatch.setattr(
        candidates, "search", lambda parts, *a: searched.append(len(parts)) or by_codes(parts, *a)
    )
    create(engine.client)
    engine.client.insert("c", rows(vectors))
    truth.check(engine.client)  # still growing
    assert not searched
    engine.flush("c")
    settle(engine)
    truth.check(engine.client)
    assert searched == [1]
    wide = list(range(0, COUNT, 2))
    truth.check(engine.client, wide)
    assert searched == [1, 1]
    truth.check(engine.client, list(range(30)))  # scanned, as there are few
    truth.check(engine.client, exact=True)
    assert searched == [1, 1]

    # Deletes and upserts need no other codes
    before = [file.stat().st_mtime_ns for file in files_of_codes(path)]
    engine.client.delete("c", ids=[key(n) for n in range(300)])
    for number in range(300):
        del truth.vectors[number]
    changed = rng.standard_normal((200, 16)).astype(np.float32)
    engine.client.upsert("c", rows(changed, 1000))
    truth.vectors.update({1000 + i: v for i, v in enumerate(changed)})
    truth.check(engine.client)
    engine.flush("c")
    settle(engine)
    truth.check(engine.client)
    truth.check(engine.client, wide)
    assert before == [file.stat().st_mtime_ns for file in files_of_codes(path)]
    engine.close()

    # Opened again, they are read, not made
    monkeypatch.setattr(codes, "build", lambda *args: pytest.fail("made again"))
    engine = Engine(path, fast=True, database=Database)
    engine.client.load_collection("c")
    settle(engine)
    searched.clear()
    truth.check(engine.client)
    truth.check(engine.client, wide)
    assert searched == [1, 1]
    engine.close()
    monkeypatch.undo()

    # Plain Milvus Lite opens it
    lite = Engine(path, fast=False)
    lite.client.load_collection("c")
    truth.check(lite.client, ef=COUNT)
    lite.close()


def test_segments_and_their_codes_are_opened_at_once(tmp_path, small_codes, monkeypatch):
    """As many at a time as there are processors, to the same collection."""
    vectors = np.random.default_rng(3).normal(size=(2600, 16)).astype("f4")
    truth = Truth(vectors)
    engine = Engine(tmp_path / "data.db", fast=True, database=Database)
    create(engine.client)
    for first in (0, 1300):
        engine.client.insert("c", rows(vectors[first : first + 1300], first))
        engine.flush("c")
    settle(engine)
    names = list(engine.db.get_collection("c")._segment_cache)
    assert len(names) == len(files_of_codes(tmp_path)) == 2
    engine.close()

    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    # One that comes alone would wait until the barrier breaks
    barrier = threading.Barrier(2, timeout=60)
    plain, load_codes = MappedSegment.load.__func__, codes.load

    def load(*args, **kwargs):
        barrier.wait()
        return plain(MappedSegment, *args, **kwargs)

    def read(*args):
        barrier.wait()
        return load_codes(*args)

    monkeypatch.setattr(MappedSegment, "load", load)
    monkeypatch.setattr(codes, "load", read)
    engine = Engine(tmp_path / "data.db", fast=True, database=Database)
    engine.client.load_collection("c")
    assert list(engine.db.get_collection("c")._segment_cache) == names
    truth.check(engine.client)
    engine.close()


def test_damaged_codes_are_made_again(tmp_path, small_codes, monkeypatch):
    vectors = np.random.default_rng(6).standard_normal((COUNT, 16)).astype(np.float32)
    truth, path = Truth(vectors), tmp_path / "data.db"
    engine = Engine(path, fast=True, database=Database)
    create(engine.client)
    engine.client.insert("c", rows(vectors))
    engine.flush("c")
    settle(engine)
    engine.close()
    (file,) = files_of_codes(path)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    stale = file.with_name(f"data_999999_999999.vector{codes.SUFFIX}")
    stale.write_bytes(content)

    engine = Engine(path, fast=True, database=Database)
    engine.client.load_collection("c")
    truth.check(engine.client)  # meanwhile, all rows are compared
    settle(engine)
    truth.check(engine.client)
    content[len(content) // 2] ^= 4
    assert file.read_bytes() == bytes(content)
    engine.client.insert("c", rows(vectors[:5], COUNT))
    engine.flush("c")
    engine.settle("c")
    assert files_of_codes(path) == [file]  # those of no segment are removed
    engine.close()


def test_a_collection_is_dropped_while_codes_are_made(tmp_path, small_codes, monkeypatch):
    vectors = np.random.default_rng(6).standard_normal((COUNT, 16)).astype(np.float32)
    engine = Engine(tmp_path / "data.db", fast=True, database=Database)
    create(engine.client)
    build, began = codes.build, []

    def slow(vectors, metric, is_needed):
        began.append(1)
        while is_needed():
            time.sleep(0.01)
        return build(vectors, metric, is_needed)

    monkeypatch.setattr(automatic_index.codes, "build", slow)
    engine.client.insert("c", rows(vectors))
    engine.flush("c")
    wait_until(lambda: began)
    assert int(engine.client.describe_index("c", "vector")["pending_index_rows"]) == COUNT
    engine.client.drop_collection("c")
    assert engine.client.list_collections() == []
    engine.close()
    assert not os.listdir(tmp_path) or not files_of_codes(tmp_path)
