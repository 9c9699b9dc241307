"""What there is: indexes of a dataset, collections of a Milvus, and whether it answers."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.core.odm as foo
import numpy as np
import pytest
from fiftyone.core.brain import BrainMethod

from fiftyone_milvus import inventory
from fiftyone_milvus.backend import MilvusSimilarityConfig
from fiftyone_milvus.connection import Connection, Settings, connect, resolve
from fiftyone_milvus.dataset.database import database_id
from fiftyone_milvus.errors import FiftyOneMilvusError, InvalidInputError
from fiftyone_milvus.index import MilvusSimilarityIndex
from tests.support.indexes import (
    KEY,
    Indexed,
    image_dataset,
    index_images,
    index_patches,
    one_line,
    unique,
)

DAY = 24 * 3600 * 1000


@pytest.fixture
def connection(engine: Any) -> Connection:
    return connect(resolve(engine.settings, None))


@pytest.fixture
def mine(engine: Any, dropped: list[Indexed]) -> Callable[..., Indexed]:
    """Makes an index that goes away after the test."""

    def make(count: int = 20, **kwargs: Any) -> Indexed:
        dropped.append(index_images(engine, count, "cosine", **kwargs))
        return dropped[-1]

    return make


@pytest.fixture
def closed() -> Iterator[str]:
    """The address of a port that is ours and on which nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def named(connection: Connection, name: str) -> inventory.CollectionInfo:
    (found,) = [info for info in inventory.collections(connection) if info.name == name]
    return found


def age(connection: Connection, name: str) -> None:
    """Makes a collection look as if it had been made two days ago."""
    info = connection.run(lambda c: c.describe_collection(name))
    record = json.loads(dict(info["properties"])["fiftyone_embedded"])
    text = json.dumps({**record, "seen": record["seen"] - 2 * DAY})
    connection.run(
        lambda c: c.alter_collection_properties(name, properties={"fiftyone_embedded": text})
    )


# -- indexes ------------------------------------------------------------------------------------


def test_an_index_that_is_up_to_date(cosine_images):
    info = inventory.index_info(cosine_images.dataset, KEY)
    config = cosine_images.index.config
    assert (info.dataset, info.brain_key) == (cosine_images.dataset.name, KEY)
    assert info.collection == config.collection_name
    assert (info.metric, info.consistency_level) == ("cosine", "Session")
    assert (info.patches_field, info.model, info.embeddings_field) == (None, None, None)
    assert info.deployment == config.deployment
    assert (info.exists, info.vectors, info.dimension) == (True, 300, 16)
    assert info.index_type == ("AUTOINDEX" if info.deployment == "embedded" else "HNSW")
    if info.index_type == "HNSW":
        assert {n: int(info.index_params[n]) for n in ("M", "efConstruction")} == {
            "M": 16,
            "efConstruction": 200,
        }
    assert info.built is not None
    assert 0 <= info.built <= 1
    assert info.bytes is not None
    assert 300 * 16 * 4 <= info.bytes <= 300 * (16 * 4 + 100)
    assert (info.missing, info.stale, info.fields_stale) == (0, 0, None)
    assert info.in_step is True
    assert info.error is None


def test_without_comparing(cosine_patches):
    info = inventory.index_info(cosine_patches.dataset, KEY, compare=False)
    assert info.patches_field == "ground_truth"
    assert info.vectors == len(cosine_patches.vectors)
    assert (info.missing, info.stale, info.in_step) == (None, None, None)


def test_missing_and_stale_samples(mine):
    indexed = mine(20)
    dataset = indexed.dataset
    dataset.add_samples([fo.Sample(filepath=f"new-{i}.jpg") for i in range(3)])
    dataset.delete_samples(indexed.ids[:5])
    info = inventory.index_info(dataset, KEY)
    assert (info.vectors, info.missing, info.stale) == (20, 3, 5)
    assert info.in_step is False
    # Nothing was written
    assert indexed.index.total_index_size == 20
    indexed.index.remove_from_index(sample_ids=indexed.ids[:5])
    info = inventory.index_info(dataset, KEY)
    assert (info.vectors, info.missing, info.stale) == (15, 3, 0)


