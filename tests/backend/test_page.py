"""What FiftyOne's own page about Milvus promises its readers, one test per promise.

The models and images of that page need the internet; a small local model under a zoo name and
small drawn images take their place. What it says about other processes and about environment
variables is in ``test_sessions``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.zoo as foz
import numpy as np
import pytest

from tests.support.indexes import Indexed, collections, image_dataset, python, unique, vectors

MODEL = "contract-colours"
DIM = 8


@pytest.fixture(autouse=True)
def configured(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's readers have told FiftyOne where Milvus is; here, in its brain config."""
    backends = fob.brain_config.similarity_backends
    monkeypatch.setitem(backends, "milvus", {**backends["milvus"], **engine.kwargs})


@pytest.fixture
def index(colours: fo.Dataset) -> Iterator[Any]:
    index = fob.compute_similarity(
        colours, model=MODEL, brain_key="milvus_colours", backend="milvus"
    )
    yield index
    index.cleanup()


def test_the_basic_recipe(colours):
    index = fob.compute_similarity(colours, model=MODEL, brain_key="recipe", backend="milvus")
    view = colours.sort_by_similarity(colours.first().id, brain_key="recipe", k=10)
    assert len(view) == 10
    name = index.config.collection_name
    assert name in collections(index)
    client = index.client
    index.cleanup()
    assert name not in client.list_collections()
    colours.delete_brain_run("recipe")
    assert colours.list_brain_runs() == []


def test_milvus_as_the_default_backend(colours, monkeypatch):
    monkeypatch.setattr(fob.brain_config, "default_similarity_backend", "milvus")
    index = fob.compute_similarity(colours, model=MODEL, brain_key="by_default")
    assert index.config.method == "milvus"
    index.cleanup()


def test_the_brain_config_file_configures_indexes(engine, tmp_path):
    """Credentials and parameters in a file, in a process of its own."""
    name = unique("configured")
    config = {
        "default_similarity_backend": "milvus",
        "similarity_backends": {
            "milvus": {
                **engine.kwargs,
                "collection_name": name,
                "metric": "euclidean",
                "consistency_level": "Strong",
            }
        },
    }
    path = Path(tmp_path / "brain_config.json")
    path.write_text(json.dumps(config))
    output = python(
        """
        import fiftyone as fo, fiftyone.brain as fob, numpy as np
        import fiftyone_milvus
        dataset = fo.Dataset()
        dataset.add_samples([fo.Sample(filepath=f"{i}.jpg") for i in range(5)])
        index = fob.compute_similarity(dataset, embeddings=np.eye(5), brain_key="sim")
        config = index.config
        values = config.collection_name, config.metric, config.consistency_level
        print("INDEX", *values, index.total_index_size)
        index.cleanup()
        dataset.delete()
        """,
        env={"FIFTYONE_BRAIN_CONFIG_PATH": str(path)},
    )
    assert f"INDEX {name} euclidean Strong 5" in output.splitlines()


def test_credentials_as_keyword_arguments(engine, colours):
    """Given to both calls, as such an index keeps none."""
    index = fob.compute_similarity(
        colours, model=MODEL, brain_key="keywords", backend="milvus", **engine.kwargs
    )
    loaded = colours.load_brain_results("keywords", cache=False, **engine.kwargs)
    assert loaded.total_index_size == index.total_index_size == 30
    index.cleanup()


@pytest.mark.parametrize("metric", ["cosine", "dotproduct", "euclidean"])
def test_documented_parameters(colours, metric):
    name = unique("page")
    index = fob.compute_similarity(
        colours,
        model=MODEL,
        backend="milvus",
        brain_key="tuned",
        collection_name=name,
        metric=metric,
        consistency_level="Strong",
    )
    assert index.config.collection_name == name
    assert index.config.consistency_level == "Strong"
    assert name in collections(index)
    assert len(colours.sort_by_similarity("red", k=4, brain_key="tuned")) == 4
    index.cleanup()


def test_managing_runs(colours, index):
    key = "milvus_colours"
    assert colours.list_brain_runs() == [key]
    assert colours.list_brain_runs(type=fob.Similarity) == [key]
    assert colours.list_brain_runs(type=fob.Similarity, supports_prompts=True) == [key]
    assert colours.list_brain_runs(type=fob.Similarity, patches_field="ground_truth") == []
    assert "milvus" in str(colours.get_brain_info(key))
    assert isinstance(colours.load_brain_results(key), fob.SimilarityIndex)
    colours.rename_brain_run(key, "other_key")
    loaded = colours.load_brain_results("other_key")
    assert loaded.total_index_size == 30
    loaded.cleanup()
    colours.delete_brain_run("other_key")
    assert not colours.has_brain_runs


