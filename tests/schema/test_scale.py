"""How an index is spread over Milvus, and what an engine can't do said before anything is made."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from bson import json_util
from fiftyone import ViewField as F

from fiftyone_milvus import MilvusSimilarityConfig
from fiftyone_milvus.collection import CollectionSpec, MilvusCollection
from fiftyone_milvus.collection.writes import _uninterrupted
from fiftyone_milvus.errors import EngineError, InvalidInputError
from fiftyone_milvus.schema.scale import Scale
from fiftyone_milvus.search.partitions import partition_of
from tests.conftest import Engine
from tests.support import oracle
from tests.support.indexes import (
    KEY,
    Indexed,
    image_dataset,
    index_images,
    index_patches,
    one_line,
    unique,
    vectors,
)
from tests.support.waiting import wait_until

embedded_only = pytest.mark.parametrize("engine", ["embedded"], indirect=True)
server_only = pytest.mark.parametrize("engine", ["server"], indirect=True)

SPLITS = ["train", "train", "val", "ünï 日本", None, "train", ""]


def split_dataset(count: int) -> fo.Dataset:
    dataset = image_dataset(count)
    dataset.add_sample_field("split", fo.StringField)
    dataset.set_values("split", [SPLITS[i % len(SPLITS)] for i in range(count)])
    return dataset


def nearest(indexed: Indexed, view: Any, query: str, k: int) -> list[str]:
    index = indexed.index
    with index.use_view(view):
        found = index.sort_by_similarity(query, k=k, dist_field=None)
        return list(found.values("id"))


def check(indexed: Indexed, view: Any, k: int = 15) -> None:
    """Compares searches in a view with numpy's."""
    among = set(view.values("id"))
    for query in indexed.ids[:3]:
        true = indexed.true(query, among=among)
        found = nearest(indexed, view, query, k)
        assert len(found) == min(k, len(true))
        assert oracle.recall(found, true, min(k, len(true))) == 1.0 if true else not found


