"""What can't be done says so in one line, names the value, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest

from fiftyone_milvus.errors import (
    CollectionNotFoundError,
    InvalidInputError,
    MissingIDsError,
)
from tests.support import oracle
from tests.support.indexes import (
    DIM,
    KEY,
    Indexed,
    collections,
    image_dataset,
    index_images,
    index_patches,
    one_line,
    unknown_id,
    vectors,
)


@pytest.fixture(scope="module", params=oracle.METRICS)
def _index(request: pytest.FixtureRequest, engine: Any) -> Iterator[Indexed]:
    indexed = index_images(engine, 20, request.param)
    indexed.dataset.add_samples([fo.Sample(filepath=f"more-{i}.jpg") for i in range(5)])
    yield indexed
    indexed.drop()


@pytest.fixture
def unchanged(_index: Indexed) -> Iterator[Indexed]:
    """An index of 20 samples; afterwards it must hold what it held before."""
    yield _index
    assert _index.index.total_index_size == 20
    embeddings, ids, _ = _index.index.get_embeddings()
    got = dict(zip(ids, embeddings, strict=True))
    assert set(got) == set(_index.ids)
    for _id in _index.ids:
        np.testing.assert_array_equal(got[_id], _index.vectors[_id])


@pytest.fixture
def new(unchanged: Indexed) -> np.ndarray:
    """IDs of five samples that are not indexed."""
    return np.array(unchanged.dataset.values("id")[20:])


# -- bad embeddings -----------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, DIM - 1, DIM + 1, 2 * DIM])
def test_another_dimension(unchanged, new, dim):
    with pytest.raises(ValueError, match=str(dim)) as error:
        unchanged.index.add_to_index(np.ones((5, dim)), new)
    assert str(DIM) in one_line(error.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_embeddings_that_are_not_finite(unchanged, new, bad):
    """1e39 is finite in float64 and infinite in the float32 that Milvus stores."""
    data = vectors(5, seed=3).astype(np.float64)
    data[3, 2] = bad
    with pytest.raises(ValueError, match=str(new[3])) as error:
        unchanged.index.add_to_index(data, new)
    one_line(error.value)


def test_a_zero_embedding(unchanged, new):
    data = vectors(5, seed=3)
    data[2] = 0
    if unchanged.metric == "cosine":
        with pytest.raises(ValueError, match="zero") as error:
            unchanged.index.add_to_index(data, new)
        assert new[2] in one_line(error.value)
        return
    unchanged.index.add_to_index(data, new)
    found, _, dists = unchanged.index._kneighbors(
        query=np.ones(DIM, dtype=np.float32), k=25, return_dists=True
    )
    true = oracle.distances(unchanged.metric, np.ones(DIM), [np.zeros(DIM)])[0, 0]
    assert dists[found.index(new[2])] == pytest.approx(true, abs=1e-4)
    unchanged.index.remove_from_index(sample_ids=new)


@pytest.mark.parametrize("shape", [(DIM,), (5, 1, DIM), ()])
def test_another_shape(unchanged, new, shape):
    with pytest.raises(ValueError, match=r"array|shape|dim") as error:
        unchanged.index.add_to_index(np.ones(shape), new)
    one_line(error.value)


def test_embeddings_that_are_no_numbers(unchanged, new):
    with pytest.raises(InvalidInputError) as error:
        unchanged.index.add_to_index(np.full((5, DIM), "x"), new)
    one_line(error.value)


def test_no_embeddings_at_all(unchanged):
    unchanged.index.add_to_index(np.array([]), np.array([], dtype=str))
    unchanged.index.add_to_index([], [])
    with pytest.raises(InvalidInputError) as error:
        unchanged.index.add_to_index(None, [])
    one_line(error.value)


def test_wrong_numbers_of_ids(unchanged, new):
    with pytest.raises(ValueError, match="5") as error:
        unchanged.index.add_to_index(vectors(5), new[:3])
    assert "3" in one_line(error.value)
    with pytest.raises(ValueError, match="3") as error:
        unchanged.index.add_to_index(vectors(3), new)
    one_line(error.value)


def test_label_ids_on_a_sample_index(unchanged, new):
    label = unknown_id()
    with pytest.raises(ValueError, match="label") as error:
        unchanged.index.add_to_index(vectors(5), new, label_ids=[unknown_id()] * 5)
    one_line(error.value)
    for ask in (
        lambda: unchanged.index.get_embeddings(label_ids=[label]),
        lambda: unchanged.index.remove_from_index(label_ids=[label]),
    ):
        with pytest.raises(ValueError, match="label") as error:
            ask()
        one_line(error.value)


def test_sample_ids_alone_on_a_patch_index(engine, dropped):
    indexed = index_patches(engine, 8, "cosine")
    dropped.append(indexed)
    owners = [indexed.samples[_id] for _id in indexed.ids]
    count = len(owners)
    with pytest.raises(ValueError, match="label") as error:
        indexed.index.add_to_index(vectors(count, seed=4), np.array(owners))
    one_line(error.value)
    with pytest.raises(InvalidInputError) as error:
        indexed.index.add_to_index(
            vectors(count, seed=4), np.array(owners), label_ids=np.array(indexed.ids[:-1])
        )
    one_line(error.value)
    assert indexed.index.total_index_size == count
    np.testing.assert_array_equal(
        indexed.index.get_embeddings(label_ids=indexed.ids)[0], indexed.matrix()
    )


def test_ids_that_are_no_strings(unchanged):
    with pytest.raises(InvalidInputError) as error:
        unchanged.index.add_to_index(vectors(2), [None, 5])
    one_line(error.value)


def test_ids_with_quotes_do_no_harm(unchanged):
    """IDs travel in filter expressions; whatever they hold, they stay IDs."""
    for evil in ('" or pk != "', "' or '1'=='1", "a\\", 'a"b', "ü\n\t", "x" * 200):
        embeddings, _, _ = unchanged.index.get_embeddings(sample_ids=[evil])
        assert len(embeddings) == 0
        unchanged.index.remove_from_index(sample_ids=[evil])
        with pytest.raises(MissingIDsError):
            unchanged.index._kneighbors(query=[evil], k=3)


# -- bad parameters -----------------------------------------------------------------------------

BAD_PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "metric": ({"metric": "manhattan"}, "manhattan"),
    "consistency": ({"consistency_level": "Sometimes"}, "Sometimes"),
    "index type": ({"index_type": "BTREE"}, "BTREE"),
    "index params type": ({"index_params": ["M", 8]}, "index_params"),
    "unknown index param": ({"index_type": "HNSW", "index_params": {"Q": 3}}, "Q"),
    "index param value": ({"index_type": "HNSW", "index_params": {"M": -5}}, "-5"),
    "index param of another type": (
        {"index_type": "IVF_FLAT", "index_params": {"M": 16}},
        "M",
    ),
    "search params type": ({"search_params": 7}, "search_params"),
    "unknown search param": ({"index_type": "HNSW", "search_params": {"zap": 1}}, "zap"),
    "search param value": ({"index_type": "HNSW", "search_params": {"ef": "many"}}, "many"),
    "timeout": ({"timeout": -1}, "-1"),
    "timeout type": ({"timeout": "soon"}, "soon"),
    "unknown parameter": ({"colection_name": "x"}, "colection_name"),
}


@pytest.mark.parametrize(("kwargs", "named"), BAD_PARAMETERS.values(), ids=BAD_PARAMETERS)
def test_parameters_are_checked_at_construction(datasets, kwargs, named):
    """Before anything connects: the address here answers nobody."""
    dataset = datasets(4)
    with pytest.raises((ValueError, TypeError), match=named) as error:
        fob.compute_similarity(
            dataset,
            embeddings=vectors(4),
            brain_key=KEY,
            backend="milvus",
            uri="http://127.0.0.1:9",
            **kwargs,
        )
    one_line(error.value)
    assert dataset.list_brain_runs() == []


@pytest.mark.parametrize("metric", ["Cosine", "l2", "ip", None, 3])
def test_metrics_are_named_as_documented(datasets, metric):
    with pytest.raises(ValueError, match="euclidean") as error:
        fob.compute_similarity(
            datasets(1),
            embeddings=vectors(1),
            backend="milvus",
            metric=metric,
            uri="http://127.0.0.1:9",
        )
    one_line(error.value)


# -- compute_similarity that fails --------------------------------------------------------------

BAD_EMBEDDINGS: dict[str, Any] = {
    "nan": lambda: np.where(np.eye(6, DIM) > 0, np.nan, 1.0),
    "infinite": lambda: np.full((6, DIM), np.inf),
    "zero": lambda: np.zeros((6, DIM)),
    "flat": lambda: np.ones(6),
    "deep": lambda: np.ones((6, 2, DIM)),
    "no dimension": lambda: np.ones((6, 0)),
}


@pytest.mark.parametrize("bad", BAD_EMBEDDINGS)
def test_bad_embeddings_leave_no_run_and_no_collection(engine, datasets, cosine_images, bad):
    dataset = datasets(6)
    before = collections(cosine_images.index)
    with pytest.raises((ValueError, IndexError)) as error:
        fob.compute_similarity(
            dataset,
            embeddings=BAD_EMBEDDINGS[bad](),
            brain_key=KEY,
            backend="milvus",
            metric="cosine",
            **engine.kwargs,
        )
    assert isinstance(error.value, ValueError)
    one_line(error.value)
    assert dataset.list_brain_runs() == []
    assert fo.load_dataset(dataset.name).list_brain_runs() == []
    assert collections(cosine_images.index) == before


def test_the_key_is_free_after_a_failure(engine, datasets):
    dataset = datasets(6)
    with pytest.raises(InvalidInputError):
        fob.compute_similarity(
            dataset,
            embeddings=np.full((6, DIM), np.nan),
            brain_key=KEY,
            backend="milvus",
            **engine.kwargs,
        )
    index = fob.compute_similarity(
        dataset, embeddings=vectors(6), brain_key=KEY, backend="milvus", **engine.kwargs
    )
    assert index.total_index_size == 6
    index.cleanup()


def test_repeated_ids_leave_no_run(engine, datasets, cosine_images):
    dataset = datasets(6)
    before = collections(cosine_images.index)
    index = fob.compute_similarity(
        dataset, embeddings=False, brain_key=KEY, backend="milvus", **engine.kwargs
    )
    ids = dataset.values("id")
    with pytest.raises(ValueError, match=ids[0]):
        index.add_to_index(vectors(6), np.array([ids[0]] * 6))
    assert index.total_index_size == 0
    assert collections(cosine_images.index) - before <= {index.config.collection_name}
    index.cleanup()
    assert collections(cosine_images.index) == before


def test_a_failure_keeps_the_run_that_was_there(engine, dropped):
    """The key is taken: nothing about the older run changes."""
    indexed = index_images(engine, 10, "cosine")
    dropped.append(indexed)
    with pytest.raises(ValueError, match=KEY):
        fob.compute_similarity(
            indexed.dataset,
            embeddings=vectors(10),
            brain_key=KEY,
            backend="milvus",
            **engine.kwargs,
        )
    assert indexed.dataset.list_brain_runs() == [KEY]
    assert indexed.index.total_index_size == 10
    got = indexed.dataset.sort_by_similarity(indexed.ids[0], k=3, brain_key=KEY).values("id")
    oracle.check_ranking(got, indexed.true(indexed.ids[0]), 3)


# -- nothing there ------------------------------------------------------------------------------


def test_an_index_without_embeddings(engine, datasets):
    """It counts nothing, holds nothing, and says what to do about it when searched."""
    dataset = datasets(5)
    index = fob.compute_similarity(
        dataset, embeddings=False, brain_key=KEY, backend="milvus", **engine.kwargs
    )
    try:
        assert index.total_index_size == 0
        assert index.index_size == 0
        assert list(index.sample_ids) == []
        embeddings, ids, _ = index.get_embeddings()
        assert (len(embeddings), len(ids)) == (0, 0)
        index.remove_from_index(sample_ids=dataset.values("id"))
        for query in (np.ones(DIM), dataset.first().id):
            with pytest.raises(CollectionNotFoundError, match="add_to_index") as error:
                dataset.sort_by_similarity(query, k=3, brain_key=KEY)
            one_line(error.value)
        index.add_to_index(vectors(5), np.array(dataset.values("id")))
        assert index.total_index_size == 5
    finally:
        index.cleanup()


def test_a_dataset_without_samples(engine):
    dataset = image_dataset(0)
    index = fob.compute_similarity(
        dataset, embeddings=False, brain_key=KEY, backend="milvus", **engine.kwargs
    )
    assert index.total_index_size == index.index_size == 0
    index.cleanup()
    dataset.delete()


def test_a_collection_dropped_behind_our_back(engine, dropped):
    indexed = index_images(engine, 10, "cosine")
    dropped.append(indexed)
    index, name = indexed.index, indexed.index.config.collection_name
    index.client.drop_collection(name)
    for ask in (
        lambda: index._kneighbors(query=indexed.vectors[indexed.ids[0]], k=3),
        lambda: indexed.dataset.sort_by_similarity(indexed.ids[0], k=3, brain_key=KEY),
        lambda: index._kneighbors(query=indexed.ids[:2], k=3, aggregation="post-min"),
        lambda: index._kneighbors(query=indexed.vectors[indexed.ids[0]], k=3, reverse=True),
        lambda: index.get_embeddings(sample_ids=indexed.ids[:2]),
        lambda: index.remove_from_index(sample_ids=indexed.ids[:2]),
        lambda: index.add_to_index(np.ones((1, DIM)), indexed.ids[:1]),
        lambda: index.total_index_size,
        lambda: index.sample_ids,
    ):
        with pytest.raises(CollectionNotFoundError, match=name) as error:
            ask()
        one_line(error.value)
    assert not index.client.has_collection(name)
    index.cleanup()
    assert index.total_index_size == 0
    index.add_to_index(np.ones((1, DIM)), indexed.ids[:1])
    assert index.total_index_size == 1
    index.cleanup()
