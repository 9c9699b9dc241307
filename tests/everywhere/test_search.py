"""One search over the indexes of all datasets."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.errors import InvalidInputError, MissingIDsError, PermissionDeniedError
from fiftyone_milvus.everywhere import search_everywhere
from tests.conftest import Engine
from tests.support import oracle
from tests.support.indexes import (
    DIM,
    KEY,
    Indexed,
    image_dataset,
    index_images,
    index_patches,
    one_line,
    unknown_id,
    vectors,
)

MODEL = "contract-colours"


@pytest.fixture(scope="module")
def three(engine: Any) -> Iterator[list[Indexed]]:
    """Indexes of samples, of other samples and of patches, in datasets of their own."""
    made = [index_images(engine, 60, "cosine"), index_images(engine, 40, "cosine")]
    # Other vectors, so that no two are equally near
    others = vectors(40, seed=77)
    made[1].index.add_to_index(others, made[1].ids)
    made[1].vectors = dict(zip(made[1].ids, others, strict=True))
    made.append(index_patches(engine, 30, "cosine"))
    yield made
    for indexed in made:
        indexed.drop()


@pytest.fixture
def coloured(
    engine: Any, colour_files: dict[str, list[str]], model_zoo: Path
) -> Iterator[Callable[..., fo.Dataset]]:
    """Makes datasets of real images, indexed with the model of colours."""
    made: list[tuple[fo.Dataset, Any]] = []

    def make(names: list[str], *, patches: bool = False) -> fo.Dataset:
        dataset = fo.Dataset()
        box = [0.0, 0.0, 0.5, 1.0]
        dataset.add_samples(
            [
                fo.Sample(
                    filepath=path,
                    colour=name,
                    things=fo.Detections(detections=[fo.Detection(label=name, bounding_box=box)]),
                )
                for name in names
                for path in colour_files[name]
            ]
        )
        index = fob.compute_similarity(
            dataset,
            model=MODEL,
            brain_key=KEY,
            backend="milvus",
            metric="cosine",
            patches_field="things" if patches else None,
            **engine.kwargs,
        )
        made.append((dataset, index))
        return dataset

    yield make
    for dataset, index in made:
        index.cleanup()
        dataset.delete()


def names(indexes: list[Indexed]) -> list[str]:
    return [indexed.dataset.name for indexed in indexes]


def true(indexes: list[Indexed], query: np.ndarray) -> dict[tuple[str, str], float]:
    """Returns the distance of every row of some indexes, by dataset and primary key."""
    return {
        (indexed.dataset.name, key): distance
        for indexed in indexes
        for key, distance in indexed.true(query).items()
    }


def check(results: Any, indexes: list[Indexed], query: np.ndarray, k: int) -> None:
    """Fails unless results are the exact answer over all of some indexes."""
    keys = [(r.dataset, r.label_id or r.sample_id) for r in results]
    distances = [r.distance for r in results]
    oracle.check_ranking(keys, true(indexes, query), k, reported=distances)
    for result in results:
        (indexed,) = [i for i in indexes if i.dataset.name == result.dataset]
        owner = indexed.samples[result.label_id or result.sample_id]
        assert (result.brain_key, result.sample_id) == (KEY, owner)
        assert (result.label_id is None) == (indexed.index.config.patches_field is None)


def test_a_vector(three):
    query = vectors(1, seed=8)[0]
    for k in (1, 10, 300):
        results = search_everywhere(query, k, datasets=names(three))
        check(results, three, query, k)
    assert results.metric == "cosine"
    assert results.model == "none"
    assert sorted(results.searched) == sorted((name, KEY) for name in names(three))
    assert results.skipped == ()
    assert set(results.datasets) == set(names(three))
    assert json.loads(json.dumps(results.to_dict()))["results"] == results.to_dicts()
    assert results[:3] == results.results[:3]
    # As a list, and in some datasets only
    results = search_everywhere(query.tolist(), 5, datasets=names(three)[1])
    check(results, three[1:2], query, 5)


def test_an_id_of_one_of_the_indexes(three):
    for indexed in three:
        one = indexed.ids[3]
        results = search_everywhere(one, 8, datasets=names(three))
        check(results, three, indexed.vectors[one], 8)
        assert (results[0].dataset, results[0].distance) == (
            indexed.dataset.name,
            pytest.approx(0, abs=1e-6),
        )
    with pytest.raises(MissingIDsError, match="none of the 3 Milvus indexes") as error:
        search_everywhere(unknown_id(), datasets=names(three))
    one_line(error.value)


def test_views(three):
    query = vectors(1, seed=8)[0]
    results = search_everywhere(query, 60, datasets=names(three))
    for indexed in three:
        mine = [r for r in results if r.dataset == indexed.dataset.name]
        view = results.view(indexed.dataset.name)
        assert view._dataset.name == indexed.dataset.name
        assert view.values("id") == list(dict.fromkeys(r.sample_id for r in mine))
        if indexed.index.config.patches_field:
            labels = [i for ids in view.values("ground_truth.detections.id") for i in ids]
            assert sorted(labels) == sorted(r.label_id for r in mine)
    with pytest.raises(InvalidInputError, match="no results in dataset 'nowhere'") as error:
        results.view("nowhere")
    one_line(error.value)


def test_inner_products(engine, dropped):
    """The greatest first, of which distances may be below zero."""
    made = [index_images(engine, 30, "dotproduct") for _ in range(2)]
    dropped += made
    # Other vectors, so that no two are equally near
    others = 3 * vectors(30, seed=77)
    made[1].index.add_to_index(others, made[1].ids)
    made[1].vectors = dict(zip(made[1].ids, others, strict=True))
    query = vectors(1, seed=8)[0]
    results = search_everywhere(query, 20, datasets=names(made))
    check(results, made, query, 20)
    assert results.metric == "dotproduct"
    assert results[0].distance < 0


def test_indexes_without_a_model(engine, dropped):
    """Nothing tells that they don't belong together, but the vectors of an ID."""
    indexed = index_images(engine, 20, "cosine")
    dropped.append(indexed)
    other = fob.compute_similarity(
        indexed.dataset,
        embeddings=vectors(20, seed=5),
        brain_key="other",
        backend="milvus",
        metric="cosine",
        **engine.kwargs,
    )
    dropped.append(Indexed(indexed.dataset, other, "cosine", {}, dict(engine.kwargs)))
    name, one = indexed.dataset.name, indexed.ids[3]
    with pytest.raises(InvalidInputError, match=r"'other'.*'sim'.*brain_keys=") as error:
        search_everywhere(one, datasets=name)
    one_line(error.value)
    results = search_everywhere(one, 5, datasets=name, brain_keys=KEY)
    check(results, [indexed], indexed.vectors[one], 5)
    assert results.searched == ((name, KEY),)

    # Which they do where the vectors are the same
    other.add_to_index(indexed.matrix(), indexed.ids)
    results = search_everywhere(one, 4, datasets=name, brain_keys=[KEY, "other"])
    assert {(r.sample_id, r.brain_key) for r in results[:2]} == {(one, KEY), (one, "other")}


