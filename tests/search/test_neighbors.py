"""Every way to ask for neighbors, against brute force, for every metric."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_milvus.errors import InvalidInputError, InvalidVectorError
from tests.support import oracle
from tests.support.indexes import DIM, one_line, unknown_id, vectors
from tests.support.once import one_metric

AGGREGATIONS = ("mean", "post-mean", "post-min", "post-max", "min", "max")


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return vectors(4, seed=77)


# -- _kneighbors --------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 10, 300, 1000, None])
@pytest.mark.parametrize("reverse", [False, True], ids=["nearest", "farthest"])
def test_a_vector(images, queries, k, reverse):
    ids, labels, dists = images.index._kneighbors(
        query=queries[0], k=k, reverse=reverse, return_dists=True
    )
    assert labels is None
    assert isinstance(ids, list)
    true = images.true(queries[:1])
    oracle.check_ranking(ids, true, k, reverse=reverse, reported=dists)


@one_metric
def test_without_distances_there_are_two_values(images, queries):
    ids, labels = images.index._kneighbors(query=queries[0], k=5)
    oracle.check_ranking(ids, images.true(queries[:1]), 5)
    assert labels is None


def test_an_id_finds_itself_too(images):
    """As with FiftyOne's other external backends; uniqueness depends on it."""
    _id = images.ids[17]
    ids, _, dists = images.index._kneighbors(query=_id, k=8, return_dists=True)
    oracle.check_ranking(ids, images.true(_id), 8, reported=dists)
    if images.metric != "dotproduct":
        assert ids[0] == _id
        assert dists[0] == pytest.approx(0, abs=1e-3)


@one_metric
def test_a_list_of_ids_gives_a_list_of_lists_in_their_order(images):
    query = [*images.ids[40:50][::-1], images.ids[3]]
    ids, labels, dists = images.index._kneighbors(query=query, k=6, return_dists=True)
    assert len(ids) == len(dists) == len(query)
    assert labels is None
    for _id, found, reported in zip(query, ids, dists, strict=True):
        oracle.check_ranking(found, images.true(_id), 6, reported=reported)


@one_metric
def test_a_list_of_one_id_is_still_a_list(images):
    ids, _ = images.index._kneighbors(query=[images.ids[0]], k=3)
    assert len(ids) == 1
    oracle.check_ranking(ids[0], images.true(images.ids[0]), 3)


@one_metric
def test_the_same_id_twice_answers_twice(images):
    ids, _ = images.index._kneighbors(query=[images.ids[0], images.ids[0]], k=3)
    assert len(ids) == 2
    assert ids[0] == ids[1]


@pytest.mark.parametrize("reverse", [False, True], ids=["nearest", "farthest"])
@pytest.mark.parametrize("k", [7, None])
def test_an_array_of_vectors_gives_a_list_of_lists(images, queries, k, reverse):
    ids, _, dists = images.index._kneighbors(query=queries, k=k, reverse=reverse, return_dists=True)
    assert len(ids) == len(queries)
    for query, found, reported in zip(queries, ids, dists, strict=True):
        oracle.check_ranking(
            found, images.true(query[np.newaxis]), k, reverse=reverse, reported=reported
        )


@one_metric
def test_float64_and_list_queries(images, queries):
    true = images.true(queries[:1])
    for query in (queries[0].astype(np.float64), queries[0].tolist()):
        ids, _ = images.index._kneighbors(query=query, k=5)
        oracle.check_ranking(ids, true, 5)


def test_many_queries_at_once(cosine_images):
    many = vectors(700, seed=78)
    ids, _, dists = cosine_images.index._kneighbors(query=many, k=3, return_dists=True)
    assert len(ids) == 700
    for i in range(0, 700, 23):
        true = cosine_images.true(many[i : i + 1])
        oracle.check_ranking(ids[i], true, 3, reported=dists[i])


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("reverse", [False, True], ids=["nearest", "farthest"])
def test_aggregations_of_vectors(images, queries, aggregation, reverse):
    true = images.true(queries, how=aggregation)
    for k in (9, None):
        ids, _, dists = images.index._kneighbors(
            query=queries, k=k, aggregation=aggregation, reverse=reverse, return_dists=True
        )
        oracle.check_ranking(ids, true, k, reverse=reverse, reported=dists)


