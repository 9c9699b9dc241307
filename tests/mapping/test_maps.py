"""Maps: what numpy computes, kept as FiftyOne's own visualizations, and added to."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from fiftyone import ViewField as F
from fiftyone.server.routes.embeddings import OnPlotLoad

from fiftyone_milvus import mapping
from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.index import map as index_map
from fiftyone_milvus.mapping import Anchors
from tests.support.indexes import (
    DIM,
    KEY,
    Indexed,
    index_images,
    one_line,
    vectors,
)

embedded_only = pytest.mark.parametrize("engine", ["embedded"], indirect=True)


@pytest.fixture
def removed_maps(request: pytest.FixtureRequest) -> Iterator[list[Indexed]]:
    """A list: the maps of the shared indexes that a test puts in are deleted afterwards."""
    used: list[Indexed] = []
    yield used
    for indexed in used:
        for key in mapping.maps_of(indexed.dataset, KEY):
            indexed.dataset.delete_brain_run(key)


@pytest.fixture
def growing(engine: Any, dropped: list[Indexed]) -> Indexed:
    """An index of 60 of 63 samples."""
    indexed = index_images(engine, 60, "euclidean")
    indexed.dataset.add_samples(
        [fo.Sample(filepath=f"new-{i}.jpg", number=60 + i) for i in (0, 1, 2)]
    )
    dropped.append(indexed)
    return indexed


def principal(data: np.ndarray) -> np.ndarray:
    """Returns the first two principal components by singular values."""
    centred = data.astype(np.float64) - data.astype(np.float64).mean(axis=0)
    return centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T


def check_points(indexed: Indexed, results: Any, ids: Any) -> None:
    """The points are the principal components of the vectors with these IDs, up to signs."""
    data = indexed.matrix(ids).astype(np.float64)
    if indexed.metric == "cosine":
        data /= np.linalg.norm(data, axis=1, keepdims=True)
    found = results.sample_ids if results.label_ids is None else results.label_ids
    places = dict(zip(found.tolist(), results.points, strict=True))
    assert set(places) == set(ids)
    points, true = np.stack([places[_id] for _id in ids]), principal(data)
    signs = np.sign((points * true).sum(axis=0))
    np.testing.assert_allclose(points * signs, true, atol=1e-4)


def places(results: Any) -> dict[str, tuple[float, ...]]:
    return dict(zip(results.sample_ids.tolist(), map(tuple, results.points.tolist()), strict=True))


def shown_in_app(dataset: fo.Dataset, key: str) -> dict[str, Any]:
    """Returns what the App's Embeddings panel asks its server for."""
    request = {"datasetName": dataset.name, "brainKey": key, "view": [], "slices": None}
    return OnPlotLoad._post_sync(None, {**request, "labelField": None})


def test_a_map_is_the_first_two_principal_components(
    images: Indexed, removed_maps: list[Indexed]
) -> None:
    removed_maps.append(images)
    results = images.index.map()
    check_points(images, results, images.ids)
    assert results.config.milvus_map["points"] == len(images.ids)


def test_a_map_of_patches_names_their_labels(
    cosine_patches: Indexed, removed_maps: list[Indexed]
) -> None:
    removed_maps.append(cosine_patches)
    dataset, owner = cosine_patches.dataset, cosine_patches.samples
    view = dataset.match(F("number") < 40)
    ids = view.values("ground_truth.detections.id", unwind=True)
    results = cosine_patches.index.map("some_patches", samples=view)
    check_points(cosine_patches, results, ids)
    assert results.config.patches_field == "ground_truth"
    assert results.sample_ids.tolist() == [owner[i] for i in results.label_ids]
    found = shown_in_app(dataset, "some_patches")
    assert {point["id"] for point in found["traces"]["points"]} == set(ids)
    # Of a selection of patches too
    patches = dataset.to_patches("ground_truth").limit(9)
    assert set(cosine_patches.index.map(samples=patches).label_ids) == set(patches.values("id"))