@pytest.mark.parametrize("how", ["name", "instance", "array", "field"])
def test_ways_to_create_an_index(colours, how):
    model = foz.load_zoo_model(MODEL)
    if how == "name":
        given: dict[str, Any] = {"model": MODEL}
    elif how == "instance":
        given = {"model": model}
    elif how == "array":
        given = {"embeddings": colours.compute_embeddings(model)}
    else:
        colours.compute_embeddings(model, embeddings_field="embeddings")
        given = {"embeddings": "embeddings"}
    index = fob.compute_similarity(colours, **given, backend="milvus", brain_key="made")
    assert index.total_index_size == 30
    assert len(colours.sort_by_similarity(colours.first().id, k=5, brain_key="made")) == 5
    index.cleanup()


def test_a_patch_index(colours):
    index = fob.compute_similarity(
        colours,
        patches_field="ground_truth",
        model=MODEL,
        backend="milvus",
        brain_key="milvus_things",
    )
    assert index.total_index_size == 60
    patches = colours.to_patches("ground_truth")
    view = patches.sort_by_similarity(patches.first().id, k=7, brain_key="milvus_things")
    assert len(view) == 7
    index.cleanup()


def test_connecting_to_an_existing_collection(colours, index):
    name = index.config.collection_name
    second = fob.compute_similarity(
        colours,
        model=MODEL,
        embeddings=False,
        collection_name=name,
        brain_key="second",
        backend="milvus",
    )
    assert second.total_index_size == 30
    assert len(colours.sort_by_similarity("blue", k=5, brain_key="second")) == 5


def test_adding_and_removing_counts_as_documented():
    """200, less 10, plus 20, are 210: the built-in backend says 220 on a server."""
    dataset = image_dataset(200)
    index = fob.compute_similarity(
        dataset, embeddings=vectors(200), brain_key="counted", backend="milvus"
    )
    indexed = Indexed(dataset, index, "dotproduct", {}, {})
    try:
        assert index.total_index_size == 200
        view = dataset.take(10)
        ids = view.values("id")
        dataset.delete_samples(view)
        index.remove_from_index(sample_ids=ids)
        new = dataset.add_samples([fo.Sample(filepath=f"new-{i}.jpg") for i in range(20)])
        index.add_to_index(np.random.default_rng(0).random((20, 16)), new)
        assert index.total_index_size == 210
        embeddings, sample_ids, _ = index.get_embeddings(sample_ids=dataset.values("id"))
        assert embeddings.shape == (210, 16)
        assert sample_ids.shape == (210,)
    finally:
        indexed.drop()


def test_retrieving_embeddings(colours, index):
    ids = colours.values("id")
    embeddings, sample_ids, _ = index.get_embeddings(sample_ids=ids)
    assert embeddings.shape == (30, DIM)
    assert sample_ids.shape == (30,)
    ids = colours.take(10).values("id")
    embeddings, sample_ids, _ = index.get_embeddings(sample_ids=ids)
    assert embeddings.shape == (10, DIM)
    assert list(sample_ids) == ids


def test_the_four_kinds_of_queries(colours, index):
    queries = {
        "vector": np.random.default_rng(1).random(DIM),
        "id": colours.first().id,
        "ids": [colours.first().id, colours.last().id],
        "prompt": "a picture of red",
    }
    for query in queries.values():
        view = colours.sort_by_similarity(query, k=10, brain_key="milvus_colours")
        assert len(view) == 10
        assert len(set(view.values("id"))) == 10


def test_searching_a_view_answers_with_the_view(colours, index):
    """Also where the view holds samples that were never indexed."""
    late = colours.add_samples([fo.Sample(filepath=f"late-{i}.png") for i in range(5)])
    view = colours.skip(20)
    assert set(late) <= set(view.values("id"))
    got = view.sort_by_similarity(colours.first().id, k=20, brain_key="milvus_colours")
    assert set(got.values("id")) == set(view.values("id")) - set(late)


def test_the_collection_and_the_sdk(index):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pymilvus

        assert index.config.collection_name in str(index.collection)
        assert index.config.collection_name in pymilvus.utility.list_collections()


def test_advanced_usage(colours):
    """A name, a metric, and embeddings that are added later and for some samples only."""
    name = unique("custom")
    index = fob.compute_similarity(
        colours,
        model=MODEL,
        embeddings=False,
        metric="euclidean",
        brain_key="custom",
        backend="milvus",
        collection_name=name,
    )
    view = colours.take(10)
    embeddings, sample_ids, _ = index.compute_embeddings(view)
    index.add_to_index(embeddings, sample_ids)
    assert index.total_index_size == 10
    got = colours.sort_by_similarity(sample_ids[0], k=30, brain_key="custom").values("id")
    assert set(got) == set(view.values("id"))
    assert name in collections(index)
    index.cleanup()
