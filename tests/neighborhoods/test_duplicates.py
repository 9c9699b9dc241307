"""Neighbors within a distance, and all that FiftyOne builds on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiftyone.brain as fob
import numpy as np
import pytest
from fiftyone import ViewField as F

from tests.support import oracle
from tests.support.indexes import Indexed, image_dataset, one_line, unknown_id, vectors

NEAR = 40


# -- _radius_neighbors --------------------------------------------------------------------------


@pytest.mark.parametrize("quantile", [0.02, 0.2])
def test_the_whole_index_within_a_radius(images, quantile):
    order = list(images.index.current_sample_ids)
    thresh = oracle.clear_thresh(images.metric, images.matrix(order), quantile)
    inds, dists = images.index._radius_neighbors(thresh=thresh, return_dists=True)
    expected = oracle.within(images.metric, images.matrix(order), thresh)
    square = oracle.neighbors(images.metric, images.matrix(order))
    assert [set(np.asarray(found).tolist()) for found in inds] == expected
    for i, (found, reported) in enumerate(zip(inds, dists, strict=True)):
        assert np.issubdtype(np.asarray(found).dtype, np.integer)
        np.testing.assert_allclose(reported, square[i, found], atol=1e-5)


def test_without_distances_there_is_one_value(cosine_images):
    thresh = oracle.clear_thresh("cosine", cosine_images.matrix(), 0.05)
    inds = cosine_images.index._radius_neighbors(thresh=thresh)
    order = list(cosine_images.index.current_sample_ids)
    expected = oracle.within("cosine", cosine_images.matrix(order), thresh)
    assert [set(np.asarray(found).tolist()) for found in inds] == expected


def test_a_view_within_a_radius(images):
    view = images.dataset.match(F("number") % 3 == 0)
    with images.index.use_view(view):
        order = list(images.index.current_sample_ids)
        thresh = oracle.clear_thresh(images.metric, images.matrix(order), 0.1)
        inds = images.index._radius_neighbors(thresh=thresh)
    assert sorted(order) == sorted(view.values("id"))
    expected = oracle.within(images.metric, images.matrix(order), thresh)
    assert [set(np.asarray(found).tolist()) for found in inds] == expected


def test_vectors_within_a_radius(images):
    queries = vectors(3, seed=31)
    square = oracle.distances(images.metric, queries, images.matrix())
    thresh = float(np.sort(square.ravel())[[60, 61]].mean())
    ids, labels, dists = images.index._radius_neighbors(
        query=queries, thresh=thresh, return_dists=True
    )
    assert labels is None
    for row, found, reported in zip(square, ids, dists, strict=True):
        true = dict(zip(images.ids, row, strict=True))
        assert set(found) == {_id for _id, d in true.items() if d <= thresh}
        np.testing.assert_allclose(reported, [true[_id] for _id in found], atol=1e-5)
    single, _ = images.index._radius_neighbors(query=queries[0], thresh=thresh)
    assert set(single) == set(ids[0])


def test_ids_within_a_radius(images):
    thresh = oracle.clear_thresh(images.metric, images.matrix(), 0.1)
    query = images.ids[8:11]
    ids, _ = images.index._radius_neighbors(query=query, thresh=thresh)
    for _id, found in zip(query, ids, strict=True):
        true = images.true(_id)
        assert set(found) - {_id} == {o for o, d in true.items() if d <= thresh} - {_id}
    single, _ = images.index._radius_neighbors(query=query[0], thresh=thresh)
    assert set(single) == set(ids[0])
    with pytest.raises(ValueError, match=r"not|unknown|missing"):
        images.index._radius_neighbors(query=unknown_id(), thresh=thresh)


def test_patches_within_a_radius(patches):
    order = list(patches.index.current_label_ids)
    thresh = oracle.clear_thresh(patches.metric, patches.matrix(order), 0.1)
    inds = patches.index._radius_neighbors(thresh=thresh)
    expected = oracle.within(patches.metric, patches.matrix(order), thresh)
    assert [set(np.asarray(found).tolist()) for found in inds] == expected
    samples, labels = patches.index._radius_neighbors(query=order[0], thresh=thresh)
    assert samples == [patches.samples[_id] for _id in labels]
    assert set(labels) - {order[0]} == {order[i] for i in expected[0]}


def test_nothing_within_a_tiny_radius(cosine_images):
    assert all(len(found) == 0 for found in cosine_images.index._radius_neighbors(thresh=1e-9))


def test_a_radius_is_needed(cosine_images):
    with pytest.raises(ValueError, match="thresh") as error:
        cosine_images.index._radius_neighbors()
    one_line(error.value)


# -- find_duplicates, find_unique ---------------------------------------------------------------


@pytest.fixture(scope="module")
def twins(engine: Any) -> Iterator[Indexed]:
    """120 samples of which 40 are near copies of earlier ones, each in a known place."""
    dataset = image_dataset(120)
    data = vectors(80)
    rng = np.random.default_rng(3)
    near = data[:NEAR] + rng.normal(size=(NEAR, data.shape[1])).astype(np.float32) * 1e-3
    data = np.concatenate([data, near])
    index = fob.compute_similarity(
        dataset,
        embeddings=data,
        brain_key="sim",
        backend="milvus",
        metric="euclidean",
        **engine.kwargs,
    )
    for sample in dataset.iter_samples(autosave=True):
        sample.tags.append(["train", "test", "val"][(sample.number // 20) % 3])
    ids = dataset.values("id")
    indexed = Indexed(
        dataset, index, "euclidean", dict(zip(ids, data, strict=True)), dict(engine.kwargs)
    )
    yield indexed
    indexed.drop()


@pytest.fixture
def copies(twins: Indexed) -> Iterator[tuple[Indexed, set[str]]]:
    """The index, and the IDs of the 40 pairs' members."""
    twins.index.clear_view()
    yield twins, set(twins.ids[:NEAR]) | set(twins.ids[80:])
    twins.index.clear_view()