def test_missing_and_stale_patches(engine, dropped):
    indexed = index_patches(engine, 20, "cosine")
    dropped.append(indexed)
    dataset = indexed.dataset
    sample = dataset.match({"ground_truth.detections.2": {"$exists": True}}).first()
    gone = sample.ground_truth.detections[:2]
    sample.ground_truth.detections = sample.ground_truth.detections[2:]
    sample.save()
    assert {d.id for d in gone} < set(indexed.ids)
    objects = [fo.Detection(label="c", bounding_box=[0, 0, 0.5, 0.5]) for _ in range(3)]
    dataset.add_sample(fo.Sample(filepath="x.jpg", ground_truth=fo.Detections(detections=objects)))
    info = inventory.index_info(dataset, KEY)
    assert (info.vectors, info.missing, info.stale) == (len(indexed.ids), 3, 2)


def test_rows_of_another_dataset_are_not_stale(mine, engine):
    indexed = mine(12)
    other = image_dataset(4)
    try:
        index = fob.compute_similarity(
            other,
            embeddings=False,
            brain_key="theirs",
            backend="milvus",
            metric="cosine",
            collection_name=indexed.index.config.collection_name,
            **engine.kwargs,
        )
        info = inventory.index_info(other, "theirs")
        assert (info.vectors, info.missing, info.stale) == (12, 4, 0)
        index.add_to_index(np.eye(4, 16), other.values("id"))
        info = inventory.index_info(other, "theirs")
        assert (info.vectors, info.missing, info.stale) == (16, 0, 0)
    finally:
        other.delete()


def test_fields_that_are_older_than_the_dataset(mine):
    dataset = image_dataset(8)
    indexed = mine(8, dataset=dataset, fields=["number"])
    info = inventory.index_info(dataset, KEY)
    assert info.fields == ("number",)
    assert (info.fields_stale, info.in_step) == (False, True)
    sample = dataset.first()
    sample["number"] = 99
    sample.save()
    info = inventory.index_info(dataset, KEY)
    assert (info.missing, info.stale, info.fields_stale, info.in_step) == (0, 0, True, False)
    indexed.index.sync_fields()
    assert inventory.index_info(dataset, KEY).fields_stale is False


def test_an_index_that_holds_nothing_yet(engine, dropped):
    dataset = image_dataset(7)
    index = fob.compute_similarity(
        dataset, embeddings=False, brain_key=KEY, backend="milvus", **engine.kwargs
    )
    dropped.append(Indexed(dataset, index, "dotproduct", {}, dict(engine.kwargs)))
    info = inventory.index_info(dataset, KEY)
    assert (info.exists, info.missing, info.stale, info.error) == (False, 7, 0, None)
    assert info.dimension is None
    assert info.index_type is None


def test_a_collection_that_was_dropped_behind_our_back(mine, connection):
    indexed = mine(9)
    name = indexed.index.config.collection_name
    connection.run(lambda c: c.drop_collection(name))
    info = inventory.index_info(indexed.dataset, KEY)
    assert (info.exists, info.missing, info.stale, info.error) == (False, 9, 0, None)


def test_only_our_runs_are_listed(mine):
    indexed = mine(6, brain_key="first")
    dataset = indexed.dataset
    fob.compute_similarity(dataset, embeddings=np.eye(6, 4), brain_key="skl", backend="sklearn")
    # A run of FiftyOne's built-in milvus backend, as it is stored
    document = dataset._doc.brain_methods["skl"]
    document.config = {
        **document.config,
        "cls": "fiftyone.brain.internal.core.milvus.MilvusSimilarityConfig",
        "method": "milvus",
        "collection_name": "whatever",
    }
    document.save()
    assert [info.brain_key for info in inventory.indexes(dataset, compare=False)] == ["first"]
    with pytest.raises(InvalidInputError, match="skl") as error:
        inventory.index_info(dataset, "skl")
    one_line(error.value)
    with pytest.raises(InvalidInputError, match="nosuch") as error:
        inventory.index_info(dataset, "nosuch")
    assert "first" in one_line(error.value)


