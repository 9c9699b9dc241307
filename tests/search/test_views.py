"""Searches inside views: only the view, all of it that is indexed, and the right ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fiftyone import ViewField as F

from tests.support import oracle
from tests.support.indexes import (
    Indexed,
    index_images,
    index_patches,
    one_line,
    unknown_id,
    vectors,
)
from tests.support.once import one_metric

COUNT = 2000
WIDTHS = {"1%": 20, "10%": 200, "50%": 1000, "90%": 1800}


@pytest.fixture(scope="module", params=[None, "HNSW", "IVF_FLAT", "FLAT"], ids=str)
def large(request: pytest.FixtureRequest, engine: Any) -> Iterator[Indexed]:
    """2,000 vectors under each index type: narrow views are where graphs lose their way."""
    kwargs = {} if request.param is None else {"index_type": request.param}
    indexed = index_images(engine, COUNT, "cosine", dim=32, **kwargs)
    yield indexed
    indexed.drop()


def _view(indexed: Indexed, width: int) -> tuple[Any, list[str]]:
    """Returns a view of scattered samples, and their IDs."""
    rng = np.random.default_rng(width)
    numbers = np.sort(rng.choice(COUNT, size=width, replace=False)).tolist()
    view = indexed.dataset.match(F("number").is_in(numbers))
    ids = indexed.ids
    return view, [ids[i] for i in numbers]


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS.keys())
def test_recall_and_number_of_results(large, width):
    view, inside = _view(large, width)
    queries = vectors(20, 32, seed=width)
    k = 25
    recalls = []
    with large.index.use_view(view):
        ids, _, dists = large.index._kneighbors(query=queries, k=k, return_dists=True)
    for query, found, reported in zip(queries, ids, dists, strict=True):
        assert len(found) == len(set(found)) == min(k, width)
        assert set(found) <= set(inside)
        true = large.true(query[np.newaxis], among=inside)
        np.testing.assert_allclose(reported, [true[_id] for _id in found], atol=1e-5)
        assert list(reported) == sorted(reported)
        recalls.append(oracle.recall(found, true, k))
    assert np.mean(recalls) >= 0.99


@pytest.mark.parametrize("k", [10, 50, 5000, None])
def test_all_results_that_the_view_has(large, k):
    view, inside = _view(large, 30)
    query = large.ids[0]
    for reverse in (False, True):
        sorted_view = view.sort_by_similarity(query, k=k, reverse=reverse, brain_key="sim")
        true = large.true(query, among=inside)
        oracle.check_ranking(sorted_view.values("id"), true, k, reverse=reverse)


def test_recall_without_a_view(large):
    queries = vectors(30, 32, seed=5)
    ids, _ = large.index._kneighbors(query=queries, k=10)
    recalls = [
        oracle.recall(found, large.true(query[np.newaxis]), 10)
        for query, found in zip(queries, ids, strict=True)
    ]
    assert np.mean(recalls) >= 0.99


def test_a_far_corner(large):
    """The view holds only what is farthest from the query, where filtered graphs find nothing."""
    query = large.vectors[large.ids[0]]
    true = large.true(query[np.newaxis])
    far = sorted(true, key=true.__getitem__)[-40:]
    view = large.dataset.select(far)
    got = view.sort_by_similarity(query, k=25, brain_key="sim").values("id")
    oracle.check_ranking(got, {_id: true[_id] for _id in far}, 25)


# -- for every metric ---------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True], ids=["nearest", "farthest"])
@pytest.mark.parametrize("aggregation", ["mean", "post-min", "post-max"])
def test_views_metrics_and_aggregations(images, reverse, aggregation):
    view = images.dataset.match(F("number") % 7 == 0)
    query = images.ids[1:4]
    assert not set(query) & set(view.values("id"))
    with images.index.use_view(view):
        ids, _, dists = images.index._kneighbors(
            query=query, k=20, reverse=reverse, aggregation=aggregation, return_dists=True
        )
    true = images.true(query, among=view.values("id"), how=aggregation)
    oracle.check_ranking(ids, true, 20, reverse=reverse, reported=dists)


@one_metric
def test_a_query_id_outside_the_view(images):
    view = images.dataset.skip(100)
    for query in (images.ids[2], images.ids[2:5]):
        got = view.sort_by_similarity(query, k=10, brain_key="sim").values("id")
        oracle.check_ranking(got, images.true(query, among=view.values("id")), 10)


@one_metric
def test_distances_are_stored_inside_the_view_only(images):
    view = images.dataset.limit(30)
    query = images.ids[200]
    got = view.sort_by_similarity(query, k=10, brain_key="sim", dist_field="within")
    ids, dists = got.values(["id", "within"])
    oracle.check_ranking(ids, images.true(query, among=view.values("id")), 10, reported=dists)
    assert images.dataset.exists("within").count() == 10
    images.dataset.delete_sample_field("within")


def test_ordered_and_limited_views(cosine_images):
    dataset = cosine_images.dataset
    query = cosine_images.ids[0]
    for view in (
        dataset.shuffle(seed=1).limit(40),
        dataset.sort_by("number", reverse=True).limit(40),
        dataset.take(40, seed=3),
        dataset[10:50],
        dataset.exclude(cosine_images.ids[:250]),
        dataset.exclude_fields("number"),
    ):
        got = view.sort_by_similarity(query, k=10, brain_key="sim").values("id")
        oracle.check_ranking(got, cosine_images.true(query, among=view.values("id")), 10)


def test_an_empty_view(cosine_images):
    view = cosine_images.dataset.match(F("number") < 0)
    assert view.sort_by_similarity(cosine_images.ids[0], k=5, brain_key="sim").count() == 0
    with cosine_images.index.use_view(view):
        assert cosine_images.index.index_size == 0
        assert list(cosine_images.index._kneighbors(query=cosine_images.ids[0], k=3)[0]) == []
        assert len(cosine_images.index._kneighbors(k=1)) == 0


def test_the_view_of_the_index_survives_other_views(cosine_images):
    dataset, index = cosine_images.dataset, cosine_images.index
    mine = dataset.limit(50)
    index.use_view(mine)
    dataset.skip(280).sort_by_similarity(cosine_images.ids[0], k=5, brain_key="sim").count()
    assert index.view == mine
    ids, _ = index._kneighbors(query=cosine_images.ids[0], k=5)
    oracle.check_ranking(ids, cosine_images.true(cosine_images.ids[0], among=mine.values("id")), 5)


# -- samples that are not indexed ---------------------------------------------------------------


def test_samples_outside_the_index_never_come_back(engine, dropped):
    indexed = index_images(engine, 60, "cosine")
    dropped.append(indexed)
    gone = indexed.ids[40:]
    indexed.index.remove_from_index(sample_ids=gone)
    for _id in gone:
        del indexed.vectors[_id]
    dataset, query = indexed.dataset, indexed.ids[0]
    for view in (dataset.view(), dataset.skip(30), dataset.skip(35).limit(10)):
        for k in (3, 100, None):
            got = view.sort_by_similarity(query, k=k, brain_key="sim").values("id")
            oracle.check_ranking(got, indexed.true(query, among=view.values("id")), k)
    only_missing = dataset.skip(40)
    assert only_missing.sort_by_similarity(query, k=5, brain_key="sim").count() == 0
    with pytest.raises(ValueError, match=gone[0]):
        dataset.sort_by_similarity(gone[0], k=5, brain_key="sim")


def test_deleted_samples_leave_holes_not_short_results(engine, dropped):
    """Vectors of samples that FiftyOne has no more must not take places of those it has."""
    indexed = index_images(engine, 60, "cosine")
    dropped.append(indexed)
    query = indexed.vectors[indexed.ids[0]][np.newaxis]
    nearest = sorted(indexed.true(query), key=indexed.true(query).__getitem__)[:20]
    indexed.dataset.delete_samples(nearest)
    view = indexed.dataset.match(F("number") >= 0)
    got = view.sort_by_similarity(query[0], k=10, brain_key="sim").values("id")
    oracle.check_ranking(got, indexed.true(query, among=view.values("id")), 10)


# -- patches ------------------------------------------------------------------------------------


def _labels(view: Any) -> list[str]:
    return view.values("ground_truth.detections.id", unwind=True)


@pytest.mark.parametrize("reverse", [False, True], ids=["nearest", "farthest"])
def test_patches_from_a_patches_view(patches, reverse):
    view = patches.dataset.to_patches("ground_truth")
    for query in (patches.ids[5], patches.ids[2:5]):
        got = view.sort_by_similarity(query, k=15, reverse=reverse, brain_key="sim")
        oracle.check_ranking(got.values("id"), patches.true(query), 15, reverse=reverse)


@one_metric
def test_patches_from_part_of_a_patches_view(patches):
    view = patches.dataset.to_patches("ground_truth").match(F("ground_truth.label") == "b")
    inside = view.values("id")
    query = next(_id for _id in patches.ids if _id not in inside)
    got = view.sort_by_similarity(query, k=10, brain_key="sim", dist_field="near")
    ids, dists = got.values(["id", "near"])
    oracle.check_ranking(ids, patches.true(query, among=inside), 10, reported=dists)


@pytest.mark.parametrize("reverse", [False, True], ids=["nearest", "farthest"])
def test_patches_from_the_dataset(patches, reverse):
    """Samples come in the order of their first patch, and show only the patches found."""
    query = patches.ids[9]
    view = patches.dataset.sort_by_similarity(query, k=12, reverse=reverse, brain_key="sim")
    found = set(_labels(view))
    true = patches.true(query)
    assert len(found) == 12
    assert oracle.recall(found, true, 12, reverse=reverse) == 1.0
    best: dict[str, float] = {}
    pick = max if reverse else min
    for _id in found:
        sample = patches.samples[_id]
        best[sample] = pick(true[_id], best.get(sample, true[_id]))
    order = [best[sample] for sample in view.values("id")]
    np.testing.assert_allclose(order, sorted(best.values(), reverse=reverse), atol=1e-5)


@one_metric
def test_patches_from_a_view(patches):
    view = patches.dataset.match(F("number") >= 40)
    inside = _labels(view)
    for query in (patches.ids[0], inside[0]):
        got = view.sort_by_similarity(query, k=12, brain_key="sim")
        true = patches.true(query, among=inside)
        assert len(_labels(got)) == 12
        assert oracle.recall(_labels(got), true, 12) == 1.0


@one_metric
def test_all_patches_sorted(patches):
    view = patches.dataset.sort_by_similarity(patches.ids[0], brain_key="sim")
    assert sorted(_labels(view)) == sorted(patches.ids)


@one_metric
def test_distances_on_the_labels_of_a_dataset(patches):
    query = patches.ids[9]
    patches.dataset.sort_by_similarity(query, k=14, brain_key="sim", dist_field="near")
    ids, dists = patches.dataset.values(
        ["ground_truth.detections.id", "ground_truth.detections.near"], unwind=True
    )
    stored = {_id: d for _id, d in zip(ids, dists, strict=True) if d is not None}
    ranked = sorted(stored, key=stored.__getitem__)
    oracle.check_ranking(ranked, patches.true(query), 14, reported=[stored[_id] for _id in ranked])
    patches.dataset.delete_sample_field("ground_truth.detections.near")


@one_metric
def test_patch_neighbors_carry_both_ids(patches):
    sample_ids, label_ids, dists = patches.index._kneighbors(
        query=patches.ids[3], k=10, return_dists=True
    )
    assert sample_ids == [patches.samples[_id] for _id in label_ids]
    oracle.check_ranking(label_ids, patches.true(patches.ids[3]), 10, reported=dists)
    samples, labels = patches.index._kneighbors(query=patches.ids[3:6], k=4)
    for query, found_samples, found in zip(patches.ids[3:6], samples, labels, strict=True):
        oracle.check_ranking(found, patches.true(query), 4)
        assert found_samples == [patches.samples[_id] for _id in found]


@one_metric
def test_patch_neighbors_of_the_whole_index(patches):
    inds, dists = patches.index._kneighbors(k=2, return_dists=True)
    order = list(patches.index.current_label_ids)
    square = oracle.neighbors(patches.metric, patches.matrix(order))
    for i, (found, reported) in enumerate(zip(inds, dists, strict=True)):
        true = {j: square[i, j] for j in range(len(order)) if j != i}
        oracle.check_ranking(found.tolist(), true, 2, reported=list(reported))


def test_an_unknown_patch_is_named(cosine_patches):
    missing = unknown_id()
    with pytest.raises(ValueError, match=missing) as error:
        cosine_patches.dataset.sort_by_similarity(missing, k=3, brain_key="sim")
    one_line(error.value)


def test_filtered_labels_restrict_the_search(cosine_patches):
    view = cosine_patches.dataset.filter_labels("ground_truth", F("label") == "a")
    inside = _labels(view)
    assert 0 < len(inside) < len(cosine_patches.ids)
    got = view.sort_by_similarity(cosine_patches.ids[0], k=8, brain_key="sim")
    assert set(_labels(got)) <= set(inside)
    true = cosine_patches.true(cosine_patches.ids[0], among=inside)
    assert oracle.recall(_labels(got), true, 8) == 1.0


def test_patches_that_were_removed_never_come_back(engine, dropped):
    indexed = index_patches(engine, 24, "cosine")
    dropped.append(indexed)
    sample = indexed.samples[indexed.ids[4]]
    indexed.index.remove_from_index(sample_ids=[sample])
    view = indexed.dataset.to_patches("ground_truth")
    gone = [_id for _id in indexed.ids if indexed.samples[_id] == sample]
    left = [_id for _id in indexed.ids if _id not in gone]
    got = view.sort_by_similarity(left[0], brain_key="sim").values("id")
    oracle.check_ranking(got, indexed.true(left[0], among=left), None)
