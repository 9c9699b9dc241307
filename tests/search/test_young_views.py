"""Views on a server in its first minutes: before rows are sealed, and before they are indexed.

Half of the rows are in two clusters without structure, half in clusters that have fewer rows in a
view than are asked for: the rest of an answer is far, where approximate indexes find least.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fiftyone.brain as fob
import numpy as np
import pytest
from fiftyone import ViewField as F

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.search import unsettled
from fiftyone_milvus.search.exactness import UNSEALED, is_settled
from fiftyone_milvus.search.planner import Searcher
from tests.support import oracle
from tests.support.indexes import KEY, Indexed, image_dataset, vectors

COUNT, DIM, K = 24_000, 64, 25
PART = 4_000
"""An upload of so many rows does not have them sealed."""
SEARCHES = ((0.05, K), (0.2, K), (0.5, K), (0.5, 200), (0.9, K), (None, K))
"""The share of the rows that a view has, None for no view, and how many are asked for."""


@pytest.fixture(scope="module")
def young(engine: Any) -> Iterator[Indexed]:
    """An index of rows that a server has neither sealed nor indexed: half in large clusters."""
    dataset = image_dataset(COUNT)
    ids = dataset.values("id")
    halves = [vectors(COUNT // 2, DIM, clusters=n, seed=n) for n in (2, 500)]
    data = np.concatenate(halves)[np.random.default_rng(5).permutation(COUNT)]
    index = fob.compute_similarity(
        dataset, embeddings=False, brain_key=KEY, backend="milvus", metric="cosine", **engine.kwargs
    )
    for start in range(0, COUNT, PART):
        index.add_to_index(data[start : start + PART], np.array(ids[start : start + PART]))
    table = dict(zip(ids, data, strict=True))
    indexed = Indexed(dataset, index, "cosine", table, dict(engine.kwargs))
    yield indexed
    indexed.drop()


def check(indexed: Indexed, state: str) -> None:
    """Searches find 0.99 of the nearest, in views of scattered rows and without one."""
    numbers = np.random.default_rng(7).permutation(COUNT)
    ids = indexed.dataset.values("id")
    queries = indexed.matrix()[:4]
    distances = dict(zip(indexed.ids, oracle.distances("cosine", queries, indexed.matrix()).T))
    for share, k in SEARCHES:
        if share is None and is_settled(indexed.index._collection):
            continue  # that is the recall of the index that was asked for
        view, inside = None, indexed.ids
        if share is not None:
            chosen = numbers[: int(share * COUNT)].tolist()
            view = indexed.dataset.match(F("number").is_in(chosen))
            inside = [ids[i] for i in chosen if ids[i] in distances]
        recalls = []
        for at, query in enumerate(queries):
            scope = None if view is None else indexed.index._view_scope(view)
            (found,) = indexed.index._searcher.nearest(query[np.newaxis], k, scope)
            true = {i: distances[i][at] for i in inside}
            assert len(set(found.ids) & set(true)) == len(found.ids) == k
            recalls.append(oracle.recall(found.ids, true, k))
        assert np.mean(recalls) >= 0.99, f"{state}, {k} in a view of {share}"


@pytest.mark.parametrize("engine", ["server"], indirect=True)
def test_recall_in_every_state(young, monkeypatch):
    collection = young.index._collection
    collection.wait_until_loaded()
    assert collection.segment_state().growing > UNSEALED
    assert not is_settled(collection)
    check(young, "growing")
    young.index.remove_from_index(young.ids[9::50])
    for i in young.ids[9::50]:
        del young.vectors[i]
    check(young, "after deletes")
    young.index.client.flush(collection.name)
    collection.wait_until_built()
    assert is_settled(collection)
    check(young, "indexed")
    _check_depth(young, monkeypatch)


def _check_depth(indexed: Indexed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide search asks for the depth of its last candidate, unless the user has set one."""
    asked: list[tuple[int, int]] = []
    search = MilvusCollection.search

    def spy(self: Any, queries: Any, limit: int, *, params: dict[str, Any], **kwargs: Any) -> Any:
        asked.append((limit, params["ef"]))
        return search(self, queries, limit, params=params, **kwargs)

    monkeypatch.setattr(MilvusCollection, "search", spy)
    view = indexed.dataset.match(F("number") % 50 == 0)
    for own in (None, {"ef": 300}):
        searcher = Searcher(indexed.index._collection, "cosine", own, plan="wide")
        searcher.nearest(indexed.matrix()[:1], K, indexed.index._view_scope(view))
    deep, shallow = asked[0], asked[-1]
    assert deep[1] == max(1024, 4 * deep[0])
    assert shallow[1] == max(300, shallow[0])


