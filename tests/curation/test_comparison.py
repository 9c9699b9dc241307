"""Another dataset as reference: drift and novelty as numpy has them, and samples taken over."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import fiftyone.brain as fob
import numpy as np
import pytest

from fiftyone_milvus.curation import two_samples
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.neighborhoods import Vectors
from tests.conftest import Engine
from tests.support import oracle
from tests.support.indexes import DIM, KEY, Indexed, image_dataset, index_patches
from tests.support.once import one_engine

Make = Callable[..., Indexed]


@pytest.fixture
def make(engine: Engine) -> Iterator[Make]:
    made: list[Indexed] = []

    def make(data: np.ndarray, metric: str = "cosine") -> Indexed:
        dataset = image_dataset(len(data))
        dataset.set_values("filepath", [f"/{dataset.name}/{n}.png" for n in range(len(data))])
        kwargs = {"backend": "milvus", "brain_key": KEY, "metric": metric, **engine.kwargs}
        index = fob.compute_similarity(dataset, embeddings=data, **kwargs)
        table = dict(zip(dataset.values("id"), data, strict=True))
        made.append(Indexed(dataset, index, metric, table, dict(engine.kwargs)))
        return made[-1]

    yield make
    for one in made:
        one.drop()


def draw(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((count, DIM))
    found[:, 0] += shift
    return found.astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "dotproduct", "euclidean"])
def test_novelty_is_the_distance_to_the_nearest(make: Make, metric: str) -> None:
    one, other = make(draw(70, 1), metric), make(draw(90, 2), metric)
    found = one.index.compare_datasets(other.index, permutations=9)
    true = oracle.distances(metric, one.matrix(), other.matrix())
    at = [one.ids.index(i) for i in found.ids]
    assert sorted(at) == list(range(70))
    np.testing.assert_allclose(found.distances, true.min(axis=1)[at], rtol=1e-5, atol=1e-6)
    assert (np.diff(found.distances) <= 0).all()
    near = [other.ids.index(i) for i in found.reference_ids]
    np.testing.assert_allclose(true[at, near], found.distances, rtol=1e-5, atol=1e-6)
    assert found.view(5).values("id") == found.ids[:5]
    assert (found.compared, found.drawn) == ((70, 90), (70, 90))


@one_engine
def test_it_is_stored_and_no_edit(make: Make) -> None:
    one, other = make(draw(30, 1)), make(draw(30, 2))
    before = one.dataset.values("last_modified_at")
    found = one.index.compare_datasets(other.index, permutations=1)
    found.save()
    one.dataset.reload()
    values = dict(zip(*one.dataset.values(["id", "novelty"]), strict=True))
    assert [values[i] for i in found.ids] == found.distances.tolist()
    assert one.dataset.values("last_modified_at") == before
    # A reference in the same dataset
    one.index.use_view(one.dataset[:10])
    part = one.index.compare_datasets(one.dataset[10:], permutations=1)
    assert {*part.ids} == {*one.dataset[:10].values("id")}
    assert {*part.reference_ids} <= {*one.dataset[10:].values("id")}
    with pytest.raises(InvalidInputError, match="in both parts"):
        one.index.compare_datasets(one.dataset)


def _drift(one: np.ndarray, other: np.ndarray, seed: int = 0) -> two_samples.TwoSamples:
    vectors = Vectors.of(np.concatenate([one, other]), "euclidean")
    return two_samples.compare(vectors, len(one), k=5, permutations=199, seed=seed)


def test_drift_is_schillings_share() -> None:
    one, other = draw(40, 1), draw(60, 2, shift=1.0)
    points = np.concatenate([one, other]).astype(float)
    square = oracle.distances("euclidean", points, points)
    np.fill_diagonal(square, np.inf)
    near = np.argsort(square, axis=1)[:, :5]
    labels = np.arange(100) < 40
    share = (labels[near] == labels[:, None]).mean()
    chance = (40 * 39 + 60 * 59) / (100 * 99)
    assert _drift(one, other).drift == pytest.approx((share - chance) / (1 - chance))


def test_drift_is_found_where_it_is() -> None:
    same = [_drift(draw(80, seed), draw(80, 100 + seed), seed) for seed in range(40)]
    # Uniform where nothing differs: 5 % of 40, and what chance adds
    assert sum(one.p_value <= 0.05 for one in same) <= 6
    assert abs(np.mean([one.drift for one in same])) < 0.05
    small, large, apart = (_drift(draw(80, 1), draw(80, 2, shift)) for shift in (0.8, 2.0, 100.0))
    assert small.drift < large.drift < apart.drift == 1
    assert large.p_value == apart.p_value == 1 / 200
    # Equal vectors are neighbors from either, whatever their order
    copies = np.repeat(draw(1, 1), 60, axis=0)
    assert _drift(copies, copies).p_value > 0.01


def test_samples_are_taken_over(make: Make) -> None:
    one, other = make(draw(20, 1)), make(draw(200, 2))
    other.dataset.tag_samples("from-there")
    query = one.matrix()[:2]
    near = other.index.search(query, k=50).ids
    # A file that both have
    known = other.dataset[near[3]]
    known.filepath = one.dataset.first().filepath
    known.save()

    added = one.index.import_similar(other.index, one.dataset[:2], k=50)
    assert (len(added.ids), added.known) == (49, 1)
    found = added.view()
    origin = found.values("imported_from.sample_id")
    assert origin == [i for i in near if i != known.id]
    assert {*found.values("imported_from.dataset")} == {other.dataset.name}
    assert found.values("tags") == [["from-there"]] * 49
    assert found.values("imported_from.distance") == added.distances.tolist()
    # Their vectors are those of the other dataset, and answer at once
    vectors, ids, _ = one.index.get_embeddings(sample_ids=added.ids)
    table = dict(zip(map(str, ids), vectors, strict=True))
    np.testing.assert_array_equal([table[i] for i in added.ids], other.matrix(origin))
    assert one.index.total_index_size == 69
    assert one.index.search(other.vectors[origin[0]], k=1).ids == added.ids[:1]
    again = one.index.import_similar(other.index, query, k=50)
    assert (again.ids, again.known) == ([], 50)


@one_engine
def test_what_is_refused(make: Make, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = make(draw(20, 1)), make(draw(30, 2))
    wide = make(np.random.default_rng(3).standard_normal((20, DIM + 1)).astype(np.float32))
    patches = index_patches(engine, 4, "cosine")
    try:
        for call, words in (
            (lambda: one.index.compare_datasets(wide.index), "dimension"),
            (lambda: one.index.compare_datasets(other.index, k=0), "k"),
            (lambda: one.index.import_similar(patches.index, one.dataset[:1]), "of patches"),
            (lambda: one.index.import_similar(other.dataset, one.dataset[:1]), "an index"),
            (lambda: one.index.import_similar(one.index, one.dataset[:1]), "same dataset"),
            (lambda: one.index.import_similar(other.index, one.ids[0], nn=3), "'nn'"),
            (lambda: one.index.import_similar(other.index, one.ids[0], field="tags"), "'tags'"),
            (lambda: one.index.import_similar(other.index), "nothing to search by"),
        ):
            with pytest.raises(InvalidInputError, match=words):
                call()
    finally:
        patches.drop()
    # What could not be indexed is not left in the dataset
    monkeypatch.setattr(type(one.index), "add_to_index", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        one.index.import_similar(other.index, one.dataset[:1], k=5)
    assert len(one.dataset) == 20


def test_patches(engine: Engine) -> None:
    one = index_patches(engine, 8, "cosine")
    try:
        field = one.index.config.patches_field
        half = len(one.dataset) // 2
        one.index.use_view(one.dataset[:half])
        found = one.index.compare_datasets(one.dataset[half:], permutations=1)
        found.save("new")
        path = one.dataset._get_label_field_path(field, "new")[1]
        values = [v for values in one.dataset.values(path) for v in values or [] if v is not None]
        assert sorted(values) == sorted(found.distances.tolist())
    finally:
        one.index.use_view(one.dataset)
        one.drop()