def test_looking_leaves_fiftyone_as_it_was(mine, monkeypatch):
    indexed = mine(6)
    dataset = indexed.dataset
    before = dict(dataset._doc.brain_methods[KEY].config)
    assert BrainMethod.has_cached_run_results(dataset, KEY)
    dataset.clear_cache()
    for name, value in indexed.kwargs.items():
        monkeypatch.setitem(fob.brain_config.similarity_backends["milvus"], name, value)
    assert inventory.index_info(dataset, KEY).missing == 0
    assert not BrainMethod.has_cached_run_results(dataset, KEY)
    dataset.reload()
    assert dict(dataset._doc.brain_methods[KEY].config) == before


def test_indexes_of_a_silent_milvus_are_listed_soon(closed, caplog):
    dataset = image_dataset(3)
    for key in ("one", "two", "three"):
        config = MilvusSimilarityConfig(
            collection_name=key, uri=closed, user="root", password="hunter2-secret"
        )
        backend = config.build()
        index = MilvusSimilarityIndex(dataset, config, key, backend=backend)
        backend.save_run_results(dataset, key, index)
    try:
        start = time.monotonic()
        infos = inventory.indexes(dataset)
        assert time.monotonic() - start < 10
    finally:
        dataset.delete()
    assert sorted(info.brain_key for info in infos) == ["one", "three", "two"]
    for info in infos:
        assert (info.exists, info.vectors, info.missing, info.stale) == (None, None, None, None)
        assert info.in_step is None
        assert info.error is not None
        assert closed.removeprefix("http://") in info.error
        assert "\n" not in info.error
    assert "hunter2" not in repr(infos) + caplog.text


# -- status -------------------------------------------------------------------------------------


def test_the_status_of_a_milvus_that_answers(connection, engine):
    status = inventory.milvus_status(connection)
    assert status.deployment == engine.name
    assert status.address == connection.target.address
    assert status.engine == ("Milvus Lite" if engine.name == "embedded" else "Milvus")
    assert status.version is not None
    assert status.version[0].isdigit()
    assert status.latency is not None
    assert 0 < status.latency < 5
    assert status.error is None


def test_the_status_of_the_configured_milvus(connection, engine, monkeypatch):
    for name, value in engine.kwargs.items():
        monkeypatch.setitem(fob.brain_config.similarity_backends["milvus"], name, value)
    assert inventory.milvus_status().address == connection.target.address


@pytest.mark.parametrize("engine", ["server"], indirect=True)
def test_the_status_of_a_closed_port(engine, closed):
    where = closed.replace("http://", "http://root:hunter2-secret@")
    silent = connect(resolve(Settings.parse({"uri": where}), None))
    start = time.monotonic()
    status = inventory.milvus_status(silent)
    assert time.monotonic() - start < 10
    assert (status.deployment, status.address) == ("server", closed)
    assert (status.version, status.latency) == (None, None)
    assert status.error is not None
    assert "nothing listens" in status.error
    assert "hunter2" not in repr(status)
    with pytest.raises(FiftyOneMilvusError) as error:
        inventory.collections(silent)
    assert "hunter2" not in one_line(error.value)


# -- collections --------------------------------------------------------------------------------


def test_a_collection_of_an_index(cosine_images, connection):
    info = named(connection, cosine_images.index.config.collection_name)
    assert info.owner == "index"
    assert KEY in info.why
    assert cosine_images.dataset.name in info.why
    assert (info.dataset, info.brain_key) == (cosine_images.dataset.name, KEY)
    assert info.dimension == 16


