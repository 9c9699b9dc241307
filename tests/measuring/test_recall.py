"""How many of the true neighbors an index finds, and how near the nearest are."""

from __future__ import annotations

from typing import Any

import fiftyone.brain as fob
import numpy as np
import pytest

from fiftyone_milvus.errors import InvalidInputError
from tests.support import oracle
from tests.support.indexes import KEY, Indexed, image_dataset, one_line, vectors


def nearest(metric: str, data: np.ndarray) -> np.ndarray:
    return np.nanmin(oracle.neighbors(metric, data), axis=1)


# -- evaluate -----------------------------------------------------------------------------------


def test_what_is_searched_exactly_has_full_recall(images):
    found = images.index.evaluate(queries=50, k=5)
    assert found.recall == 1.0
    assert (found.queries, found.k, found.vectors) == (50, 5, 300)
    assert found.bytes >= 300 * 16 * 4
    # A graph beside the vectors, and on the embedded engine keys and codes without them
    assert found.index_bytes is not None
    assert 300 * 60 <= found.index_bytes <= 8 * found.bytes
    assert found.index_type in ("AUTOINDEX", "HNSW")
    assert 0 < found.p50 <= found.p95 < 5
    assert found.bound == 1.0 if found.index_type == "AUTOINDEX" else 0.8 < found.bound < 1.0
    assert f"recall@5 1.0000, at least {found.bound:.4f} with 95 % confidence" in str(found)


def test_patches(patches):
    count = len(patches.ids)
    found = patches.index.evaluate(queries=10_000, k=3)
    assert (found.recall, found.queries, found.vectors) == (1.0, count, count)


def test_a_view_does_not_matter(cosine_images):
    with cosine_images.index.use_view(cosine_images.dataset.limit(10)):
        found = cosine_images.index.evaluate(queries=20, k=20)
    assert (found.recall, found.vectors, found.k) == (1.0, 300, 20)


def test_as_many_neighbors_as_there_are(cosine_images):
    found = cosine_images.index.evaluate(queries=5, k=1000)
    assert (found.recall, found.k) == (1.0, 299)


@pytest.mark.parametrize("engine", ["server"], indirect=True)
def test_the_recall_of_a_poor_index_is_what_it_finds(engine, dropped):
    # 3,000 vectors without structure, the sparsest of graphs, the narrowest of searches
    count, k = 3000, 5
    dataset = image_dataset(count)
    data = np.random.default_rng(7).normal(size=(count, 32)).astype(np.float32)
    index = fob.compute_similarity(
        dataset,
        embeddings=data,
        brain_key=KEY,
        backend="milvus",
        metric="euclidean",
        index_type="HNSW",
        index_params={"M": 4, "efConstruction": 8},
        search_params={"ef": 1},
        **engine.kwargs,
    )
    ids = dataset.values("id")
    indexed = Indexed(
        dataset, index, "euclidean", dict(zip(ids, data, strict=True)), dict(engine.kwargs)
    )
    dropped.append(indexed)
    # The graph is searched, and not the rows themselves
    assert index._collection.wait_until_built()

    def by_hand() -> float:
        """Asks pymilvus, and counts."""
        right = 0
        for row in np.sort(np.random.default_rng(3).choice(count, queries, replace=False)):
            one = sorted(ids)[row]
            true = {i: d for i, d in indexed.true(one).items() if i != one}
            (hits,) = index.client.search(
                index.config.collection_name,
                [indexed.vectors[one]],
                limit=k + 1,
                search_params={"params": {"ef": k + 1}},
            )
            answer = [key for key in map(str, hits.ids) if key != one][:k]
            right += round(oracle.recall(answer, true, k) * k)
        return right / (queries * k)

    queries = 40
    found = index.evaluate(queries=queries, k=k, seed=3)
    # So soon after it is sealed, a server may answer from two copies of a segment
    assert found.recall == pytest.approx(by_hand(), abs=0.05)
    assert found.search_params == {"ef": 1}
    assert 0.0 < found.recall < 0.95


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
@pytest.mark.parametrize("metric", ["dotproduct", "euclidean"])
def test_the_recall_does_not_depend_on_the_unit(engine, dropped, metric):
    """Of vectors so small that all distances are about the same, rounded."""
    count = 800
    data = np.random.default_rng(7).normal(size=(count, 16)).astype(np.float32)
    recalls = []
    # A power of 2, so that lists are the same, bit by bit
    for scale in (1.0, 2.0**-16):
        dataset = image_dataset(count)
        index = fob.compute_similarity(
            dataset,
            embeddings=data * np.float32(scale),
            brain_key=KEY,
            backend="milvus",
            metric=metric,
            index_type="IVF_FLAT",
            index_params={"nlist": 16},
            search_params={"nprobe": 1},
            **engine.kwargs,
        )
        dropped.append(Indexed(dataset, index, metric, {}, dict(engine.kwargs)))
        assert index._collection.wait_until_built()
        # IDs, and so the draw, are in the order of the data
        recalls.append(index.evaluate(queries=60, k=10).recall)
    assert recalls[0] == pytest.approx(recalls[1], abs=0.05)
    assert recalls[0] < 0.8