@pytest.mark.parametrize("metric", ["dotproduct", "euclidean"])
@pytest.mark.parametrize("engine", ["server"], indirect=True)
def test_every_metric_is_exact_before_rows_are_indexed(engine, metric, monkeypatch):
    """Uniform data, of which the interim index finds about half by itself."""
    count, dim = 2 * PART, 32
    data = np.random.default_rng(8).normal(size=(count, dim)).astype(np.float32)
    dataset = image_dataset(count)
    ids = dataset.values("id")
    index = fob.compute_similarity(
        dataset, embeddings=False, brain_key=KEY, backend="milvus", metric=metric, **engine.kwargs
    )
    for start in range(0, count, PART):
        index.add_to_index(data[start : start + PART], np.array(ids[start : start + PART]))
    indexed = Indexed(dataset, index, metric, dict(zip(ids, data)), dict(engine.kwargs))
    try:
        index._collection.wait_until_loaded()
        assert not is_settled(index._collection)
        queries = data[:40] + np.float32(0.1)
        trues = [indexed.true(query[np.newaxis]) for query in queries]
        for most in (unsettled.MOST_QUERIES, 39):
            monkeypatch.setattr(unsettled, "MOST_QUERIES", most)
            found = index._searcher.nearest(queries, 200)
            for one, true in zip(found, trues, strict=True):
                oracle.check_ranking(one.ids, true, 200, reported=one.distances)
        monkeypatch.undo()
        # Where most rows are indexed, not all are compared
        monkeypatch.setattr(unsettled, "MOST_INDEXED", -1)
        found = index._searcher.nearest(queries, K)
        assert np.mean([oracle.recall(n.ids, t, K) for n, t in zip(found, trues)]) >= 0.99
    finally:
        indexed.drop()


@pytest.mark.parametrize("engine", ["server"], indirect=True)
def test_most_rows_are_deleted_before_they_are_sealed(engine):
    """Few are left, but Milvus still searches by lists of all of them, the nearest without one."""
    count, clusters = 6 * PART, 40
    rng = np.random.default_rng(11)
    centers = rng.normal(size=(clusters, DIM))
    labels = rng.integers(0, clusters, count)
    data = (centers[labels] + rng.normal(scale=0.6, size=(count, DIM))).astype(np.float32)
    with _uploaded(engine, data) as indexed:
        gone = labels >= clusters // 10
        indexed.index.remove_from_index(np.array(indexed.ids)[gone])
        for i in np.array(indexed.ids)[gone]:
            del indexed.vectors[i]
        assert indexed.index._collection.count() < UNSEALED
        queries = np.concatenate([centers[-5:], centers[:3], rng.normal(size=(8, DIM))])
        _check_exact(indexed, queries.astype(np.float32))


@contextmanager
def _uploaded(engine: Any, data: Any) -> Iterator[Indexed]:
    """An index of rows of which none is sealed."""
    dataset = image_dataset(len(data))
    ids = dataset.values("id")
    index = fob.compute_similarity(
        dataset, embeddings=False, brain_key=KEY, backend="milvus", metric="cosine", **engine.kwargs
    )
    indexed = Indexed(dataset, index, "cosine", dict(zip(ids, data)), dict(engine.kwargs))
    try:
        for start in range(0, len(data), PART):
            index.add_to_index(data[start : start + PART], np.array(ids[start : start + PART]))
        index._collection.wait_until_loaded()
        assert index._collection.segment_state().growing == len(data)
        yield indexed
    finally:
        indexed.drop()


def _check_exact(indexed: Indexed, queries: Any) -> None:
    half = indexed.dataset.match(F("number") % 2 == 0)
    inside = set(half.values("id"))
    for query in queries:
        true = indexed.true(query[np.newaxis])
        (found,) = indexed.index._searcher.nearest(query[np.newaxis], K)
        oracle.check_ranking(found.ids, true, K, reported=found.distances)
        scope = indexed.index._view_scope(half)
        (found,) = indexed.index._searcher.nearest(query[np.newaxis], K, scope)
        among = {i: d for i, d in true.items() if i in inside}
        oracle.check_ranking(found.ids, among, K, reported=found.distances)