def test_what_can_not_answer_is_not_loaded(engine, three, dropped):
    far = index_images(engine, 10, "cosine", dim=8)
    dropped.append(far)
    collection = far.index._collection
    collection.wait_until_loaded()
    far.index.client.release_collection(collection.name)
    # As in a process that has not opened it
    collection._layout = None
    query = vectors(1, seed=8)[0]
    results = search_everywhere(query, 5, datasets=names([*three, far]))
    check(results, three, query, 5)
    assert results.skipped == ()
    assert collection._load_state() == "NotLoad"


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_an_id_is_looked_for_where_one_may(engine, three, dropped, monkeypatch):
    closed = index_images(engine, 10, "cosine")
    dropped.append(closed)
    fetch, name = MilvusCollection.fetch, closed.index.config.collection_name

    def refused(self: MilvusCollection, ids: Any, **kwargs: Any) -> Any:
        if self.name == name:
            raise PermissionDeniedError("no privilege to query")
        return fetch(self, ids, **kwargs)

    monkeypatch.setattr(MilvusCollection, "fetch", refused)
    one = three[0].ids[3]
    results = search_everywhere(one, 5, datasets=names([*three, closed]))
    check(results, three, three[0].vectors[one], 5)
    (skipped,) = results.skipped
    assert skipped == (closed.dataset.name, KEY, "no privilege to query")


