"""Rankings of any length, and how many results a FiftyOne view can hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import bson
import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pymongo.errors
import pytest
from bson import ObjectId
from fiftyone import ViewField as F

from fiftyone_milvus.dataset import limits
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.search.expressions import ExpressionScope
from fiftyone_milvus.search.results import SearchResults
from tests.support import oracle
from tests.support.indexes import (
    KEY,
    Indexed,
    image_dataset,
    index_patches,
    one_line,
    unique,
    vectors,
)

ROWS = 36_000  # the window of a server is 16,384
DIM = 8
ATOL = 2e-3


@pytest.fixture(scope="module")
def dataset() -> Iterator[fo.Dataset]:
    dataset = image_dataset(ROWS)
    yield dataset
    dataset.delete()


@pytest.fixture(scope="module")
def many(engine: Any, dataset: fo.Dataset) -> Iterator[Indexed]:
    ids, data = dataset.values("id"), vectors(ROWS, DIM)
    index = fob.compute_similarity(
        dataset,
        embeddings=data,
        brain_key=engine.name,
        backend="milvus",
        metric="euclidean",
        **engine.kwargs,
    )
    yield Indexed(dataset, index, "euclidean", dict(zip(ids, data, strict=True)), {})
    index.cleanup()


@pytest.fixture
def everything(many: Indexed) -> Iterator[Indexed]:
    many.index.clear_view()
    yield many
    many.index.clear_view()


def _check(indexed: Indexed, k: int | None, among: list[str] | None = None) -> None:
    query = indexed.ids[77]
    true = indexed.true(query, among=among)
    ids, _, dists = indexed.index._kneighbors(query=query, k=k, return_dists=True)
    oracle.check_ranking(ids, true, k, reported=dists, atol=ATOL)
    assert dists == sorted(dists)


@pytest.mark.parametrize("k", [20_000, None, 50_000])
def test_any_k(everything, k):
    _check(everything, k)


@pytest.mark.parametrize(
    ("k", "width"),
    [(20_000, 30_000), (None, 30_000), (20_000, 18_000), (50_000, 18_000), (None, 500)],
)
def test_any_k_in_a_view(everything, k, width):
    view = everything.dataset.match(F("number") < width)
    everything.index.use_view(view)
    _check(everything, k, everything.ids[:width])


def test_a_sorted_view_of_everything(everything):
    query = everything.ids[77]
    view = everything.index.sort_by_similarity(query)
    oracle.check_ranking(view.values("id"), everything.true(query), None, atol=ATOL)


def test_more_within_a_distance_than_a_window(everything):
    query = everything.ids[77]
    true = everything.true(query)
    limit = float(np.sort(list(true.values()))[20_000])
    found = everything.index.search(query, max_distance=limit)
    # Rows at the distance itself, to the precision of float32, may be on either side
    assert abs(len(found) - 20_001) <= 20
    near = set(found.ids)
    assert {i for i, d in true.items() if d < limit - ATOL} <= near
    assert near <= {i for i, d in true.items() if d < limit + ATOL}
    oracle.check_ranking(found.ids, true, len(found), reported=found.distances, atol=ATOL)


def test_a_filter_for_more_than_a_window(everything):
    ids = sorted(everything.ids)
    inside = ids[10_000:]
    expression = f'pk >= "{inside[0]}"'
    scope = ExpressionScope(everything.index._collection, expression)
    assert scope.size == len(inside)
    assert scope.keep(ids[:25_000], ids[:25_000]).tolist() == [False] * 10_000 + [True] * 15_000
    assert not scope.few(len(inside) - 1)
    assert not scope.known
    assert sorted(scope.ids()) == inside
    assert scope.few(len(inside))
    query = everything.ids[77]
    for k in (10, 20_000, ROWS):
        found = everything.index.search(query, k=k, filter=expression)
        oracle.check_ranking(
            found.ids, everything.true(query, inside), k, reported=found.distances, atol=ATOL
        )


def test_a_filter_for_more_than_one_page(everything, monkeypatch):
    monkeypatch.setattr("fiftyone_milvus.collection.streams.PAGE_ROWS", 1_000)
    ids = sorted(everything.ids)
    expression = f'pk < "{ids[9]}" or pk >= "{ids[10_000]}"'
    scope = ExpressionScope(everything.index._collection, expression)
    assert sorted(scope.ids()) == ids[:9] + ids[10_000:]


# -- what a view can hold -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def page() -> Iterator[fo.Dataset]:
    """A dataset of one sample with one detection."""
    dataset = fo.Dataset(unique("page"))
    objects = [fo.Detection(label="a", bounding_box=[0, 0, 1, 1])]
    dataset.add_samples(
        [fo.Sample(filepath="page.jpg", ground_truth=fo.Detections(detections=objects))]
    )
    yield dataset
    dataset.delete()


def _results(samples: Any, ids: list[str], patches_field: str | None = None) -> SearchResults:
    labels = None if patches_field is None else ids
    sample_ids = ids if patches_field is None else [samples.first().id] * len(ids)
    return SearchResults(sample_ids, labels, np.zeros(len(ids)), samples, patches_field)


def _unknown(count: int) -> list[str]:
    start = int(str(ObjectId()), 16)
    return [f"{start + i:024x}" for i in range(count)]


def _pipeline_bytes(view: Any) -> int:
    return len(bson.encode({"pipeline": view._pipeline()}))


def test_the_size_of_a_pipeline_is_known(page):
    """What is computed from numbers of IDs is what FiftyOne's stages encode to."""
    label = page.first().ground_truth.detections[0].id
    for count in (5, 1234, 100_001):
        ids = [label, *_unknown(count - 1)]
        samples = _results(page, ids).view()
        assert 0 <= _pipeline_bytes(samples) - 2 * limits.array_bytes(count) < 600
        labels = _results(page, ids, "ground_truth").view()
        assert 0 <= _pipeline_bytes(labels) - limits.array_bytes(count) < 600
        assert labels.count("ground_truth.detections") == 1


