"""More than fits one request: windows of 16,384 rows, messages of 64 MB, thousands of queries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiftyone.brain as fob
import numpy as np
import pytest
from fiftyone import ViewField as F

from tests.support import oracle
from tests.support.indexes import KEY, Indexed, image_dataset, vectors

ROWS = 17_000  # more than the window of a server
DIM = 4


@pytest.fixture(scope="module")
def large(engine: Any) -> Iterator[Indexed]:
    dataset = image_dataset(ROWS)
    ids = dataset.values("id")
    data = vectors(ROWS, DIM)
    index = fob.compute_similarity(
        dataset,
        embeddings=data,
        brain_key=KEY,
        backend="milvus",
        metric="euclidean",
        **engine.kwargs,
    )
    indexed = Indexed(dataset, index, "euclidean", dict(zip(ids, data, strict=True)), {})
    yield indexed
    indexed.drop()


@pytest.fixture
def everything(large: Indexed) -> Iterator[Indexed]:
    large.index.clear_view()
    yield large
    large.index.clear_view()


@pytest.mark.parametrize("reverse", [False, True], ids=["nearest", "farthest"])
@pytest.mark.parametrize("k", [16_384, 16_500, None])
def test_rankings_longer_than_a_window(everything, k, reverse):
    query = everything.ids[100]
    ids, _, dists = everything.index._kneighbors(
        query=query, k=k, reverse=reverse, return_dists=True
    )
    oracle.check_ranking(ids, everything.true(query), k, reverse=reverse, reported=dists, atol=2e-3)


def test_views_larger_than_a_window(everything):
    view = everything.dataset.match(F("number") >= 300)
    inside = view.values("id")
    query = everything.ids[5]
    for k in (10, None):
        got = view.sort_by_similarity(query, k=k, brain_key=KEY).values("id")
        oracle.check_ranking(got, everything.true(query, among=inside), k, atol=2e-3)


def test_more_queries_than_a_window(everything):
    queries = vectors(ROWS, DIM, seed=8)
    ids, _, dists = everything.index._kneighbors(query=queries, k=2, return_dists=True)
    assert len(ids) == len(dists) == ROWS
    recalls = []
    for i in range(0, ROWS, 500):
        true = everything.true(queries[i : i + 1])
        np.testing.assert_allclose(dists[i], [true[_id] for _id in ids[i]], atol=2e-3)
        recalls.append(oracle.recall(ids[i], true, 2))
    assert np.mean(recalls) >= 0.99


def test_ids_and_counts_beyond_a_window(everything):
    index = everything.index
    assert index.total_index_size == index.index_size == ROWS
    assert sorted(index.sample_ids) == sorted(everything.ids)
    gone = everything.ids[:16_500]
    index.remove_from_index(sample_ids=gone, allow_missing=False)
    assert index.total_index_size == ROWS - 16_500
    assert sorted(index.sample_ids) == sorted(everything.ids[16_500:])
    index.add_to_index(everything.matrix(gone), np.array(gone), allow_existing=False)
    assert index.total_index_size == ROWS


@pytest.mark.slow
def test_embeddings_beyond_a_message(engine, dropped):
    """80 MB of vectors, where a server answers with 64 at most."""
    count, dim = 5_000, 4_096
    dataset = image_dataset(count)
    data = np.random.default_rng(0).random((count, dim), dtype=np.float32)
    # What is read does not depend on the index type, and a server would build one of these
    index = fob.compute_similarity(
        dataset,
        embeddings=data,
        brain_key=KEY,
        backend="milvus",
        index_type="FLAT",
        **engine.kwargs,
    )
    dropped.append(Indexed(dataset, index, "dotproduct", {}, {}))
    ids = dataset.values("id")[::-1]
    embeddings, sample_ids, _ = index.get_embeddings(sample_ids=ids)
    assert list(sample_ids) == ids
    np.testing.assert_array_equal(embeddings, data[::-1])
    embeddings, sample_ids, _ = index.get_embeddings()
    assert dict(zip(sample_ids, embeddings[:, 0], strict=True)) == dict(
        zip(ids, data[::-1, 0], strict=True)
    )