@embedded_only
def test_fiftyone_stores_loads_shows_and_deletes_it(
    cosine_images: Indexed, removed_maps: list[Indexed]
) -> None:
    removed_maps.append(cosine_images)
    dataset = cosine_images.dataset
    made = cosine_images.index.map("a_map")
    loaded = dataset.load_brain_results("a_map", cache=False)
    assert type(loaded) is type(made)
    assert type(loaded).__module__ == "fiftyone.brain.visualization"
    assert places(loaded) == places(made)
    assert dataset.get_brain_info("a_map").config.method == "pca"
    assert loaded.config.similarity_index == KEY
    found = shown_in_app(dataset, "a_map")
    assert {point["id"] for point in found["traces"]["points"]} == set(cosine_images.ids)
    assert "error" not in found
    dataset.delete_brain_run("a_map")
    assert dataset.list_brain_runs() == [KEY]
    assert cosine_images.index.total_index_size == len(cosine_images.ids)


@embedded_only
def test_new_samples_are_added_and_nothing_moves(
    growing: Indexed, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, index = growing.dataset, growing.index
    with caplog.at_level(logging.INFO):
        first = index.map()
    assert "60 samples by PCA, 60 new" in caplog.text
    assert "3 samples have no embedding" in caplog.text
    before, basis = places(first), first.config.milvus_map["basis"]
    new = dataset.match(F("number") >= 60).values("id")
    data = vectors(3, seed=4) * 5
    index.add_to_index(data, np.array(new))
    gone = growing.ids[0]
    dataset.delete_samples([gone])
    results = index.map()
    after, record = places(results), results.config.milvus_map
    assert record["basis"] == basis
    assert (record["points"], record["new"], record["removed"], record["missing"]) == (62, 3, 1, 0)
    del before[gone]
    assert {_id: after[_id] for _id in before} == before
    np.testing.assert_allclose(
        [after[_id] for _id in new], mapping.Basis.from_text(basis).project(data), atol=1e-5
    )
    # All again: the basis of 62 others
    assert places(index.map(update=False)) != after
    check_points(
        Indexed(dataset, index, "euclidean", {**growing.vectors, **dict(zip(new, data))}, {}),
        index.map(),
        dataset.values("id"),
    )


@embedded_only
def test_it_is_computed_again_for_other_samples_or_an_index_that_was_made_again(
    growing: Indexed, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, index = growing.dataset, growing.index
    basis = index.map().config.milvus_map["basis"]
    some = index.map(samples=dataset.limit(20))
    check_points(growing, some, growing.ids[:20])
    assert dataset.load_brain_view(f"{KEY}_map").values("id") == growing.ids[:20]
    assert index.map().config.milvus_map["basis"] == basis
    with caplog.at_level(logging.INFO):
        dataset.delete_brain_run(KEY)
        again = fob.compute_similarity(
            dataset,
            embeddings=vectors(63, 8, seed=3),
            brain_key=KEY,
            backend="milvus",
            metric="euclidean",
            **growing.kwargs,
        )
    assert f"maps of index '{KEY}' stay: '{KEY}_map'" in caplog.text
    growing.index = again
    results = again.map()
    assert results.config.milvus_map["points"] == 63
    ids = dataset.values("id")
    made = Indexed(dataset, again, "euclidean", dict(zip(ids, vectors(63, 8, seed=3))), {})
    check_points(made, results, ids)


@embedded_only
def test_a_spatial_index_is_renewed_with_the_map(growing: Indexed) -> None:
    index = growing.index
    index.map().index_points("place")
    growing.dataset.delete_samples(growing.ids[:1])
    results = index.map()
    assert results.config.points_field == "place"
    stored = dict(zip(*growing.dataset.exists("place").values(["id", "place"])))
    assert {_id: tuple(point) for _id, point in stored.items()} == places(results)


@embedded_only
def test_maps_follow_a_renamed_index_and_stay_when_it_is_deleted(growing: Indexed) -> None:
    dataset, index = growing.dataset, growing.index
    index.map("m")
    dataset.rename_brain_run(KEY, "other")
    dataset._brain_cache.pop("m")
    assert mapping.maps_of(dataset, "other") == ["m"]
    assert dataset.load_brain_results("other").map("m").config.milvus_map["new"] == 0
    dataset.delete_brain_run("other")
    assert dataset.list_brain_runs() == ["m"]
    assert len(shown_in_app(dataset, "m")["traces"]["points"]) == 60


@embedded_only
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"method": "tsne"}, "Unsupported method 'tsne'"),
        ({"seed": -1}, "Invalid seed -1"),
        ({"brain_key": "not a key"}, "Invalid brain_key 'not a key'"),
        ({"brain_key": KEY}, "is not a map of this index"),
        ({"samples": "all"}, "Invalid samples 'all'"),
        ({"method": "umap"}, "pip install umap-learn"),
    ],
)
def test_what_can_not_be_drawn_is_refused(
    cosine_images: Indexed,
    arguments: dict[str, Any],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidInputError) as error:
        cosine_images.index.map(**arguments)
    assert expected in one_line(error.value)
    assert cosine_images.dataset.list_brain_runs() == [KEY]