def test_equally_near_ones_are_equally_right(engine, dropped):
    dataset = image_dataset(40)
    data = np.repeat(vectors(4), 10, axis=0)
    index = fob.compute_similarity(
        dataset, embeddings=data, brain_key=KEY, backend="milvus", metric="cosine", **engine.kwargs
    )
    dropped.append(Indexed(dataset, index, "cosine", {}, dict(engine.kwargs)))
    assert index.evaluate(k=3).recall == 1.0
    np.testing.assert_allclose(index.nearest_distances(), np.zeros(40), atol=1e-12)


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
@pytest.mark.parametrize(
    "kwargs",
    [
        {"queries": 0},
        {"queries": 2.5},
        {"queries": True},
        {"k": 0},
        {"k": None},
        {"k": 4096},
        {"seed": -1},
        {"seed": None},
    ],
)
def test_what_can_not_be_measured(cosine_images, kwargs):
    with pytest.raises(InvalidInputError, match=f"{next(iter(kwargs))} ") as error:
        cosine_images.index.evaluate(**kwargs)
    one_line(error.value)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_to_compare(engine, dropped, count):
    dataset = image_dataset(3)
    index = fob.compute_similarity(
        dataset, embeddings=False, brain_key=KEY, backend="milvus", **engine.kwargs
    )
    dropped.append(Indexed(dataset, index, "dotproduct", {}, dict(engine.kwargs)))
    if count:
        index.add_to_index(vectors(1), dataset.values("id")[:1])
    for call in (index.evaluate, index.nearest_distances):
        with pytest.raises(InvalidInputError, match=f"{count} vectors") as error:
            call()
        one_line(error.value)


# -- nearest_distances --------------------------------------------------------------------------


def test_the_nearest_other_of_every_vector(images):
    found = images.index.nearest_distances()
    assert found.dtype == np.float64
    assert found.shape == (300,)
    true = nearest(images.metric, images.matrix(sorted(images.ids)))
    np.testing.assert_allclose(found, true, atol=1e-5)


def test_the_nearest_others_of_a_sample(patches):
    found = patches.index.nearest_distances(sample=20, seed=5)
    ids = sorted(patches.ids)
    drawn = np.sort(np.random.default_rng(5).choice(len(ids), 20, replace=False))
    # Of the whole index, not of the sample
    true = nearest(patches.metric, patches.matrix(ids))[drawn]
    np.testing.assert_allclose(found, true, atol=1e-5)
    np.testing.assert_array_equal(patches.index.nearest_distances(sample=20, seed=5), found)


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
@pytest.mark.parametrize("sample", [0, "many", None])
def test_an_invalid_sample(cosine_images: Any, sample: Any) -> None:
    with pytest.raises(InvalidInputError, match="sample") as error:
        cosine_images.index.nearest_distances(sample=sample)
    one_line(error.value)