def _check_pairs(indexed: Indexed, index: Any) -> None:
    pair = {}
    for i in range(NEAR):
        pair[indexed.ids[i]], pair[indexed.ids[80 + i]] = indexed.ids[80 + i], indexed.ids[i]
    assert len(index.duplicate_ids) == NEAR
    assert len(index.unique_ids) == 80
    assert set(index.duplicate_ids) | set(index.unique_ids) == set(indexed.ids)
    for _id, duplicates in index.neighbors_map.items():
        assert len(duplicates) == 1
        duplicate, dist = duplicates[0]
        assert pair[_id] == duplicate
        true = np.linalg.norm(indexed.vectors[_id] - indexed.vectors[duplicate])
        assert dist == pytest.approx(true, abs=1e-3)
    assert len(index.neighbors_map) == NEAR


def test_find_duplicates_by_threshold(copies):
    indexed, members = copies
    index = indexed.index
    index.find_duplicates(thresh=0.05)
    assert index.thresh == 0.05
    _check_pairs(indexed, index)
    assert set(index.duplicate_ids) <= members


def test_find_duplicates_by_fraction(copies):
    indexed, _ = copies
    indexed.index.find_duplicates(fraction=NEAR / 120)
    assert 0 < indexed.index.thresh < 0.5
    _check_pairs(indexed, indexed.index)


def test_find_duplicates_in_a_view(copies):
    indexed, _ = copies
    view = indexed.dataset.match((F("number") < 30) | (F("number") >= 100))
    with indexed.index.use_view(view):
        indexed.index.find_duplicates(thresh=0.05)
        ids = set(view.values("id"))
        assert set(indexed.index.duplicate_ids) | set(indexed.index.unique_ids) == ids
        assert len(indexed.index.duplicate_ids) == 10


def test_the_first_of_a_group_stays(copies):
    indexed, _ = copies
    order = list(indexed.index.current_sample_ids)
    square = oracle.distances("euclidean", indexed.matrix(order), indexed.matrix(order))
    for thresh in (0.05, 0.5, 0.7, 0.9, 5.0):
        indexed.index.find_duplicates(thresh=thresh)
        keep = oracle.kept([set(np.flatnonzero(row <= thresh)) for row in square])
        assert indexed.index.unique_ids == [order[i] for i in sorted(keep)]
        assert indexed.index.duplicate_ids == [
            i for i in order if i not in indexed.index.unique_ids
        ]