# -- the config ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"num_shards": 0}, "num_shards 0; expected an integer from 1 to 16"),
        ({"num_shards": 17}, "num_shards 17"),
        ({"num_shards": True}, "num_shards True"),
        ({"num_shards": "2"}, "num_shards '2'"),
        ({"replicas": 0}, "replicas 0; expected an integer above 0"),
        ({"replicas": 1.5}, "replicas 1.5"),
        ({"mmap": "yes"}, "mmap 'yes'; expected True or False"),
        ({"num_partitions": 8}, "without a partition_key"),
        ({"partition_key": "split"}, "expected one of fields, which are none"),
        ({"partition_key": "split", "fields": ["tags"]}, r"which are \['tags'\]"),
        ({"partition_key": "a", "fields": ["a"], "num_partitions": 1025}, "from 1 to 1024"),
        ({"index_type": "GPU_CAGRA", "metric": "cosine"}, "metric='dotproduct'"),
        ({"index_type": "HNSW_SQ", "index_params": {"refine": "yes"}}, "True or False"),
        ({"index_type": "HNSW_SQ", "index_params": {"refine_type": "SQ9"}}, "one of SQ6, SQ8"),
        ({"index_type": "HNSW_SQ", "search_params": {"refine_k": 0.5}}, "a number from 1.0"),
        ({"index_type": "IVF_PQ", "index_params": {"nbits": 25}}, "an integer from 1 to 24"),
        ({"index_type": "HNSW_PRQ", "index_params": {"nrq": 17}}, "an integer from 1 to 16"),
    ],
)
def test_what_a_config_refuses(kwargs: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as error:
        MilvusSimilarityConfig(**kwargs)
    one_line(error.value)


def test_it_survives_being_written_and_read() -> None:
    asked = {
        "num_shards": 4,
        "replicas": 2,
        "mmap": True,
        "partition_key": "split",
        "num_partitions": 32,
    }
    config = MilvusSimilarityConfig(fields=["split"], **asked)
    read = MilvusSimilarityConfig.from_dict(json_util.loads(json_util.dumps(config.serialize())))
    assert {name: getattr(read, name) for name in asked} == asked
    assert read.scale == Scale(**asked)


# -- what an engine can't do --------------------------------------------------------------------


def refused(engine: Engine, datasets: Callable[..., fo.Dataset], **kwargs: Any) -> str:
    """Returns why an index can't be made; nothing of it may be there."""
    dataset = datasets(3)
    name = unique("refused")
    kwargs = {"metric": "dotproduct", "collection_name": name, **engine.kwargs, **kwargs}
    with pytest.raises(InvalidInputError) as error:
        fob.compute_similarity(
            dataset, backend="milvus", embeddings=vectors(3), brain_key=KEY, **kwargs
        )
    one_line(error.value)
    assert dataset.list_brain_runs() == []
    connection = MilvusSimilarityConfig(**kwargs).connect()
    assert name not in connection.run(lambda c: c.list_collections())
    return str(error.value)


@embedded_only
@pytest.mark.parametrize(
    "kwargs",
    [
        {"replicas": 2},
        {"mmap": True},
        *({"index_type": name} for name in ("IVF_PQ", "SCANN", "DISKANN", "HNSW_PQ", "GPU_CAGRA")),
        {"index_type": "HNSW_SQ", "index_params": {"sq_type": "FP16"}},
        {"index_type": "HNSW_SQ", "index_params": {"refine": True, "refine_type": "FP32"}},
    ],
    ids=str,
)
def test_what_milvus_lite_can_not_do(engine, datasets, kwargs):
    said = refused(engine, datasets, **kwargs)
    assert "Milvus Lite 3." in said
    assert "uri=" in said


@server_only
@pytest.mark.parametrize(
    ("kwargs", "remedy"),
    [
        ({"replicas": 2}, "has 1; add some"),
        ({"index_type": "HNSW_SQ"}, "needs Milvus 2.5"),
        ({"index_type": "HNSW_PQ"}, "needs Milvus 2.5"),
        ({"index_type": "HNSW_PRQ"}, "needs Milvus 2.5"),
        ({"index_type": "IVF_RABITQ"}, "needs Milvus 2.6"),
        ({"index_type": "GPU_CAGRA"}, "needs Milvus 2.4"),
        ({"index_type": "GPU_IVF_FLAT"}, "-gpu"),
        ({"index_type": "DISKANN"}, "enableDisk"),
        ({"index_type": "IVF_PQ", "index_params": {"m": 5}}, "a divisor of 16"),
    ],
    ids=str,
)
def test_what_this_server_can_not_do(engine, datasets, kwargs, remedy):
    said = refused(engine, datasets, **kwargs)
    assert remedy in said
    assert "Milvus 2.3.5" in said or "index_params" in said


@pytest.mark.parametrize("path", ["score", "flag", "tags"])
@embedded_only
def test_only_strings_and_integers_tell_partitions_apart(engine, datasets, path):
    dataset = datasets(3)
    dataset.add_sample_field("score", fo.FloatField)
    dataset.add_sample_field("flag", fo.BooleanField)
    with pytest.raises(InvalidInputError, match=f"partition_key='{path}' is a") as error:
        fob.compute_similarity(
            dataset,
            backend="milvus",
            embeddings=vectors(3),
            brain_key=KEY,
            fields=[path],
            partition_key=path,
            **engine.kwargs,
        )
    one_line(error.value)
    assert dataset.list_brain_runs() == []


@embedded_only
def test_what_changes_no_answer_is_ignored_and_said(engine, dropped, caplog):
    caplog.set_level(logging.INFO, "fiftyone_milvus")
    dataset = split_dataset(60)
    indexed = index_images(
        engine,
        60,
        "cosine",
        dataset=dataset,
        num_shards=4,
        replicas=1,
        mmap=False,
        fields=["split"],
        partition_key="split",
    )
    dropped.append(indexed)
    said = {r.getMessage() for r in caplog.records if "does not split" in r.getMessage()}
    assert len(said) == 1
    assert "ignores num_shards=4 and partition_key='split'" in said.pop()
    check(indexed, dataset.match(F("split") == "train"))


@pytest.mark.parametrize("mmap", [True, False, None])
def test_which_indexes_are_told_of_the_memory_map(mmap):
    told = {} if mmap is None else {"mmap.enabled": str(mmap).lower()}
    for index_type in ("HNSW", "HNSW_SQ", "HNSW_PQ", "HNSW_PRQ", "IVF_SQ8"):
        assert Scale(mmap=mmap).for_index(index_type) == told
    for index_type in ("DISKANN", "GPU_CAGRA"):
        assert Scale(mmap=mmap).for_index(index_type) == {}


# -- what arrives -------------------------------------------------------------------------------


@server_only
def test_shards_and_the_memory_map_arrive(engine, dropped):
    indexed = index_images(
        engine, 80, "cosine", num_shards=3, mmap=True, replicas=1, index_type="HNSW"
    )
    dropped.append(indexed)
    client, name = indexed.index.client, indexed.index.config.collection_name
    info = client.describe_collection(name)
    assert info["num_shards"] == 3
    assert info["properties"]["mmap.enabled"] == "true"
    assert client.describe_index(name, "vector")["mmap.enabled"] == "true"
    assert len(client.describe_replica(name)) == 1
    check(indexed, indexed.dataset.match(F("number") > 20))


@server_only
def test_replicas_are_asked_for_whenever_it_is_loaded(engine, dropped, caplog):
    caplog.set_level(logging.INFO, "fiftyone_milvus")
    indexed = index_images(engine, 20, "cosine")
    dropped.append(indexed)
    connection, name = indexed.index.connection, indexed.index.config.collection_name
    indexed.index.client.describe_replica(name)

    # Loaded by another program, with one replica
    two = MilvusCollection(connection, name, replicas=2)
    assert two.count() == 20
    assert "stays loaded as it is" in caplog.text

    connection.run(lambda c: c.release_collection(name))
    with pytest.raises(EngineError, match="nodes not enough") as error:
        MilvusCollection(connection, name, replicas=2).count()
    one_line(error.value)
    assert MilvusCollection(connection, name, replicas=1).count() == 20


@server_only
def test_an_existing_collection_keeps_its_own(engine, dropped, caplog):
    caplog.set_level(logging.INFO, "fiftyone_milvus")
    indexed = index_images(
        engine,
        20,
        "cosine",
        dataset=split_dataset(20),
        fields=["split"],
        partition_key="split",
        mmap=False,
    )
    dropped.append(indexed)
    name = indexed.index.config.collection_name
    assert indexed.index.client.describe_index(name, "vector")["mmap.enabled"] == "false"
    again = fob.compute_similarity(
        indexed.dataset,
        backend="milvus",
        metric="cosine",
        embeddings=False,
        brain_key="again",
        collection_name=indexed.index.config.collection_name,
        num_shards=4,
        **engine.kwargs,
    )
    assert "ignoring num_shards=4, which is for new collections" in caplog.text
    assert again._collection.layout.partition_key == "split"
    assert again.total_index_size == 20


@server_only
def test_two_who_make_the_same_collection(engine):
    index = fob.compute_similarity(
        image_dataset(1), backend="milvus", embeddings=False, **engine.kwargs
    )
    name, made = unique("both"), []

    def create() -> None:
        collection = MilvusCollection(index.connection, name)
        scale = Scale(num_shards=2, mmap=True)
        made.append(collection.create(CollectionSpec(8, "L2", "FLAT", scale=scale)))

    threads = [threading.Thread(target=create) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False, True]
    assert index.client.describe_collection(name)["num_shards"] == 2
    assert MilvusCollection(index.connection, name).drop()
    index._samples._root_dataset.delete()


# -- quantized indexes --------------------------------------------------------------------------

QUANTIZED: dict[str, tuple[dict[str, Any], float]] = {
    "IVF_SQ8": ({"nlist": 32}, 0.93),
    "HNSW_SQ": ({"M": 16, "efConstruction": 200}, 0.93),
    "IVF_PQ": ({"nlist": 32}, 0.75),
    "SCANN": ({"nlist": 32, "with_raw_data": True}, 0.95),
}
"""Index types, their build parameters, and the recall@10 to reach."""

OFFERED = {"embedded": ("IVF_SQ8", "HNSW_SQ"), "server": ("IVF_SQ8", "IVF_PQ", "SCANN")}

LARGE = 6_000


@pytest.fixture(scope="module")
def built(engine: Engine) -> Iterator[dict[str, Indexed]]:
    """Indexes that Milvus has built: quantized ones, and on a server one with a partition key.

    They are read only. A server takes half a minute to search an index instead of rows, so all are
    waited for together.
    """
    made = {
        index_type: index_images(
            engine,
            2_000,
            "cosine",
            dim=32,
            index_type=index_type,
            index_params=QUANTIZED[index_type][0],
        )
        for index_type in OFFERED[engine.name]
    }
    if engine.name == "server":
        dataset = image_dataset(LARGE)
        dataset.add_sample_field("split", fo.StringField)
        dataset.set_values("split", ["train" if i % 3 else "val" for i in range(LARGE)])
        made["split"] = index_images(
            engine,
            LARGE,
            "cosine",
            dataset=dataset,
            fields=["split", "number"],
            partition_key="split",
            num_partitions=8,
        )
    for indexed in made.values():
        indexed.index._collection.wait_until_built()
    yield made
    for indexed in made.values():
        indexed.drop()


def test_quantized_indexes_are_built_and_find(engine, built):
    for index_type in OFFERED[engine.name]:
        indexed = built[index_type]
        index = indexed.index
        # Segments that Milvus has merged meanwhile are indexed again
        wait_until(lambda index=index: index._collection.built().share == 1.0)
        right = [
            oracle.recall(
                index.sort_by_similarity(query, k=10).values("id"), indexed.true(query), 10
            )
            for query in indexed.ids[::100]
        ]
        assert np.mean(right) >= QUANTIZED[index_type][1], index_type
        # In a view no quantized index is trusted
        check(indexed, indexed.dataset.match(F("number") % 50 == 0))


# -- a partition key ----------------------------------------------------------------------------


@pytest.fixture
def split(engine: Engine, dropped: list[Indexed]) -> Indexed:
    indexed = index_images(
        engine,
        280,
        "cosine",
        dataset=split_dataset(280),
        fields=["split", "number"],
        partition_key="split",
        num_partitions=8,
    )
    dropped.append(indexed)
    return indexed


def test_searches_in_views_on_the_partition_key(engine, split):
    dataset = split.dataset
    if engine.name == "server":
        info = split.index.client.describe_collection(split.index.config.collection_name)
        assert info["num_partitions"] == 8
        keys = [f["name"] for f in info["fields"] if f.get("is_partition_key")]
        assert keys == ["split"]
    for view in (
        dataset.match(F("split") == "train"),
        dataset.match(F("split") == "ünï 日本"),
        dataset.match(F("split").is_in(["val", ""])),
        dataset.match(F("split") != "train"),
        dataset.match((F("split") == "val") & (F("number") > 100)),
        dataset.match((F("split") == "val") | (F("number") > 270)),
        dataset.match(F("split") == None),  # noqa: E711
        dataset.exists("split"),
        dataset.match(F("split") > "u"),
        dataset.match(F("split") == "nowhere"),
    ):
        check(split, view)


def test_a_changed_value_leaves_one_row(engine, split):
    index, dataset = split.index, split.dataset
    moved = split.ids[:3]
    # All three train, or None
    for _id, value in zip(moved, ["val", "test", None], strict=True):
        sample = dataset[_id]
        sample["split"] = value
        sample.save()
    assert index.sync_fields().updated == 3
    assert index.total_index_size == 280
    name = index.config.collection_name
    rows = index.client.query(
        name,
        filter=f'pk == "{moved[0]}"',
        output_fields=["split"],
        consistency_level="Strong",
    )
    assert [row["split"] for row in rows] == ["val"]
    for value in ("val", "test", "train", None):
        check(split, dataset.match(F("split") == value))

    # The same for embeddings that are written again
    new = vectors(280, seed=9)
    dataset.set_values("split", ["test" if i % 2 else "train" for i in range(280)])
    index.add_to_index(new, split.ids)
    split.vectors = dict(zip(split.ids, new, strict=True))
    assert index.total_index_size == 280
    index.sync_fields()
    for value in ("val", "test", "train"):
        check(split, dataset.match(F("split") == value))
    index.remove_from_index(sample_ids=moved)
    assert index.total_index_size == 277


def test_patches_by_their_label(engine, dropped):
    indexed = index_patches(
        engine,
        60,
        "cosine",
        fields=["ground_truth.label", "number"],
        partition_key="ground_truth.label",
    )
    dropped.append(indexed)
    view = indexed.dataset.to_patches("ground_truth").match(F("ground_truth.label") == "b")
    query = indexed.ids[5]
    among = set(view.values("id"))
    found = view.sort_by_similarity(query, k=8, brain_key=KEY).values("id")
    assert oracle.recall(found, indexed.true(query, among=among), 8) == 1.0


@server_only
def test_milvus_searches_the_partition_of_a_value_only(split):
    """Shown by a row in the wrong one, where this server's own upsert puts it."""
    index, client = split.index, split.index.client
    name = index.config.collection_name
    train = split.dataset.match(F("split") == "train").values("id")
    row_id = next(i for i in train if partition_of(i, 8) != partition_of("train", 8))
    where = {"filter": 'split == "train"', "output_fields": ["count(*)"]}
    assert client.query(name, consistency_level="Strong", **where)[0]["count(*)"] == len(train)
    (row,) = client.query(
        name, filter=f'pk == "{row_id}"', output_fields=["*"], consistency_level="Strong"
    )
    client.upsert(name, [dict(row)])
    assert client.query(name, consistency_level="Strong", **where)[0]["count(*)"] == len(train) - 1
    # This package's does not
    index.add_to_index(split.vectors[row_id][None], [row_id])
    assert client.query(name, consistency_level="Strong", **where)[0]["count(*)"] == len(train)


@server_only
def test_a_large_view_is_searched_in_its_partition(built):
    assert partition_of("train", 8) != partition_of("val", 8)
    indexed = built["split"]
    index, dataset = indexed.index, indexed.dataset
    view = dataset.match(F("split") == "val")
    query = indexed.ids[0]
    with index.use_view(view):
        how = index.explain(query, k=10)
    assert how.plan == "condition"
    assert "10 nearest of 2000, which have partitions of their own" in how.steps[-1].what
    right = []
    among = set(view.values("id"))
    for query in indexed.ids[::300]:
        found = nearest(indexed, view, query, 10)
        right.append(oracle.recall(found, indexed.true(query, among=among), 10))
        assert len(found) == 10
    assert np.mean(right) >= 0.99

    # With another condition beside it, Milvus would answer badly, and is not asked
    with index.use_view(view.match(F("number") < 4_000)):
        how = index.explain(query, k=10)
    assert how.plan != "condition"


def test_an_interrupted_write_is_finished() -> None:
    """Ctrl-C comes after it."""
    done = []

    def work() -> None:
        time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.1)
        done.append(True)

    with pytest.raises(KeyboardInterrupt):
        _uninterrupted(work)
    assert done == [True]
