"""Uniqueness and representativeness: FiftyOne's own, on the same vectors, and numpy are oracles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest

from fiftyone_milvus.curation import representativeness as representing
from fiftyone_milvus.curation.representativeness import representativeness
from fiftyone_milvus.curation.uniqueness import uniqueness
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.neighborhoods import Vectors
from tests.support import oracle
from tests.support.indexes import Indexed, index_images, index_patches, one_line, vectors
from tests.support.once import one_engine

COUNT = 90


def unique(metric: str, data: np.ndarray) -> np.ndarray:
    """Returns FiftyOne's definition, by numpy."""
    square = oracle.distances(metric, data, data)
    np.fill_diagonal(square, np.inf)
    apart = np.sort(square, axis=1)[:, :3] @ [0.6, 0.3, 0.1]
    return np.asarray(apart / apart.max())


@pytest.fixture(scope="module")
def indexed(engine: Any) -> Iterator[Indexed]:
    found = index_images(engine, COUNT, "cosine")
    yield found
    found.drop()


def stored(dataset: fo.Dataset, field: str, ids: list[str]) -> np.ndarray:
    values = dict(zip(*dataset.values(["id", field]), strict=True))
    return np.array([values[i] for i in ids])


def test_they_are_fiftyones(indexed: Indexed) -> None:
    dataset, index = indexed.dataset, indexed.index
    before = dataset.values("last_modified_at")
    ours = index.compute_uniqueness()
    assert ours.save("own_uniqueness") == "own_uniqueness"
    near = index.compute_representativeness()
    near.save("own_center")
    assert dataset.values("last_modified_at") == before, "a note of ours is no edit"
    assert sorted(ours.ids) == sorted(near.ids) == sorted(indexed.ids)
    assert (np.diff(ours.values) <= 0).all()
    assert (stored(dataset, "own_uniqueness", ours.ids) == ours.values).all()
    rows = indexed.matrix(ours.ids)
    np.testing.assert_allclose(ours.values, unique("cosine", rows), atol=1e-5)
    assert ours.view(5).values("id") == ours.ids[:5]
    assert ours.view(5, lowest=True).values("id") == ours.ids[::-1][:5]

    # What FiftyOne computes from the same vectors; to the center, it counts the other way round.
    # Without an index, it subtracts the mean of the vectors before it compares them
    unit = indexed.matrix() / np.linalg.norm(indexed.matrix(), axis=1, keepdims=True)
    assert dataset.values("id") == indexed.ids
    fob.compute_uniqueness(dataset, similarity_index=index)
    fob.compute_representativeness(dataset, embeddings=unit)
    theirs = stored(dataset, "uniqueness", ours.ids)
    np.testing.assert_allclose(ours.values, theirs, atol=1e-4)
    theirs = stored(dataset, "representativeness", near.ids)
    # Alone in its cluster, and so its center: FiftyOne divides two rounding errors, or 0 by 0
    shared = near.values < 1
    assert shared.sum() > 80
    np.testing.assert_allclose(near.values[shared], 1 - theirs[shared], atol=1e-4)
    with pytest.raises(InvalidInputError, match="a field 'uniqueness' that this package did not"):
        ours.save()


@one_engine
def test_of_a_view_and_what_is_missing(indexed: Indexed) -> None:
    dataset, index = indexed.dataset, indexed.index
    view = dataset.limit(30)
    with index.use_view(view):
        found = index.compute_uniqueness()
    assert {*found.ids} == {*view.values("id")}
    assert found.values[0] == 1
    np.testing.assert_allclose(found.values, unique("cosine", indexed.matrix(found.ids)), atol=1e-5)
    dataset.add_sample(fo.Sample(filepath="late.jpg"))
    found = index.compute_representativeness(clusters=5)
    dataset.delete_samples(dataset.last())
    assert found.no_embedding == 1
    assert "1 are not in the index" in str(found)


@one_engine
@pytest.mark.parametrize("metric", ["euclidean", "dotproduct"])
def test_patches(engine: Any, metric: str, dropped: list[Indexed]) -> None:
    indexed = index_patches(engine, 30, metric)
    dropped.append(indexed)
    dataset, index = indexed.dataset, indexed.index
    found = index.compute_representativeness(clusters=3)
    if metric == "euclidean":
        found = index.compute_uniqueness()
        true = unique(metric, indexed.matrix(found.ids))
        np.testing.assert_allclose(found.values, true, atol=1e-5)
    else:
        with pytest.raises(InvalidInputError, match="'dotproduct', whose distances") as error:
            index.compute_uniqueness()
        one_line(error.value)
    name = found.save()
    path = f"ground_truth.detections.{name}"
    ids, values = dataset.values(["ground_truth.detections.id", path])
    labels = {i: v for some, own in zip(ids, values) for i, v in zip(some or (), own or ())}
    assert labels == dict(zip(found.ids, found.values.tolist(), strict=True))
    assert found.view(4).values("id") == found.ids[:4]
    # What is deleted before a result is written is left out
    compared = index.find_groups(10.0) if metric == "euclidean" else found
    dataset.delete_labels(ids=found.ids[:1], fields="ground_truth")
    compared.save()
    found.save("again")
    left = dataset.values("ground_truth.detections.again", unwind=True)
    assert sorted(left) == sorted(found.values.tolist()[1:])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_few_and_equal_vectors(metric: str) -> None:
    with Vectors.of(vectors(3), metric) as points:
        assert uniqueness(points).tolist() == [1, 1, 1]
        assert representativeness(points).tolist() == [1, 1, 1]
    with Vectors.of(np.repeat(vectors(1), 40, axis=0), metric) as points:
        assert uniqueness(points).tolist() == [0] * 40
        assert representativeness(points).tolist() == [1] * 40
    with Vectors(0, 1, metric) as points:
        assert len(uniqueness(points)) == len(representativeness(points)) == 0


def test_a_part_has_the_centers_and_a_file_the_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    data = vectors(6_000, clusters=4)
    with Vectors.of(data, "euclidean") as points:
        true = unique("euclidean", data[:1_000])
        whole = representativeness(points, 1)
    apart = np.linalg.norm(data - data.mean(axis=0, dtype=np.float64), axis=1)
    np.testing.assert_allclose(whole, 1 - apart / apart.max(), atol=1e-4)
    with Vectors.of(data[:1_000], "euclidean", max_bytes=1) as points:
        np.testing.assert_allclose(uniqueness(points), true, atol=1e-4)
    monkeypatch.setattr(representing, "SAMPLE", 2_000)
    with Vectors.of(data, "euclidean", max_bytes=1) as points:
        drawn = representativeness(points, 1)
        np.testing.assert_allclose(drawn, representativeness(points, 1), err_msg="the same twice")
    np.testing.assert_allclose(drawn, whole, atol=0.05)
    assert np.abs(drawn - whole).max() > 1e-4, "of a part"


@one_engine
@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda i: i.compute_representativeness(clusters=0), "Invalid clusters 0"),
        (lambda i: i.compute_representativeness(seed=2**32), "Invalid seed 4294967296"),
        (lambda i: i.compute_uniqueness().save("a b"), "Invalid into 'a b'"),
        (lambda i: i.compute_uniqueness().save("number"), "'number' that this package did not"),
    ],
)
def test_what_is_refused(indexed: Indexed, ask: Any, message: str) -> None:
    before = list(indexed.dataset.get_field_schema(flat=True))
    with pytest.raises(InvalidInputError, match=message) as error:
        ask(indexed.index)
    one_line(error.value)
    assert list(indexed.dataset.get_field_schema(flat=True)) == before