@pytest.mark.parametrize("fraction", [0, 0.1, 0.6, 0.95, 1])
def test_a_fraction_of_a_view(copies, fraction):
    indexed, _ = copies
    index = indexed.index
    view = indexed.dataset.match((F("number") < 30) | (F("number") >= 90))
    with index.use_view(view):
        order = list(index.current_sample_ids)
        index.find_duplicates(fraction=fraction)
        count = round((1 - fraction) * len(order))
        assert set(index.unique_ids) | set(index.duplicate_ids) == set(order)
        assert len(index.unique_ids) == count
        if fraction in (0, 1):
            assert index.thresh is None
            assert index.neighbors_map == {}
            return
        square = oracle.distances("euclidean", indexed.matrix(order), indexed.matrix(order))
        keep = oracle.kept([set(np.flatnonzero(row <= index.thresh)) for row in square])
        assert index.unique_ids == [order[i] for i in sorted(keep)]
        found = {dup: (_id, d) for _id, dups in index.neighbors_map.items() for dup, d in dups}
        assert set(found) == set(index.duplicate_ids)
        for duplicate, (nearest, dist) in found.items():
            true = indexed.true(duplicate, among=index.unique_ids)
            assert dist == pytest.approx(min(true.values()), abs=1e-4)
            assert dist == pytest.approx(true[nearest], abs=1e-4)


def test_one_read_of_the_vectors(copies):
    """However many distances are tried, and for the nearest of the duplicates too."""
    indexed, _ = copies
    assert indexed.index.client  # waits until a server has loaded the collection
    assert len(indexed.index.current_sample_ids) == 120
    collection = indexed.index._collection
    asked: list[int] = []
    run = type(collection)._call

    def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(1)
        return run(self, *args, **kwargs)

    def calls(ask: Any) -> int:
        asked.clear()
        ask()
        return len(asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(collection), "_call", counting)
        once = calls(lambda: indexed.index._radius_neighbors(thresh=0.05))
        assert once > 0
        assert calls(lambda: indexed.index.find_duplicates(thresh=0.05)) == once
        assert calls(lambda: indexed.index.find_duplicates(fraction=0.45)) == once
        assert calls(lambda: indexed.index.find_unique(31)) == once


def test_vectors_on_disk(copies, monkeypatch):
    indexed, _ = copies
    monkeypatch.setattr("fiftyone_milvus.neighborhoods.vectors.MAX_BYTES", 0)
    indexed.index.find_duplicates(thresh=0.05)
    _check_pairs(indexed, indexed.index)


@pytest.mark.parametrize(
    "arguments", [{}, {"thresh": "near"}, {"thresh": np.nan}, {"fraction": "half"}]
)
def test_what_duplicates_are_must_be_said(copies, arguments):
    with pytest.raises(ValueError, match=r"thresh|fraction") as error:
        copies[0].index.find_duplicates(**arguments)
    one_line(error.value)


def test_duplicates_and_unique_views(copies):
    indexed, members = copies
    index = indexed.index
    index.find_duplicates(thresh=0.05)
    view = index.duplicates_view(type_field="kind", id_field="nearest", dist_field="apart")
    assert set(view.values("id")) == members
    kinds, nearest, apart, ids = view.values(["kind", "nearest", "apart", "id"])
    assert kinds == ["nearest", "duplicate"] * NEAR
    assert all(near == ids[i - i % 2] for i, near in enumerate(nearest))
    assert all(0 <= dist < 0.05 for dist in apart)
    assert set(index.unique_view().values("id")) == set(index.unique_ids)
    by_count = index.duplicates_view(sort_by="count", reverse=True)
    assert set(by_count.values("id")) == members


def test_find_unique(copies):
    indexed, _ = copies
    indexed.index.find_unique(25)
    unique = indexed.index.unique_ids
    assert len(unique) == len(set(unique)) == 25
    square = oracle.neighbors("euclidean", indexed.matrix(unique))
    assert np.nanmin(square) >= indexed.index.thresh - 1e-3
    assert len(indexed.index.unique_view()) == 25


def test_plot_distances(copies):
    indexed, _ = copies
    figure = indexed.index.plot_distances()
    assert sum(figure.data[0].y) == len(indexed.ids)


def test_duplicate_patches(cosine_patches):
    index = cosine_patches.index
    order = list(index.current_label_ids)
    thresh = oracle.clear_thresh("cosine", cosine_patches.matrix(order), 0.05)
    index.find_duplicates(thresh=thresh)
    keep = oracle.kept(oracle.within("cosine", cosine_patches.matrix(order), thresh))
    assert set(index.unique_ids) == {order[i] for i in keep}
    assert 0 < len(index.duplicate_ids) < len(order)
    assert len(index.duplicates_view()) > 0
    for _id, duplicates in index.neighbors_map.items():
        for duplicate, dist in duplicates:
            true = cosine_patches.true(duplicate, among=index.unique_ids)
            assert dist == pytest.approx(min(true.values()), abs=1e-5)
            assert true[_id] == pytest.approx(dist, abs=1e-5)


