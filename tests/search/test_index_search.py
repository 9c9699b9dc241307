"""``index.search``: filters in Milvus' language, everything within a distance, one per sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from fiftyone import ViewField as F
from pymilvus import DataType

from fiftyone_milvus.errors import InvalidInputError, MissingIDsError
from fiftyone_milvus.search.expressions import ExpressionScope, Intersection
from fiftyone_milvus.search.results import SearchResult, SearchResults
from fiftyone_milvus.search.views import ViewScope
from tests.support import oracle
from tests.support.indexes import (
    DIM,
    KEY,
    Indexed,
    index_images,
    one_line,
    unique,
    unknown_id,
    vectors,
)
from tests.support.once import one_metric

PAGES = 60
PATCHES = 24  # per page
METRIC_TYPES = {"cosine": "COSINE", "dotproduct": "IP", "euclidean": "L2"}


@pytest.fixture(scope="module")
def pages() -> Iterator[fo.Dataset]:
    """60 samples of 24 detections each."""
    dataset = fo.Dataset(unique("pages"))
    dataset.add_samples(
        [
            fo.Sample(
                filepath=f"page-{i:03d}.jpg",
                number=i,
                ground_truth=fo.Detections(
                    detections=[
                        fo.Detection(label="ab"[j % 2], bounding_box=[0, 0, 0.1, 0.1])
                        for j in range(PATCHES)
                    ]
                ),
            )
            for i in range(PAGES)
        ]
    )
    yield dataset
    dataset.delete()


@pytest.fixture(scope="module")
def crowded(engine: Any, metric: str, pages: fo.Dataset) -> Iterator[Indexed]:
    """Patches that resemble those of their own sample most, and two scalar fields.

    The nearest 256 are of some 11 samples, so that a search for more of them has to grow.
    """
    probe = index_images(engine, 3, "cosine")
    client, name = probe.index.client, unique("crowded")
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=100)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("sample_id", DataType.VARCHAR, max_length=100)
    schema.add_field("num", DataType.INT64)
    schema.add_field("label", DataType.VARCHAR, max_length=100)
    params = client.prepare_index_params()
    params.add_index("vector", index_type="FLAT", metric_type=METRIC_TYPES[metric])
    client.create_collection(name, schema=schema, index_params=params)
    sample_ids, label_ids = pages.values(["id", "ground_truth.detections.id"])
    owner = {i: s for s, ids in zip(sample_ids, label_ids, strict=True) for i in ids}
    rng = np.random.default_rng(7)
    centres = np.repeat(rng.normal(size=(PAGES, DIM)), PATCHES, axis=0)
    data = (centres + 0.15 * rng.normal(size=centres.shape)).astype(np.float32)
    client.insert(
        name,
        [
            {
                "pk": i,
                "vector": row,
                "sample_id": s,
                "num": n,
                "label": "ab"[n % 2],
            }
            for n, ((i, s), row) in enumerate(zip(owner.items(), data, strict=True))
        ],
    )
    index = fob.compute_similarity(
        pages,
        patches_field="ground_truth",
        embeddings=False,
        brain_key=f"{metric}_{engine.name}",
        backend="milvus",
        collection_name=name,
        metric=metric,
        **engine.kwargs,
    )
    yield Indexed(pages, index, metric, dict(zip(owner, data, strict=True)), {}, owner)
    client.drop_collection(name)
    probe.drop()


@pytest.fixture
def crowd(crowded: Indexed) -> Iterator[Indexed]:
    crowded.index.clear_view()
    yield crowded
    crowded.index.clear_view()


@pytest.fixture
def query() -> np.ndarray:
    return vectors(1, seed=99)[0] * 3


Allowed = Callable[[int, str], bool]


def truth(
    indexed: Indexed,
    query: np.ndarray,
    allowed: Allowed = lambda n, _id: True,
    max_distance: float = np.inf,
    best_of_sample: Callable[..., float] | None = None,
) -> dict[str, float]:
    """Returns the distance of everything that may be answered."""
    true = indexed.true(query[np.newaxis])
    true = {
        _id: d for n, (_id, d) in enumerate(true.items()) if d <= max_distance and allowed(n, _id)
    }
    if best_of_sample is None:
        return true
    groups: dict[str, list[float]] = {}
    for _id, d in true.items():
        groups.setdefault(indexed.samples[_id], []).append(d)
    best = {sample: best_of_sample(ds) for sample, ds in groups.items()}
    return {_id: d for _id, d in true.items() if d == best[indexed.samples[_id]]}


def between(true: dict[str, float], rank: int) -> float:
    """Returns a distance within which are about ``rank`` rows, in a gap that float32 sees."""
    flat = np.sort(list(true.values()))
    low, high = max(0, rank - 5), min(len(flat) - 1, rank + 5)
    at = low + int(np.argmax(np.diff(flat[low : high + 1])))
    return float((flat[at] + flat[at + 1]) / 2)


def check(found: SearchResults, true: dict[str, float], k: int | None, **kwargs: Any) -> None:
    assert isinstance(found.distances, np.ndarray)
    assert found.distances.dtype == np.float64
    oracle.check_ranking(found.ids, true, k, reported=found.distances.tolist(), **kwargs)


# -- what comes back ----------------------------------------------------------------------------


def test_samples(images):
    query = vectors(1, seed=3)[0]
    found = images.index.search(query)
    check(found, images.true(query[np.newaxis]), 25)
    assert found.ids == found.sample_ids
    assert found.label_ids is None
    assert len(found) == len(list(found)) == 25
    assert found[0] == SearchResult(found.ids[0], None, found.distances[0])
    assert [r.sample_id for r in found] == found.sample_ids
    assert found[:3].ids == found.ids[:3]
    assert isinstance(found[:3], SearchResults)
    assert repr(found).startswith("SearchResults(25 samples, distances ")


def test_patches(crowd, query):
    found = crowd.index.search(query, k=40)
    check(found, truth(crowd, query), 40)
    assert found.ids == found.label_ids
    assert found.sample_ids == [crowd.samples[_id] for _id in found.ids]
    assert found[2] == (found.sample_ids[2], found.label_ids[2], found.distances[2])
    assert "40 patches" in repr(found)


@one_metric
def test_results_cannot_be_reassigned(images):
    found = images.index.search(images.ids[0], k=2)
    with pytest.raises(AttributeError):
        found.sample_ids = []


@pytest.mark.parametrize("aggregation", ["mean", "post-min"])
@pytest.mark.parametrize("reverse", [False, True], ids=["nearest", "farthest"])
def test_queries_of_every_kind(images, aggregation, reverse):
    ids = images.ids[4:7]
    for query in (ids[0], ids, tuple(ids), images.vectors[ids[0]], images.matrix(ids)):
        found = images.index.search(query, k=30, aggregation=aggregation, reverse=reverse)
        matrix = [query] if isinstance(query, str) else query
        matrix = np.atleast_2d(matrix) if isinstance(matrix, np.ndarray) else list(matrix)
        check(found, images.true(matrix, how=aggregation), 30, reverse=reverse)


def test_prompts(engine, colours, dropped):
    index = fob.compute_similarity(
        colours, model="contract-colours", brain_key=KEY, backend="milvus", **engine.kwargs
    )
    dropped.append(Indexed(colours, index, "cosine", {}, {}))
    for prompt in ("red", ["red"]):
        view = index.search(prompt, k=10).view()
        assert view.count_values("colour") == {"red": 10}
        assert view.values("id") == index.sort_by_similarity(prompt, k=10).values("id")


@one_metric
def test_only_the_current_view(crowd, query):
    view = crowd.dataset.match(F("number") % 3 == 0)
    inside = set(view.values("ground_truth.detections.id", unwind=True))
    crowd.index.use_view(view)
    for k in (5, 300, 5000):
        check(crowd.index.search(query, k=k), truth(crowd, query, lambda n, i: i in inside), k)
    with crowd.index.use_view(crowd.dataset.match(F("number") < 0)):
        assert len(crowd.index.search(query)) == 0


# -- as views -----------------------------------------------------------------------------------


@one_metric
def test_a_view_of_samples(images):
    query = images.ids[8]
    view = images.dataset.match(F("number") > 100)
    for samples in (images.dataset, view):
        with images.index.use_view(samples):
            found = images.index.search(query, k=12)
            expected = images.index.sort_by_similarity(query, k=12)
            assert found.view() == expected
        assert found.view(dist_field="near").values("id") == found.sample_ids
        stored = found.view().values("near")
        np.testing.assert_allclose(stored, found.distances)
        images.dataset.delete_sample_field("near")


@pytest.mark.parametrize("as_patches", [False, True], ids=["samples", "patches"])
def test_a_view_of_patches(crowd, query, as_patches):
    samples = crowd.dataset.match(F("number") > 5)
    if as_patches:
        samples = samples.to_patches("ground_truth")
    with crowd.index.use_view(samples):
        found = crowd.index.search(query, k=60)
        expected = crowd.index.sort_by_similarity(query, k=60)
    view = found.view(dist_field="near")
    assert type(view) is type(expected)
    assert view.values("id") == expected.values("id")
    if as_patches:
        assert view.values("id") == found.label_ids
        stored = dict(zip(*view.values(["id", "near"]), strict=True))
        crowd.dataset.delete_sample_field("near", error_level=2)
    else:
        assert view.values("id") == list(dict.fromkeys(found.sample_ids))
        paths = ["ground_truth.detections.id", "ground_truth.detections.near"]
        stored = dict(zip(*view.values(paths, unwind=True), strict=True))
        crowd.dataset.delete_sample_field("ground_truth.detections.near")
    assert stored == pytest.approx(dict(zip(found.ids, found.distances, strict=True)))


@one_metric
def test_a_view_of_nothing(crowd, images, query):
    for index in (crowd.index, images.index):
        found = index.search(query, max_distance=-1e9)
        assert len(found) == 0
        assert found.view(dist_field="near").count() == 0
        assert "no " in repr(found)


# -- within a distance --------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [3, 100, 700, 1400])
def test_everything_within_a_distance(crowd, query, rank):
    true = truth(crowd, query)
    limit = between(true, rank)
    if crowd.metric == "dotproduct" and rank >= 1400:
        assert limit > 1  # similarity below zero
    near = truth(crowd, query, max_distance=limit)
    assert abs(len(near) - rank) <= 5
    check(crowd.index.search(query, max_distance=limit), near, None)
    check(crowd.index.search(query, k=20, max_distance=limit), near, 20)
    check(crowd.index.search(query, k=600, max_distance=limit), near, 600)
    check(crowd.index.search(query, k=20, max_distance=limit, reverse=True), near, 20, reverse=True)


def test_the_distance_itself_is_within(images):
    query = images.ids[3]
    found = images.index.search(query, k=10)
    assert images.index.search(query, max_distance=found.distances[-1]).ids == found.ids


def test_every_distance_is_everything(crowd, query):
    check(crowd.index.search(query, max_distance=np.inf), truth(crowd, query), None)


def test_within_a_distance_of_several(crowd):
    query = crowd.matrix(crowd.ids[10:13])
    true = crowd.true(query, how="post-max")
    limit = between(true, 200)
    near = {i: d for i, d in true.items() if d <= limit}
    found = crowd.index.search(query, max_distance=limit, aggregation="post-max")
    check(found, near, None)


def test_radius_neighbors_of_queries(crowd):
    """One far query among near ones: each grows as far as it has to."""
    ids = [crowd.ids[0], crowd.ids[700]]
    limit = between(crowd.true(ids[0]), 400)
    samples, labels, dists = crowd.index._radius_neighbors(ids, thresh=limit, return_dists=True)
    for _id, found, reported in zip(ids, labels, dists, strict=True):
        near = {i: d for i, d in crowd.true(_id).items() if d <= limit}
        assert found
        oracle.check_ranking(found, near, None, reported=reported)
    assert samples[0] == [crowd.samples[i] for i in labels[0]]


# -- one per sample -----------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True], ids=["nearest", "farthest"])
@pytest.mark.parametrize("k", [1, 8, 25, 60, 1000])
def test_the_best_patch_of_each_sample(crowd, query, k, reverse):
    found = crowd.index.search(query, k=k, group_by="sample_id", reverse=reverse)
    best = truth(crowd, query, best_of_sample=max if reverse else min)
    check(found, best, k, reverse=reverse)
    assert len(set(found.sample_ids)) == len(found) == min(k, PAGES)
    view = found.view()
    assert view.values("id") == found.sample_ids
    assert view.values("ground_truth.detections.id") == [[i] for i in found.label_ids]


@one_metric
def test_the_best_patches_of_several_queries(crowd):
    query = crowd.matrix(crowd.ids[::500])
    found = crowd.index.search(query, k=30, group_by="sample_id", aggregation="post-min")
    true = crowd.true(query, how="post-min")
    best: dict[str, float] = {}
    for _id, d in true.items():
        best[crowd.samples[_id]] = min(d, best.get(crowd.samples[_id], d))
    true = {i: d for i, d in true.items() if d == best[crowd.samples[i]]}
    check(found, true, 30)


@one_metric
def test_groups_without_sample_ids_in_milvus(crowd, query, engine):
    """A collection of others may know its patches only; FiftyOne knows whose they are."""
    client, name = crowd.index.client, unique("bare")
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=100)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    params = client.prepare_index_params()
    params.add_index("vector", index_type="FLAT", metric_type=METRIC_TYPES[crowd.metric])
    client.create_collection(name, schema=schema, index_params=params)
    client.insert(name, [{"pk": i, "vector": v} for i, v in crowd.vectors.items()])
    index = fob.compute_similarity(
        crowd.dataset,
        patches_field="ground_truth",
        embeddings=False,
        backend="milvus",
        collection_name=name,
        metric=crowd.metric,
        **engine.kwargs,
    )
    found = index.search(query, k=40, group_by="sample_id")
    check(found, truth(crowd, query, best_of_sample=min), 40)
    client.drop_collection(name)


# -- Milvus expressions -------------------------------------------------------------------------

EXPRESSIONS: dict[str, Allowed] = {
    "num >= 700": lambda n, _: n >= 700,
    "num < 3 or num >= 1439": lambda n, _: n < 3 or n >= 1439,
    'label == "b" and num > 20': lambda n, _: n % 2 == 1 and n > 20,
    "not (num in [1, 2, 3])": lambda n, _: n not in (1, 2, 3),
    "num < 0": lambda n, _: False,
}


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("k", [4, 300, 5000])
def test_a_filter(crowd, query, expression, k):
    allowed = EXPRESSIONS[expression]
    check(crowd.index.search(query, k=k, filter=expression), truth(crowd, query, allowed), k)
    found = crowd.index.search(query, k=k, filter=expression, reverse=True)
    check(found, truth(crowd, query, allowed), k, reverse=True)


@one_metric
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_filter_in_a_view(crowd, query, expression):
    allowed = EXPRESSIONS[expression]
    view = crowd.dataset.match(F("number") >= 20).filter_labels("ground_truth", F("label") == "b")
    inside = set(view.values("ground_truth.detections.id", unwind=True))
    crowd.index.use_view(view)
    for k in (4, 100, 5000):
        true = truth(crowd, query, lambda n, i: allowed(n, i) and i in inside)
        check(crowd.index.search(query, k=k, filter=expression), true, k)


@pytest.mark.parametrize("reverse", [False, True], ids=["nearest", "farthest"])
@pytest.mark.parametrize("as_patches", [False, True], ids=["samples", "patches"])
def test_everything_at_once(crowd, query, reverse, as_patches):
    """View, filter, distance and groups together."""
    view = crowd.dataset.match(F("number") % 2 == 0)
    inside = set(view.values("ground_truth.detections.id", unwind=True))

    def allowed(n: int, _id: str) -> bool:
        return n > 300 and _id in inside

    limit = between(truth(crowd, query, allowed), 350)
    best = truth(crowd, query, allowed, limit, max if reverse else min)
    assert 10 < len(best) < 30
    crowd.index.use_view(view.to_patches("ground_truth") if as_patches else view)
    for k in (4, None):
        found = crowd.index.search(
            query,
            k,
            filter="num > 300",
            max_distance=limit,
            group_by="sample_id",
            reverse=reverse,
        )
        check(found, best, k, reverse=reverse)
        assert found.view().values("id") == (found.label_ids if as_patches else found.sample_ids)


@one_metric
def test_a_scope_says_which_rows_it_holds(crowd):
    collection, ids = crowd.index._collection, crowd.ids
    some = [ids[705], ids[3], ids[699], ids[700], unknown_id()]
    for read_first in (False, True):
        scope = ExpressionScope(collection, "num < 2 or num >= 700")
        assert scope.size == 742
        assert not scope.known
        if read_first:
            assert sorted(scope.ids()) == sorted(ids[:2] + ids[700:])
        assert scope.keep(some, some).tolist() == [True, False, False, True, False]
        assert scope.known == read_first
        both = Intersection(ViewScope(crowd.dataset[:30], "ground_truth"), scope)
        samples = [crowd.samples.get(i, unknown_id()) for i in some]
        assert both.keep(some, samples).tolist() == [True, False, False, True, False]
        assert sorted(both.ids()) == sorted(ids[:2] + ids[700:720])
        assert both.few(22)
        assert not both.few(21)


def test_a_filter_right_after_the_index_was_made(engine, dropped):
    """While a server loads a new collection, answers without a filter come from this process."""
    indexed = index_images(engine, 30, "euclidean")
    dropped.append(indexed)
    inside = sorted(indexed.ids)[10:]
    found = indexed.index.search(indexed.ids[0], k=30, filter=f'pk >= "{inside[0]}"')
    check(found, indexed.true(indexed.ids[0], among=inside), 30)


# -- what cannot be asked -----------------------------------------------------------------------


@one_metric
@pytest.mark.parametrize(
    "expression",
    ["nosuch == 1", "num >", "num", "num == 'a'", "num > 5)) or ((num < 3", "a b c", "", " ", 5],
)
def test_a_filter_that_milvus_refuses(crowd, query, expression):
    with pytest.raises(InvalidInputError) as error:
        crowd.index.search(query, filter=expression)
    message = one_line(error.value)
    assert repr(expression) in message
    assert "expected" in message or "refused" in message


@one_metric
def test_an_unknown_field_is_named(crowd, query):
    with pytest.raises(InvalidInputError, match="nosuch") as error:
        crowd.index.search(query, filter="nosuch == 1 and num > 3")
    assert one_line(error.value).count("nosuch") > 1  # and what Milvus says of it


@one_metric
@pytest.mark.parametrize("k", [0, -1, 2.5, "ten", True])
def test_an_impossible_k(crowd, query, k):
    with pytest.raises(InvalidInputError, match="Invalid k"):
        crowd.index.search(query, k=k)


@one_metric
@pytest.mark.parametrize("distance", [np.nan, "far", [1]])
def test_an_impossible_distance(crowd, query, distance):
    with pytest.raises(InvalidInputError, match="max_distance") as error:
        crowd.index.search(query, max_distance=distance)
    one_line(error.value)


@one_metric
def test_groups_that_there_are_not(crowd, cosine_images, query):
    with pytest.raises(InvalidInputError, match="label") as error:
        crowd.index.search(query, group_by="label")
    assert "'sample_id'" in one_line(error.value)
    with pytest.raises(InvalidInputError, match="patches") as error:
        cosine_images.index.search(query, group_by="sample_id")
    one_line(error.value)


@one_metric
def test_queries_that_cannot_be_asked(crowd, query):
    with pytest.raises(MissingIDsError):
        crowd.index.search(unknown_id())
    with pytest.raises(InvalidInputError, match="median"):
        crowd.index.search(query, aggregation="median")
    with pytest.raises(ValueError, match=r"no model.*use_model"):
        crowd.index.search("a red square")
    with pytest.raises(ValueError, match=r"[Aa]t least one"):
        crowd.index.search([])
