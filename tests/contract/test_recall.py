"""Recall as evaluate() measures it, against recall counted by hand."""

from __future__ import annotations

import time
from typing import Any

import fiftyone.brain as fob
import numpy as np
import pytest

from fiftyone_milvus.errors import InvalidInputError
from tests import oracle
from tests.conftest import Engine

from .support import KEY, Indexed, image_dataset, index_images, one_line, vectors

K = 10


def test_an_exact_index_finds_all(images: Indexed) -> None:
    found = images.index.evaluate(queries=50, k=K)
    assert (found.queries, found.k, found.vectors) == (50, K, len(images.ids))
    assert 0 < found.p50 <= found.p95 < 5
    # A default index of so few vectors is exact on both engines
    assert found.recall == 1.0
    assert f"recall@{K} 1.0000 of 50 queries" in str(found)


def test_patches(cosine_patches: Indexed) -> None:
    found = cosine_patches.index.evaluate(queries=10_000, k=3)
    assert found.queries == len(cosine_patches.ids)
    assert found.recall == 1.0


def test_a_poor_index_is_seen_through(milvus_server: Any, dropped: list[Indexed]) -> None:
    """As many of the neighbors as a count by hand says, over queries that it can repeat."""
    engine = Engine("server", milvus_server.kwargs)
    indexed = index_images(
        engine,
        2000,
        "euclidean",
        dim=64,
        index_type="IVF_FLAT",
        index_params={"nlist": 256},
        search_params={"nprobe": 1},
    )
    dropped.append(indexed)
    index, matrix, ids = indexed.index, indexed.matrix(), indexed.ids
    index._collection.flush()
    _wait_until_built(index)
    found = index.evaluate(queries=300, k=K)
    keys, queries, size = index._draw("queries", 300, 0)
    assert size == len(ids)
    shares = []
    for key, query in zip(keys, queries, strict=True):
        got = [_id for _id in index._kneighbors(query=query, k=K + 1)[0] if _id != key][:K]
        true = oracle.distances("euclidean", query, matrix)[0]
        true[ids.index(key)] = np.inf
        shares.append(len({ids[j] for j in np.argsort(true)[:K]} & {*got}) / K)
    by_hand = float(np.mean(shares))
    assert by_hand < 0.9, "one of 256 lists can't hold all neighbors"
    assert abs(found.recall - by_hand) < 1e-9
    assert found.search_params == {"nprobe": 1}


def _wait_until_built(index: Any) -> None:
    deadline = time.monotonic() + 60
    while not (segments := index._collection.sealed_segments()) or not all(b for _, b in segments):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_nearest_distances(images: Indexed) -> None:
    matrix = images.matrix()
    true = oracle.distances(images.metric, matrix, matrix)
    np.fill_diagonal(true, np.inf)
    found = images.index.nearest_distances(sample=10_000)
    np.testing.assert_allclose(np.sort(found), np.sort(true.min(axis=1)), atol=1e-4)
    some = images.index.nearest_distances(sample=7, seed=3)
    assert some.shape == (7,)
    assert all(np.abs(true.min(axis=1) - value).min() < 1e-4 for value in some)


@pytest.mark.parametrize("bad", [0, -1, 2.5, "many", True, None])
def test_bad_counts(cosine_images: Indexed, bad: Any) -> None:
    index = cosine_images.index
    for call in (
        lambda: index.evaluate(queries=bad),
        lambda: index.evaluate(k=bad),
        lambda: index.nearest_distances(sample=bad),
    ):
        with pytest.raises(InvalidInputError) as error:
            call()
        assert repr(bad) in one_line(error.value)


def test_too_few_vectors(engine: Engine, dropped: list[Indexed]) -> None:
    dataset = image_dataset(1)
    index = fob.compute_similarity(
        dataset, embeddings=False, brain_key=KEY, backend="milvus", **engine.kwargs
    )
    dropped.append(Indexed(dataset, index, "dotproduct", {}, engine.kwargs))
    with pytest.raises(InvalidInputError, match="0 vectors"):
        index.evaluate()
    index.add_to_index(vectors(1), dataset.values("id"))
    with pytest.raises(InvalidInputError, match="1 vectors"):
        index.nearest_distances()
