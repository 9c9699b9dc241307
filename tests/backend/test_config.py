"""The run's configuration: cheap to make, without secrets, managed as FiftyOne manages runs."""

from __future__ import annotations

import json
import socket
import time

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.core.odm as foo
import pytest
from bson import json_util

from fiftyone_milvus import MilvusSimilarityConfig
from tests.support.indexes import KEY, credentials, index_images, index_patches, python, vectors

SECRETS = {
    "uri": "http://127.0.0.1:9",
    "user": "sesame-user",
    "password": "sesame-password",
    "secure": True,
    "token": "sesame-token",
    "db_name": "sesame_db",
    "client_key_path": "/sesame/client.key",
    "client_pem_path": "/sesame/client.pem",
    "ca_pem_path": "/sesame/ca.pem",
    "server_pem_path": "/sesame/server.pem",
    "server_name": "sesame.example",
}


def test_it_needs_no_arguments_and_no_milvus():
    """The App makes one to read two properties, on every request."""
    output = python(
        """
        import time
        import fiftyone.brain as fob
        from fiftyone_milvus import MilvusSimilarityConfig
        MilvusSimilarityConfig()
        before = time.process_time()
        for _ in range(20):
            config = MilvusSimilarityConfig(embeddings_field=None, patches_field=None)
        each = (time.process_time() - before) / 20
        assert each < 0.01, each
        print(config.method, config.max_k, config.supports_least_similarity)
        """,
        env=credentials({"uri": "http://127.0.0.1:9"}),
    )
    assert output.split()[-3:] == ["milvus", "None", "True"]