def _largest(samples: Any) -> int:
    """Returns the largest number of results that is not refused."""
    low, high = 100_000, 1_000_000
    while high - low > 1:
        middle = (low + high) // 2
        try:
            limits.check_results(samples, middle)
        except InvalidInputError:
            high = middle
        else:
            low = middle
    return low


def test_as_many_results_as_are_let_through_can_be_loaded(page):
    largest = _largest(page)
    assert largest > 420_000
    view = _results(page, [page.first().id, *_unknown(largest - 1)]).view()
    # And there is room for what users and the App append
    view = view.match(F("filepath").is_in([f"another-{i}.jpg" for i in range(1_000)])).limit(3)
    assert view.count() == 0
    with pytest.raises(InvalidInputError, match=f"{largest + 1:,}") as error:
        _results(page, _unknown(largest + 1)).view()
    assert "k" in one_line(error.value)
    assert "search" in one_line(error.value)


def test_a_few_more_are_what_mongodb_refuses(page):
    """The bound is no stricter than it has to be."""
    count = int(_largest(page) * 1.01)
    view = page.select(_unknown(count), ordered=True)
    with pytest.raises(pymongo.errors.DocumentTooLarge):
        view.count()


def test_the_stages_of_the_searched_view_count_too(page):
    """An ID that the view excludes takes half the room of a result."""
    largest, narrowed = _largest(page), page.exclude(_unknown(200_000))
    limits.check_results(narrowed, largest - 105_000)
    with pytest.raises(InvalidInputError):
        limits.check_results(narrowed, largest - 95_000)


def test_too_many_results_of_a_search(engine, everything, monkeypatch):
    """Before and after a ranking, with and without a view, at a limit that is quick to reach."""
    monkeypatch.setattr(limits, "CHECK_FROM", 50)
    monkeypatch.setattr(limits, "MAX_PIPELINE_BYTES", 5_000)
    dataset, query = everything.dataset, everything.ids[77]
    view = dataset.match(F("number") < 200)
    for samples, k in ((dataset, None), (dataset, 200), (view, None), (view, 180)):
        with pytest.raises(InvalidInputError, match="too many for a FiftyOne view") as error:
            samples.sort_by_similarity(query, k=k, brain_key=engine.name, dist_field="far")
        assert "index.search(" in one_line(error.value)
    assert not dataset.has_field("far")
    assert dataset.sort_by_similarity(query, k=120, brain_key=engine.name).count() == 120
    assert view.sort_by_similarity(query, k=100, brain_key=engine.name).count() == 100


def test_too_many_patches_of_a_search(engine, monkeypatch):
    indexed = index_patches(engine, 200, "cosine")
    monkeypatch.setattr(limits, "CHECK_FROM", 50)
    monkeypatch.setattr(limits, "MAX_PIPELINE_BYTES", 6_000)
    query, index, dataset = indexed.ids[0], indexed.index, indexed.dataset
    patches = dataset.to_patches("ground_truth")
    assert len(indexed.ids) > 200
    for samples in (dataset, patches):
        with pytest.raises(InvalidInputError, match="too many"):
            samples.sort_by_similarity(query, k=200, brain_key=KEY)
        with pytest.raises(InvalidInputError, match="too many"), index.use_view(samples):
            index.search(query, k=200).view()
        assert samples.sort_by_similarity(query, k=80, brain_key=KEY).count() > 0
    indexed.drop()


def test_sorting_more_than_a_view_can_hold(engine, page, monkeypatch):
    """The error comes instead of MongoDB's, before distances are stored, and says what to do."""
    count = 18_000
    # Of a MongoDB that takes less; what the real one takes is tested above
    monkeypatch.setattr(limits, "CHECK_FROM", 1_000)
    monkeypatch.setattr(limits, "MAX_PIPELINE_BYTES", 2 * limits.array_bytes(17_000))
    index = fob.compute_similarity(
        page,
        embeddings=False,
        brain_key=unique(engine.name),
        backend="milvus",
        metric="euclidean",
        **engine.kwargs,
    )
    ids, data = _unknown(count), np.random.default_rng(4).random((count, 2), dtype=np.float32)
    index.add_to_index(data, np.array(ids))
    for sort in (
        lambda: index.sort_by_similarity(data[0], dist_field="far"),
        lambda: page.sort_by_similarity(data[0], k=17_500, brain_key=index.key),
    ):
        with pytest.raises(InvalidInputError, match="too many for a FiftyOne view") as error:
            sort()
        one_line(error.value)
    assert not page.has_field("far")
    found = index.search(data[0], max_distance=float("inf"))
    assert len(set(found.ids)) == len(found) == count
    assert (np.diff(found.distances) >= 0).all()
    assert len(index.sort_by_similarity(data[0], k=1000)._stages[-1].sample_ids) == 1000
    index.cleanup()
    page.delete_brain_run(index.key)