def test_samples_that_are_gone_do_not_count(engine, dropped):
    indexed = index_images(engine, 30, "cosine")
    dropped.append(indexed)
    query = indexed.vectors[indexed.ids[0]]
    gone = sorted(indexed.true(query), key=indexed.true(query).__getitem__)[:5]
    indexed.dataset.delete_samples(gone)
    for one in gone:
        del indexed.vectors[one]
    results = search_everywhere(query, 10, datasets=indexed.dataset.name)
    check(results, [indexed], query, 10)


def test_a_collection_of_two_runs_is_searched_once_for_each_dataset(engine, dropped):
    indexed = index_images(engine, 20, "cosine")
    dropped.append(indexed)
    kwargs = dict(
        embeddings=False,
        backend="milvus",
        metric="cosine",
        collection_name=indexed.index.config.collection_name,
        **engine.kwargs,
    )
    fob.compute_similarity(indexed.dataset, brain_key="again", **kwargs)
    other = image_dataset(5)
    try:
        index = fob.compute_similarity(other, brain_key="theirs", **kwargs)
        more = vectors(5, seed=99)
        index.add_to_index(more, other.values("id"))
        query = vectors(1, seed=8)[0]
        both = [indexed.dataset.name, other.name]
        results = search_everywhere(query, 100, datasets=both)
        expected = true([indexed], query)
        distances = oracle.distances("cosine", query, more)[0].tolist()
        expected.update(zip([(other.name, i) for i in other.values("id")], distances, strict=True))
        oracle.check_ranking([(r.dataset, r.sample_id) for r in results], expected, 100)
        assert len(results.searched) == 2
    finally:
        other.delete()


def test_other_dimensions_metrics_and_models(engine, three, dropped, monkeypatch):
    far = index_images(engine, 10, "euclidean", dim=8)
    near = index_images(engine, 10, "euclidean")
    dropped += [far, near]
    everything = names([*three, far, near])
    with pytest.raises(
        InvalidInputError, match="'cosine', 'euclidean'; say which with metric="
    ) as e:
        search_everywhere(np.ones(DIM), datasets=everything)
    one_line(e.value)
    query = vectors(1, seed=8)[0]
    results = search_everywhere(query, 5, datasets=everything, metric="euclidean")
    check(results, [near], query, 5)
    results = search_everywhere(query[:8], 5, datasets=everything)
    check(results, [far], query[:8], 5)
    with pytest.raises(InvalidInputError, match=f"7 dimensions.*of 8, {DIM}") as e:
        search_everywhere(np.ones(7), datasets=everything)
    one_line(e.value)

    near.index.config.model = "another"
    near.index.save_config()
    with pytest.raises(InvalidInputError, match="'another', 'none'; say which with model=") as e:
        search_everywhere(query, datasets=everything)
    one_line(e.value)
    loaded: list[str] = []
    load = fo.load_dataset
    monkeypatch.setattr(fo, "load_dataset", lambda name: loaded.append(name) or load(name))
    results = search_everywhere(query, 5, datasets=everything, model="another")
    check(results, [near], query, 5)
    # The documents told that the others can't match
    assert loaded == [near.dataset.name]
    with pytest.raises(InvalidInputError, match="model 'clip'") as e:
        search_everywhere(query, datasets=everything, model="clip")
    one_line(e.value)