@one_metric
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_aggregations_of_ids(images, aggregation):
    query = images.ids[5:9]
    ids, _, dists = images.index._kneighbors(
        query=query, k=9, aggregation=aggregation, return_dists=True
    )
    oracle.check_ranking(ids, images.true(query, how=aggregation), 9, reported=dists)


def test_the_config_names_what_is_supported(cosine_images):
    config = cosine_images.index.config
    assert config.max_k is None
    assert config.supports_least_similarity is True
    assert set(AGGREGATIONS) <= set(config.supported_aggregations)


def test_every_supported_aggregation_works(cosine_images, queries):
    for how in cosine_images.index.config.supported_aggregations:
        ids, _ = cosine_images.index._kneighbors(query=queries, k=4, aggregation=how)
        oracle.check_ranking(ids, cosine_images.true(queries, how=how), 4)


def test_unknown_aggregations_are_refused(cosine_images, queries):
    with pytest.raises(ValueError, match="median") as error:
        cosine_images.index._kneighbors(query=queries, k=4, aggregation="median")
    assert "mean" in one_line(error.value)


# -- the whole index ----------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 4])
def test_neighbors_of_the_whole_index(images, k):
    """Positions in ``current_sample_ids``, one array per vector, never the vector itself."""
    inds, dists = images.index._kneighbors(k=k, return_dists=True)
    order = list(images.index.current_sample_ids)
    square = oracle.neighbors(images.metric, images.matrix(order))
    assert len(inds) == len(dists) == len(order)
    for i, (found, reported) in enumerate(zip(inds, dists, strict=True)):
        assert isinstance(found, np.ndarray)
        assert np.issubdtype(found.dtype, np.integer)
        true = {j: square[i, j] for j in range(len(order)) if j != i}
        oracle.check_ranking(found.tolist(), true, k, reported=list(reported))


def test_neighbors_of_the_whole_index_without_distances(cosine_images):
    inds = cosine_images.index._kneighbors(k=2)
    assert len(inds) == len(cosine_images.ids)
    assert all(found.shape == (2,) for found in inds)


@one_metric
def test_neighbors_within_a_view(images):
    view = images.dataset.select(images.ids[50:90])
    with images.index.use_view(view):
        inds, dists = images.index._kneighbors(k=3, return_dists=True)
        order = list(images.index.current_sample_ids)
    assert sorted(order) == sorted(images.ids[50:90])
    square = oracle.neighbors(images.metric, images.matrix(order))
    for i, (found, reported) in enumerate(zip(inds, dists, strict=True)):
        true = {j: square[i, j] for j in range(len(order)) if j != i}
        oracle.check_ranking(found.tolist(), true, 3, reported=list(reported))


def test_every_neighbor_of_every_vector(cosine_images):
    with cosine_images.index.use_view(cosine_images.dataset.limit(20)):
        inds = cosine_images.index._kneighbors(k=None)
    for i, found in enumerate(inds):
        others = [j for j in found.tolist() if j != i]
        assert sorted(others) == [j for j in range(20) if j != i]


def test_the_whole_index_cannot_be_aggregated(cosine_images):
    with pytest.raises(InvalidInputError, match="aggregation"):
        cosine_images.index._kneighbors(k=3, aggregation="mean")


# -- sort_by_similarity -------------------------------------------------------------------------


@one_metric
@pytest.mark.parametrize("reverse", [False, True], ids=["nearest", "farthest"])
@pytest.mark.parametrize("k", [12, None, 5000])
def test_sorting_a_dataset(images, k, reverse):
    query = images.ids[11]
    view = images.dataset.sort_by_similarity(query, k=k, reverse=reverse, brain_key="sim")
    oracle.check_ranking(view.values("id"), images.true(query), k, reverse=reverse)