def test_making_one_opens_no_connection(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("constructing a config connected to something")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    config = MilvusSimilarityConfig(**SECRETS)
    assert config.build().__class__.__name__ == "MilvusSimilarity"


def test_documented_defaults():
    config = MilvusSimilarityConfig()
    assert config.type == "similarity"
    assert config.method == "milvus"
    assert config.metric == "dotproduct"
    assert config.consistency_level == "Session"
    assert config.collection_name is None


@pytest.mark.parametrize("level", ["Strong", "Session", "Bounded", "Eventually"])
@pytest.mark.parametrize("metric", ["cosine", "dotproduct", "euclidean"])
def test_documented_values(level, metric):
    config = MilvusSimilarityConfig(metric=metric, consistency_level=level)
    assert (config.metric, config.consistency_level) == (metric, level)


def test_it_survives_being_written_and_read():
    config = MilvusSimilarityConfig(
        collection_name="mine",
        metric="cosine",
        consistency_level="Strong",
        index_type="HNSW",
        index_params={"M": 24, "efConstruction": 200},
        search_params={"ef": 128},
        timeout=12.5,
        id_field="uid",
        vector_field="vec",
        patches_field="ground_truth",
        model="some-model",
        supports_prompts=True,
    )
    written = json.loads(json_util.dumps(config.serialize()))
    read = MilvusSimilarityConfig.from_dict(dict(written))
    assert read.serialize() == config.serialize()
    for name in ("collection_name", "metric", "index_type", "index_params", "timeout"):
        assert getattr(read, name) == getattr(config, name)
    again = fo.core.brain.BrainMethodConfig.from_dict(dict(written))
    assert type(again) is MilvusSimilarityConfig


def test_credentials_are_never_serialized():
    config = MilvusSimilarityConfig(**SECRETS)
    for name, value in SECRETS.items():
        assert getattr(config, name) == value
    text = json_util.dumps(config.serialize()) + str(config) + repr(config)
    assert "sesame" not in text
    assert "127.0.0.1:9" not in text


def test_credentials_inside_an_address_are_never_serialized():
    config = MilvusSimilarityConfig(uri="http://sesame-user:sesame-password@127.0.0.1:9")
    text = json_util.dumps(config.serialize()) + str(config) + repr(config)
    assert "sesame" not in text


def test_no_credentials_reach_mongodb(engine, dropped):
    """Nor the address, which may hold some."""
    indexed = index_images(
        engine,
        4,
        "cosine",
        **({"token": "sesame-token"} if engine.name == "server" else {}),
    )
    dropped.append(indexed)
    database = foo.get_db_conn()
    runs = list(database["runs"].find({"_dataset_id": indexed.dataset._doc.id}))
    assert runs
    files = [foo.get_db_conn()["fs.chunks"].find_one({"files_id": run["results"]}) for run in runs]
    text = json_util.dumps([runs, files])
    assert indexed.index.config.collection_name in text
    assert "sesame" not in text
    assert str(engine.kwargs["uri"]) not in text
    for name in SECRETS:
        assert f'"{name}"' not in text


def test_the_run_says_where_it_lives(engine, dropped):
    """Embedded or server, and nothing more precise than that."""
    indexed = index_images(engine, 4, "cosine")
    dropped.append(indexed)
    info = indexed.dataset.get_brain_info(KEY)
    assert info.config.deployment == engine.name


def test_brain_runs_are_managed_as_documented(engine, dropped):
    indexed = index_patches(engine, 8, "euclidean")
    dropped.append(indexed)
    dataset = indexed.dataset
    images = fob.compute_similarity(
        dataset, embeddings=vectors(8), brain_key="whole", backend="milvus", **engine.kwargs
    )
    assert sorted(dataset.list_brain_runs()) == [KEY, "whole"]
    assert sorted(dataset.list_brain_runs(type=fob.Similarity)) == [KEY, "whole"]
    assert dataset.list_brain_runs(type=fob.Similarity, patches_field="ground_truth") == [KEY]
    assert dataset.list_brain_runs(type=fob.Similarity, supports_prompts=True) == []
    assert sorted(dataset.list_brain_runs(method="milvus")) == [KEY, "whole"]
    info = dataset.get_brain_info(KEY)
    assert info.key == KEY
    assert info.config.method == "milvus"
    assert info.config.metric == "euclidean"
    assert info.config.patches_field == "ground_truth"
    assert info.config.cls.startswith("fiftyone_milvus")
    assert info.config.collection_name in str(info)
    assert dataset.load_brain_results(KEY) is indexed.index
    view = dataset.load_brain_view(KEY)
    assert len(view) == len(dataset)

    dataset.rename_brain_run("whole", "every_image")
    assert sorted(dataset.list_brain_runs()) == sorted([KEY, "every_image"])
    assert dataset.load_brain_results("every_image").total_index_size == 8
    dataset.delete_brain_run("every_image")
    assert dataset.list_brain_runs() == [KEY]
    images.cleanup()
    with pytest.raises(ValueError, match="every_image"):
        dataset.get_brain_info("every_image")


def test_runs_without_a_key(engine, datasets):
    """An index need not be saved."""
    dataset = datasets(6)
    index = fob.compute_similarity(
        dataset, embeddings=vectors(6), backend="milvus", **engine.kwargs
    )
    assert dataset.list_brain_runs() == []
    assert index.key is None
    assert index.total_index_size == 6
    assert len(index.sort_by_similarity(dataset.first().id, k=3)) == 3
    index.cleanup()


def test_index_types_can_be_chosen(engine, dropped):
    for index_type, index_params, search_params in (
        ("HNSW", {"M": 12, "efConstruction": 100}, {"ef": 64}),
        ("IVF_FLAT", {"nlist": 16}, {"nprobe": 16}),
        ("FLAT", {}, {}),
    ):
        indexed = index_images(
            engine,
            60,
            "cosine",
            index_type=index_type,
            index_params=index_params,
            search_params=search_params,
            timeout=30,
        )
        dropped.append(indexed)
        client, name = indexed.index.client, indexed.index.config.collection_name
        described = client.describe_index(name, client.list_indexes(name)[0])
        assert described["index_type"] == index_type
        for key, value in index_params.items():
            assert str(described.get(key, described.get("params", {}))).find(str(value)) >= 0
        query = indexed.ids[0]
        found, _ = indexed.index._kneighbors(query=query, k=5)
        assert found[0] == query
        assert indexed.dataset.get_brain_info(KEY).config.index_type == index_type


def test_a_timeout_is_kept_to(engine, datasets):
    """Something that listens and never answers does not hold a user for long."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        port = silent.getsockname()[1]
        before = time.monotonic()
        with pytest.raises(ValueError, match=str(port)):
            fob.compute_similarity(
                datasets(2),
                embeddings=vectors(2),
                backend="milvus",
                uri=f"http://127.0.0.1:{port}",
                timeout=2,
            )
        assert time.monotonic() - before < 8