@embedded_only
def test_samples_without_embeddings_make_no_map(growing: Indexed) -> None:
    index = growing.index
    kept = places(index.map())
    for samples in (growing.dataset.match(F("number") >= 60), growing.dataset.limit(0)):
        with pytest.raises(InvalidInputError, match="nothing to draw"):
            index.map(samples=samples)
    assert places(growing.dataset.load_brain_results(f"{KEY}_map", cache=False)) == kept


@embedded_only
def test_by_umap_a_sample_is_laid_out_and_the_rest_is_placed_in_it(
    growing: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid: list[np.ndarray] = []

    def lay_out(data: np.ndarray, seed: int) -> np.ndarray:
        laid.append(data)
        return principal(data)

    monkeypatch.setattr(mapping, "lay_out", lay_out)
    monkeypatch.setattr(mapping, "check_umap", lambda: None)
    monkeypatch.setattr(index_map, "_DRAWN", 40)
    dataset, index = growing.dataset, growing.index
    first = index.map(method="umap", seed=3)
    assert len(laid[0]) == 40
    assert first.config.method == "umap"
    before = places(first)
    assert len(before) == 60
    anchors = first.sample_ids[:40].tolist()
    np.testing.assert_array_equal(laid[0], growing.matrix(anchors))
    project = Anchors(laid[0], principal(laid[0])).project
    np.testing.assert_allclose(
        [before[i] for i in growing.ids if i not in anchors],
        project(growing.matrix(i for i in growing.ids if i not in anchors)),
        atol=1e-6,
    )
    new = dataset.match(F("number") >= 60).values("id")
    data = vectors(3, seed=4)
    index.add_to_index(data, np.array(new))
    dataset.delete_samples([anchors[0]])
    index.remove_from_index(sample_ids=[growing.ids[-1]])
    results = index.map()
    after = places(results)
    assert len(laid) == 1
    assert results.config.milvus_map["anchors"] == len(set(anchors[1:]) - {growing.ids[-1]})
    assert results.config.milvus_map["missing"] == 1
    for _id in (anchors[0], growing.ids[-1]):
        del before[_id]
    assert {_id: after[_id] for _id in before} == before
    assert set(after) == set(before) | set(new)
    left = [i for i in anchors[1:] if i in before]
    project = Anchors(growing.matrix(left), np.array([before[i] for i in left])).project
    np.testing.assert_allclose([after[i] for i in new], project(data), atol=1e-6)
    # Another seed draws another sample, and nothing else changes what is drawn
    index.map(method="umap", update=False, seed=3)
    index.map(method="umap", update=False, seed=3)
    index.map(method="umap", update=False, seed=4)
    np.testing.assert_array_equal(laid[1], laid[2])
    assert not np.array_equal(laid[1], laid[3])


def test_umap_keeps_clusters_apart() -> None:
    pytest.importorskip("umap")
    data = np.concatenate([vectors(30, clusters=1, seed=s) for s in (1, 2)])
    points = mapping.lay_out(data, 51)
    np.testing.assert_array_equal(points, mapping.lay_out(data, 51))
    centres = points[:30].mean(axis=0), points[30:].mean(axis=0)
    nearest = [np.argmin([np.linalg.norm(p - c) for c in centres]) for p in points]
    assert nearest == [0] * 30 + [1] * 30
    with pytest.raises(InvalidInputError, match="at least 5 embeddings"):
        mapping.lay_out(data[:4], 51)


@pytest.mark.parametrize(("count", "dim"), [(1, 4), (2, 1), (3, 2), (50, 7), (7, 50)])
def test_both_ways_to_the_components_agree_with_numpy(count: int, dim: int) -> None:
    # Far from zero, where squares lose what differs
    data = (vectors(count, dim) + 1000).astype(np.float32)
    true = np.zeros((count, 2))
    found = principal(data)
    true[:, : found.shape[1]] = found
    parts = [data[i : i + 13] for i in range(0, count, 13)]
    for basis in (mapping.fit(iter(parts)), mapping.fit_all(data, 51)):
        basis = mapping.Basis.from_text(basis.to_text())
        points = basis.project(data)
        signs = np.sign((points * true).sum(axis=0))
        np.testing.assert_allclose(points * signs, true, atol=1e-2)


def test_a_drawn_sample_is_fair_and_in_order() -> None:
    keys = object_ids.from_strings([f"{i:024x}" for i in range(100)])[0]
    times = np.zeros(100)
    for seed in range(200):
        drawn = index_map._draw(keys, 20, seed)
        places = np.searchsorted(keys, drawn)
        assert len(set(places)) == 20
        assert np.all(np.diff(places) > 0)
        times[places] += 1
    # 40 expected of each; six standard deviations are 34
    assert times.min() > 6
    assert times.max() < 74
    np.testing.assert_array_equal(index_map._draw(keys, 100, 0), keys)


@embedded_only
@pytest.mark.parametrize("limit", ["_DRAWN_PCA", "_EXACT_DIMS"])
def test_a_large_index_is_drawn_with_the_basis_of_a_sample(
    growing: Indexed, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_map, limit, 10)
    monkeypatch.setattr(index_map, "_DRAWN", 10)
    drawn = object_ids.to_strings(
        index_map._draw(np.sort(object_ids.from_strings(growing.ids)[0]), 10, 7)
    )
    basis = mapping.fit_all(growing.matrix(drawn), 7)
    results = growing.index.map(seed=7)
    found = places(results)
    np.testing.assert_allclose(
        [found[i] for i in growing.ids], basis.project(growing.matrix()), atol=1e-4
    )


def test_a_vector_is_placed_amid_its_nearest_anchors() -> None:
    data, points = vectors(90), np.random.default_rng(1).normal(size=(90, 2))
    anchors = Anchors(data, points)
    queries = vectors(30, seed=9)
    for query, place in zip(queries, anchors.project(queries)):
        distances = np.linalg.norm(data.astype(np.float64) - query, axis=1)
        near = np.argsort(distances)[:15]
        beyond = distances[near] - distances[near[0]]
        weights = np.exp(-beyond / beyond.mean())
        np.testing.assert_allclose(place, weights @ points[near] / weights.sum(), atol=1e-4)
    same = Anchors(np.ones((3, DIM), np.float32), points[:3])
    np.testing.assert_allclose(same.project(np.ones((1, DIM))), [points[:3].mean(axis=0)])