def test_somebody_elses_collection(connection):
    name = unique("theirs")
    connection.run(lambda c: c.create_collection(name, dimension=4))
    try:
        info = named(connection, name)
        assert (info.owner, info.dataset, info.brain_key) == ("other", None, None)
        with pytest.raises(InvalidInputError, match=name) as error:
            inventory.clean_up([name], connection)
        one_line(error.value)
        assert connection.run(lambda c: c.has_collection(name))
    finally:
        connection.run(lambda c: c.drop_collection(name))


def test_an_orphan_is_cleaned_up(mine, connection):
    kept, gone = mine(5), mine(6)
    name, other = (i.index.config.collection_name for i in (gone, kept))
    dataset = gone.dataset.name
    gone.dataset.delete()
    info = named(connection, name)
    assert (info.owner, info.dataset, info.brain_key) == ("orphan", dataset, KEY)
    assert dataset in info.why
    assert info.vectors in (6, 0)  # a server does not count unsealed rows while it loads
    # None if one of them is not orphaned
    with pytest.raises(InvalidInputError, match=other) as error:
        inventory.clean_up([name, other], connection)
    one_line(error.value)
    assert connection.run(lambda c: c.has_collection(name))
    assert inventory.clean_up(name, connection) == [name]
    assert not connection.run(lambda c: c.has_collection(name))
    assert connection.run(lambda c: c.has_collection(other))
    with pytest.raises(InvalidInputError, match=name) as error:
        inventory.clean_up([name], connection)
    one_line(error.value)


def test_a_collection_whose_run_is_gone(mine, connection):
    indexed = mine(5)
    name = indexed.index.config.collection_name
    document = indexed.dataset._doc
    foo.get_db_conn().runs.delete_one({"_dataset_id": document.id, "key": KEY})
    # It may be an index that another process is still uploading
    info = named(connection, name)
    assert info.owner == "other"
    with pytest.raises(InvalidInputError, match=name):
        inventory.clean_up([name], connection)
    age(connection, name)
    info = named(connection, name)
    assert info.owner == "orphan"
    assert KEY in info.why
    assert inventory.clean_up([name], connection) == [name]


def test_a_run_of_another_backend_with_the_same_name_is_no_user(mine, connection):
    indexed = mine(5)
    name = indexed.index.config.collection_name
    elsewhere = image_dataset(2)
    fob.compute_similarity(elsewhere, embeddings=np.eye(2), brain_key="q", backend="sklearn")
    document = elsewhere._doc.brain_methods["q"]
    document.config = {**document.config, "method": "qdrant", "collection_name": name}
    document.save()
    indexed.dataset.delete()
    try:
        assert named(connection, name).owner == "orphan"
    finally:
        elsewhere.delete()
        inventory.clean_up([name], connection)


@pytest.mark.parametrize(
    ("database", "owner", "why"),
    [(None, "orphan", "another"), ("5f" * 12, "other", "another FiftyOne database")],
)
def test_other_databases_may_use_the_same_milvus(mine, connection, database, owner, why):
    indexed = mine(5)
    name = indexed.index.config.collection_name
    info = connection.run(lambda c: c.describe_collection(name))
    record = json.loads(dict(info["properties"])["fiftyone"])
    assert record.pop("database") == database_id()
    record["dataset_id"] = "5f" * 12
    if database:
        record["database"] = database
    text = json.dumps(record)
    connection.run(lambda c: c.alter_collection_properties(name, properties={"fiftyone": text}))
    assert named(connection, name).owner == "index"  # its run names it, whatever is recorded
    foo.get_db_conn().runs.delete_one({"_dataset_id": indexed.dataset._doc.id, "key": KEY})
    info = named(connection, name)
    assert info.owner == owner
    assert why in info.why


def test_a_run_that_is_renamed_keeps_its_collection(mine, connection):
    indexed = mine(5)
    name = indexed.index.config.collection_name
    indexed.dataset.rename_brain_run(KEY, "renamed")
    info = named(connection, name)
    assert (info.owner, info.brain_key) == ("index", "renamed")