def test_texts_and_images(coloured, three, colour_files):
    samples, patches = coloured(["red", "green"]), coloured(["blue", "red"], patches=True)
    everywhere = [samples.name, patches.name, *names(three)]
    results = search_everywhere("something red", 25, datasets=everywhere)
    assert results.model == MODEL
    assert {dataset for dataset, _ in results.searched} == {samples.name, patches.name}
    assert len(results) == 25
    found = [(r.dataset, r.sample_id) for r in results[:20]]
    expected = {
        (d.name, i) for d in (samples, patches) for i in d.match({"colour": "red"}).values("id")
    }
    assert set(found) == expected
    assert all((r.label_id is None) == (r.dataset == samples.name) for r in results)
    distances = [r.distance for r in results]
    assert distances == sorted(distances)

    for query in (Path(colour_files["blue"][2]), colour_files["blue"][2]):
        results = search_everywhere(query, 10, datasets=everywhere)
        assert set(results.datasets) == {patches.name}
        assert set(results.view(patches).values("colour")) == {"blue"}
        assert results[0].distance == pytest.approx(0, abs=1e-5)


def test_what_does_not_answer_is_skipped(engine, three, dropped, caplog, monkeypatch):
    gone = index_images(engine, 10, "cosine")
    dropped.append(gone)
    gone.index.client.drop_collection(gone.index.config.collection_name)
    silent = index_images(engine, 10, "cosine")
    dropped.append(silent)
    # As another process loads it, for which nothing listens there
    silent.dataset.clear_cache()
    settings = fob.brain_config.similarity_backends["milvus"]
    monkeypatch.setitem(settings, "uri", "http://127.0.0.1:1")
    query = vectors(1, seed=8)[0]
    everything = names([*three, gone, silent])
    with caplog.at_level(logging.WARNING):
        results = search_everywhere(query, 10, datasets=everything)
    check(results, three, query, 10)
    reasons = {skipped.dataset: skipped.reason for skipped in results.skipped}
    assert set(reasons) == {gone.dataset.name, silent.dataset.name}
    assert "there is no" in one_line(ValueError(reasons[gone.dataset.name]))
    assert "127.0.0.1:1" in one_line(ValueError(reasons[silent.dataset.name]))
    for name in reasons:
        assert name in caplog.text


@pytest.mark.parametrize("engine", ["server"], indirect=True)
def test_both_engines_at_once(three, embedded_path, dropped):
    embedded = Engine("embedded", {"uri": str(embedded_path)})
    other = index_images(embedded, 20, "cosine")
    dropped.append(other)
    query = vectors(1, seed=8)[0]
    both = [three[1], other]
    check(search_everywhere(query, 30, datasets=names(both)), both, query, 30)


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
@pytest.mark.parametrize(
    ("query", "kwargs", "said"),
    [
        ("", {}, "Invalid query ''"),
        (None, {}, "Invalid query None"),
        (np.ones((2, DIM)), {}, "Invalid query"),
        ([1, "x"], {}, "Invalid query"),
        (Path("missing.png"), {}, "Can't read 'missing.png'"),
        (Path(__file__), {}, "read as an image"),
        (np.full(DIM, np.nan), {}, "NaN"),
        (np.ones(DIM), {"k": 0}, "Invalid k 0"),
        (np.ones(DIM), {"k": None}, "Invalid k None"),
        (np.ones(DIM), {"metric": "hamming"}, "hamming"),
        (np.ones(DIM), {"metric": "euclidean"}, "'euclidean'; their metrics are 'cosine'"),
        (np.ones(DIM), {"datasets": ["nowhere"]}, "no dataset 'nowhere'"),
        (np.ones(DIM), {"datasets": 3}, "Invalid datasets 3"),
        (np.ones(DIM), {"brain_keys": ["x"]}, "brain key 'x'; the brain keys are 'sim'"),
        (np.ones(DIM), {"brain_keys": []}, "Invalid brain_keys []"),
        ("a text", {}, "takes text; the models are 'none'"),
    ],
)
def test_what_can_not_be_searched(three, query, kwargs, said):
    with pytest.raises(InvalidInputError) as error:
        search_everywhere(query, **{"datasets": names(three), **kwargs})
    assert said in one_line(error.value)


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_no_index_at_all(engine):
    dataset = image_dataset(2)
    try:
        with pytest.raises(InvalidInputError, match="no Milvus index") as error:
            search_everywhere(np.ones(DIM), datasets=dataset.name)
        one_line(error.value)
    finally:
        dataset.delete()