@one_metric
def test_sorting_by_vector_vectors_and_ids(images, queries):
    dataset = images.dataset
    for query in (queries[0], queries, images.ids[4:7]):
        view = dataset.sort_by_similarity(query, k=15, brain_key="sim")
        matrix = np.atleast_2d(query) if isinstance(query, np.ndarray) else query
        oracle.check_ranking(view.values("id"), images.true(matrix), 15)


def test_the_default_brain_key(cosine_images):
    view = cosine_images.dataset.sort_by_similarity(cosine_images.ids[0], k=5)
    oracle.check_ranking(view.values("id"), cosine_images.true(cosine_images.ids[0]), 5)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_the_index_sorts_with_any_aggregation(cosine_images, queries, aggregation):
    view = cosine_images.index.sort_by_similarity(queries, k=10, aggregation=aggregation)
    true = cosine_images.true(queries, how=aggregation)
    oracle.check_ranking(view.values("id"), true, 10)


@pytest.mark.parametrize("reverse", [False, True], ids=["nearest", "farthest"])
def test_true_distances_are_stored_on_samples(images, reverse):
    """Smaller is closer, whatever Milvus calls its score."""
    query = images.ids[23]
    view = images.dataset.sort_by_similarity(
        query, k=20, reverse=reverse, brain_key="sim", dist_field="dist"
    )
    ids, dists = view.values(["id", "dist"])
    oracle.check_ranking(ids, images.true(query), 20, reverse=reverse, reported=dists)
    images.dataset.delete_sample_field("dist")


@one_metric
def test_a_sorted_view_can_be_sorted_within(images, queries):
    first = images.dataset.sort_by_similarity(queries[0], k=50, brain_key="sim")
    ids = first.values("id")
    second = first.sort_by_similarity(queries[1], k=10, brain_key="sim")
    oracle.check_ranking(second.values("id"), images.true(queries[1:2], among=ids), 10)


# -- what cannot be asked -----------------------------------------------------------------------


def test_an_unknown_id_is_named(cosine_images):
    missing = unknown_id()
    index = cosine_images.index
    for query in (missing, [cosine_images.ids[0], missing]):
        for ask in (
            lambda q: index._kneighbors(query=q, k=3),
            lambda q: index._kneighbors(query=q, k=3, aggregation="mean"),
            lambda q: index.sort_by_similarity(q, k=3),
            lambda q: cosine_images.dataset.sort_by_similarity(q, k=3, brain_key="sim"),
        ):
            with pytest.raises(ValueError, match=missing) as error:
                ask(query)
            one_line(error.value)


def test_a_query_of_another_dimension(cosine_images):
    for query in (np.ones(DIM + 1), np.ones((2, 2 * DIM))):
        with pytest.raises(ValueError, match=str(query.shape[-1])) as error:
            cosine_images.index._kneighbors(query=query, k=3)
        assert str(DIM) in one_line(error.value)


@one_metric
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_query_that_is_not_finite(images, queries, bad):
    query = queries[0].copy()
    query[3] = bad
    with pytest.raises(InvalidVectorError) as error:
        images.index._kneighbors(query=query, k=3)
    one_line(error.value)


def test_a_zero_query(images):
    if images.metric == "cosine":
        with pytest.raises(ValueError, match="zero"):
            images.index._kneighbors(query=np.zeros(DIM), k=3)
    else:
        ids, _, dists = images.index._kneighbors(query=np.zeros(DIM), k=3, return_dists=True)
        oracle.check_ranking(ids, images.true(np.zeros((1, DIM))), 3, reported=dists)


def test_an_empty_query(cosine_images):
    for query in ([], np.empty((0, DIM)), np.array([])):
        with pytest.raises(ValueError, match=r"[Aa]t least one"):
            cosine_images.index.sort_by_similarity(query, k=3)


@pytest.mark.parametrize("k", [0, -1, 2.5, "ten"])
def test_an_impossible_k(cosine_images, queries, k):
    with pytest.raises(ValueError, match="k"):
        cosine_images.index._kneighbors(query=queries[0], k=k)


def test_prompts_need_a_model_that_takes_them(cosine_images):
    with pytest.raises(ValueError, match=r"has no model.*use_model"):
        cosine_images.index.sort_by_similarity("a red square", k=3)