# -- the Brain's methods ------------------------------------------------------------------------


def test_compute_near_duplicates(copies):
    indexed, _ = copies
    for similarity_index in ("sim", indexed.index):
        index = fob.compute_near_duplicates(
            indexed.dataset, threshold=0.05, similarity_index=similarity_index
        )
        _check_pairs(indexed, index)


def test_compute_leaky_splits(copies):
    indexed, _ = copies
    dataset = indexed.dataset
    index = fob.compute_leaky_splits(
        dataset, splits=["train", "test", "val"], similarity_index="sim", threshold=0.05
    )
    split = dict(zip(*dataset.values(["id", "tags"]), strict=True))
    leaks = set()
    for i in range(NEAR):
        first, second = indexed.ids[i], indexed.ids[80 + i]
        if split[first] != split[second]:
            leaks |= {first, second}
    assert leaks
    assert set(index.leak_ids) == leaks
    assert set(index.leaks_view().values("id")) == leaks
    assert set(index.no_leaks_view().values("id")) == set(indexed.ids) - leaks


def test_compute_uniqueness(copies):
    indexed, members = copies
    fob.compute_uniqueness(indexed.dataset, similarity_index="sim")
    values = dict(zip(*indexed.dataset.values(["id", "uniqueness"]), strict=True))
    square = np.sort(oracle.neighbors("euclidean", indexed.matrix()), axis=1)[:, :3]
    expected = (square * [0.6, 0.3, 0.1]).mean(axis=1)
    expected /= expected.max()
    np.testing.assert_allclose([values[_id] for _id in indexed.ids], expected, rtol=0, atol=2e-3)
    alone = set(indexed.ids) - members
    assert np.mean([values[i] for i in members]) < np.mean([values[i] for i in alone])


def test_compute_uniqueness_of_a_view(copies):
    indexed, _ = copies
    view = indexed.dataset.limit(30)
    fob.compute_uniqueness(view, similarity_index="sim", uniqueness_field="part")
    assert indexed.dataset.exists("part").count() == 30
    assert max(view.values("part")) == pytest.approx(1.0)


def test_compute_representativeness(copies):
    indexed, _ = copies
    fob.compute_representativeness(indexed.dataset, similarity_index="sim")
    values = np.array(indexed.dataset.values("representativeness"), dtype=float)
    assert values.shape == (120,)
    assert np.isfinite(values).all()
    view = indexed.dataset.skip(60)
    fob.compute_representativeness(
        view, similarity_index=indexed.index, representativeness_field="part_repr"
    )
    assert indexed.dataset.exists("part_repr").count() == 60


def test_compute_visualization(copies):
    indexed, _ = copies
    dataset = indexed.dataset
    for samples in (dataset, dataset.skip(20).limit(50)):
        results = fob.compute_visualization(
            samples, similarity_index="sim", method="pca", num_dims=2
        )
        assert results.points.shape == (len(samples), 2)
        assert list(results.sample_ids) == samples.values("id")
        centred = indexed.matrix(samples.values("id"))
        centred = centred - centred.mean(axis=0)
        spread = np.linalg.svd(centred, compute_uv=False)[:2]
        np.testing.assert_allclose(np.linalg.norm(results.points, axis=0), spread, rtol=1e-2)


def test_visualized_duplicates(copies):
    indexed, _ = copies
    points = fob.compute_visualization(indexed.dataset, similarity_index="sim", method="pca")
    indexed.index.find_duplicates(thresh=0.05)
    plots = [indexed.index.visualize_duplicates(points, backend="matplotlib")]
    indexed.index.find_unique(10)
    plots.append(indexed.index.visualize_unique(points, backend="matplotlib"))
    assert all(plot is not None for plot in plots)


def test_patches_visualized(cosine_patches):
    results = fob.compute_visualization(
        cosine_patches.dataset,
        patches_field="ground_truth",
        similarity_index="sim",
        method="pca",
        num_dims=2,
    )
    assert results.points.shape == (len(cosine_patches.ids), 2)
    assert set(results.label_ids) == set(cosine_patches.ids)
