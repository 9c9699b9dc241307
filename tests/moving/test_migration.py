"""Indexes of other backends, and of another Milvus, move here without being computed again."""

from __future__ import annotations

import itertools
import json
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.core.odm as foo
import numpy as np
import pytest

from fiftyone_milvus import inventory, moving
from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.errors import (
    CollectionMismatchError,
    CollectionNotFoundError,
    EngineError,
    InvalidInputError,
)
from tests.support.indexes import (
    KEY,
    built_in,
    holds,
    image_dataset,
    index_images,
    interrupted,
    one_line,
    patch_dataset,
    unique,
    vectors,
)
from tests.support.warm import WARM

one_engine = pytest.mark.parametrize("engine", ["embedded"], indirect=True)


def stored(dataset: fo.Dataset, key: str = KEY) -> dict[str, Any]:
    return foo.get_db_conn().runs.find_one({"_dataset_id": dataset._doc.id, "key": key})


# -- from other backends ------------------------------------------------------------------------


def test_from_sklearn(engine, finished, caplog):
    dataset = finished(image_dataset(60))
    data = vectors(60)
    old = fob.compute_similarity(dataset, embeddings=data, brain_key=KEY, backend="sklearn")
    # Which moves the vectors that it has in memory
    dataset.sort_by_similarity(dataset.first().id, k=3, brain_key=KEY)
    assert not np.array_equal(old.get_embeddings()[0], data)
    truth = dict(zip(dataset.values("id"), data, strict=True))
    before, files = stored(dataset), foo.get_db_conn()["fs.files"].count_documents({})

    done = moving.migrate(dataset, KEY, fields=["number"], **engine.kwargs)

    assert (done.vectors, done.copied, done.others, done.skipped) == (60, 60, 0, {})
    assert (done.brain_key, done.compared) == (KEY, 60)
    holds(dataset, KEY, "cosine", truth)
    after = stored(dataset)
    assert after["_id"] == before["_id"]
    assert after["config"]["fields"] == ["number"]
    # Only the vectors that FiftyOne stored are deleted
    assert foo.get_db_conn()["fs.files"].count_documents({}) == files
    assert foo.get_db_conn()["fs.files"].find_one({"_id": before["results"]}) is None
    index = dataset.load_brain_results(KEY)
    assert index._synced_fields.fresh()
    assert index.config.deployment == engine.name
    assert "FIFTYONE_BRAIN_SIMILARITY_MILVUS_URI" in caplog.text
    info = inventory.index_info(dataset, KEY)
    assert info.in_step
    (own,) = [i for i in inventory.collections(index.connection) if i.name == info.collection]
    assert own.owner == "index"
    # The run owns it, so sync() removes rows
    dataset.delete_samples(dataset.limit(5))
    assert index.sync(embeddings=truth).removed == 5


@one_engine
def test_patches_from_sklearn_to_another_key(engine, finished):
    dataset = finished(patch_dataset(24))
    ids = dataset.values("ground_truth.detections.id", unwind=True)
    ids = [i for i in ids if i is not None]
    data = vectors(len(ids), seed=52)
    labels = dataset.values("ground_truth.detections.id")
    sizes = np.cumsum([0, *(len(found or []) for found in labels)])
    parts = {
        s: data[sizes[i] : sizes[i + 1]] if labels[i] else None
        for i, s in enumerate(dataset.values("id"))
    }
    fob.compute_similarity(
        dataset,
        patches_field="ground_truth",
        embeddings=parts,
        brain_key=KEY,
        backend="sklearn",
        metric="euclidean",
    )
    before = stored(dataset)
    done = moving.migrate(dataset, KEY, "moved", **engine.kwargs)
    assert (done.vectors, done.brain_key) == (len(ids), "moved")
    holds(dataset, "moved", "euclidean", dict(zip(ids, data, strict=True)))
    assert stored(dataset) == before
    assert dataset.get_brain_info("moved").config.patches_field == "ground_truth"
    gone = dataset.limit(4)
    labels = {i for found in gone.values("ground_truth.detections.id") for i in found or []}
    dataset.load_brain_results("moved").remove_from_index(sample_ids=gone.values("id"))
    assert dataset.load_brain_results("moved").total_index_size == len(ids) - len(labels)


@one_engine
def test_from_lancedb(engine, finished, tmp_path):
    dataset = finished(image_dataset(70))
    data, ids = vectors(70), dataset.values("id")
    index = fob.compute_similarity(
        dataset,
        embeddings=data[::-1],
        brain_key=KEY,
        backend="lancedb",
        metric="euclidean",
        uri=str(tmp_path / "lance"),
    )
    # It appends, and what was appended last is what counts
    index._table.add([{"id": i, "sample_id": i, "vector": v} for i, v in zip(ids, data)])
    gone = ids[:10]
    dataset.delete_samples(gone)
    done = moving.migrate(dataset, KEY, batch_size=7, **engine.kwargs)
    assert (done.vectors, done.others) == (60, 10)
    holds(dataset, KEY, "euclidean", dict(zip(ids[10:], data[10:], strict=True)))
    assert "lance" in [path.name for path in tmp_path.iterdir()]


@one_engine
def test_a_backend_that_does_not_list_its_ids(engine, finished, monkeypatch, tmp_path):
    dataset = finished(image_dataset(30))
    data, ids = vectors(30), dataset.values("id")
    index = fob.compute_similarity(
        dataset, embeddings=False, brain_key=KEY, backend="lancedb", uri=str(tmp_path / "lance")
    )
    index.add_to_index(data[:25], ids[:25])
    # As the other backends are read
    monkeypatch.setattr("fiftyone_milvus.moving.sources.LanceSource", moving.sources.OtherSource)
    done = moving.migrate(dataset, KEY, "moved", batch_size=4, **engine.kwargs)
    assert (done.vectors, done.others) == (25, None)
    holds(dataset, "moved", "cosine", dict(zip(ids[:25], data[:25], strict=True)))


@one_engine
def test_few_vectors_of_a_backend_that_does_not_list_them(
    engine, finished, monkeypatch, tmp_path, caplog
):
    dataset = finished(image_dataset(2_000))
    data, ids = vectors(4), dataset.values("id")
    index = fob.compute_similarity(
        dataset, embeddings=False, brain_key=KEY, backend="lancedb", uri=str(tmp_path / "lance")
    )
    index.add_to_index(data, ids[-4:])
    dataset.delete_samples(ids[-1:])
    monkeypatch.setattr("fiftyone_milvus.moving.sources.LanceSource", moving.sources.OtherSource)

    rows, calls = moving.sources.OtherSource.rows, itertools.count()
    with monkeypatch.context() as context:
        context.setattr(
            moving.sources.OtherSource,
            "rows",
            lambda *args: iter(()) if next(calls) else rows(*args),
        )
        with pytest.raises(EngineError, match="once but not again") as error:
            moving.migrate(dataset, KEY, "moved", **engine.kwargs)
    one_line(error.value)

    done = moving.migrate(dataset, KEY, "moved", **engine.kwargs)
    # Drawn from what was moved, not from what the dataset has
    assert (done.vectors, done.compared) == (3, 3)
    assert "has 4 vectors, and 3 were moved" in caplog.text
    holds(dataset, "moved", "cosine", dict(zip(ids[-4:-1], data[:3], strict=True)))


@one_engine
def test_from_the_built_in(engine, finished, embedded_path):
    dataset = finished(image_dataset(40))
    data, ids = vectors(40), dataset.values("id")
    old = built_in(engine, dataset, data, metric="dotproduct")
    old.add_to_index(data[:4], ids[:4])
    done = moving.migrate(dataset, KEY, "moved", uri=str(embedded_path))
    assert (done.vectors, done.source) == (40, f"Milvus index '{KEY}'")
    holds(dataset, "moved", "dotproduct", dict(zip(ids, data, strict=True)))
    assert moving.adoptable(dataset) == [KEY]
    moving.adopt(dataset, KEY)
    assert dataset.load_brain_results(KEY).total_index_size == 40


# -- between two of ours ------------------------------------------------------------------------


def test_to_a_server_and_back(milvus_server, finished, embedded_path, caplog):
    dataset = finished(image_dataset(90))
    data, ids = vectors(90), dataset.values("id")
    here, there = {"uri": str(embedded_path)}, milvus_server.kwargs
    index = fob.compute_similarity(
        dataset,
        embeddings=data,
        brain_key=KEY,
        backend="milvus",
        metric="euclidean",
        fields=["number"],
        **here,
    )
    truth = dict(zip(ids, data, strict=True))
    name, record = index.config.collection_name, index._collection.layout.embedded
    before = stored(dataset)

    with interrupted(after=3):
        moving.migrate(dataset, KEY, batch_size=10, index_type="IVF_FLAT", **there)

    assert stored(dataset) == before
    assert dataset.load_brain_results(KEY) is index
    assert "the same call continues from there" in caplog.text
    client = milvus_server.client()

    done = moving.migrate(dataset, KEY, batch_size=10, index_type="IVF_FLAT", **there)

    assert (done.collection, done.vectors, done.copied) == (name, 90, 60)
    holds(dataset, KEY, "euclidean", truth)
    moved = dataset.load_brain_results(KEY)
    assert moved.config.deployment == "server"
    assert moved._collection.layout.index_type == "IVF_FLAT"
    assert moved._synced_fields.fresh()
    assert dict(moved._collection.layout.embedded) == dict(record)
    assert index.total_index_size == 90

    # The old one is in the way, and left alone
    back = moving.migrate(dataset, KEY, **here)
    assert back.collection != name
    holds(dataset, KEY, "euclidean", truth)
    assert index.total_index_size == 90
    client.drop_collection(name)
    client.close()


@one_engine
def test_what_has_changed_since_it_was_begun(engine, finished, caplog):
    dataset = finished(image_dataset(40))
    data, ids = vectors(40), dataset.values("id")
    index = fob.compute_similarity(
        dataset, embeddings=data, brain_key=KEY, backend="milvus", **engine.kwargs
    )
    with interrupted(after=2):
        moving.migrate(dataset, KEY, "moved", batch_size=10, **engine.kwargs)
    (begun,) = [i for i in inventory.collections(index.connection) if i.name.endswith("moved")]
    assert (begun.owner, "moved here" in begun.why, begun.vectors) == ("other", True, 20)
    data = -data
    index.add_to_index(data, ids)
    index.remove_from_index(ids[:5])
    done = moving.migrate(dataset, KEY, "moved", batch_size=10, **engine.kwargs)
    assert "moving all of it again" in caplog.text
    assert done.vectors == 35
    holds(dataset, "moved", "dotproduct", dict(zip(ids[5:], data[5:], strict=True)))


@one_engine
def test_it_goes_on_in_a_process_that_did_not_make_the_run(engine, finished):
    dataset = finished(image_dataset(40))
    fob.compute_similarity(dataset, embeddings=vectors(40), brain_key=KEY, backend="sklearn")
    given = {"collection_name": unique("given"), "batch_size": 10, **engine.kwargs}
    with interrupted(after=2):
        moving.migrate(dataset, KEY, **given)
    # As MongoDB has it, which keeps no microseconds
    dataset.clear_cache()
    dataset.reload()
    done = moving.migrate(dataset, KEY, **given)
    assert (done.vectors, done.copied) == (40, 20)


def test_it_goes_on_after_a_process_that_was_killed(engine, finished):
    dataset = finished(image_dataset(200))
    dataset.persistent = True
    data, ids = vectors(200), dataset.values("id")
    fob.compute_similarity(dataset, embeddings=data, brain_key=KEY, backend="sklearn")
    code = """
import json, sys
import fiftyone as fo
from fiftyone_milvus import moving
from fiftyone_milvus.writing.writer import Writer

add = Writer.add

def acknowledged(self, batch):
    add(self, batch)
    self.send()
    self._collect(0)
    print("rows", self.written, flush=True)
    if self.written >= 60:
        sys.stdin.read()

Writer.add = acknowledged
name, key, kwargs = json.loads(sys.argv[1])
moving.migrate(fo.load_dataset(name), key, batch_size=20, progress=False, **kwargs)
"""
    given = json.dumps([dataset.name, KEY, engine.kwargs])
    process = WARM.start(code, given)
    while (said := process.stdout.readline()) != "rows 60\n":
        assert said
    process.close()
    dataset.reload()
    assert dataset.get_brain_info(KEY).config.method == "sklearn"
    done = moving.migrate(dataset, KEY, batch_size=20, **engine.kwargs)
    assert (done.vectors, done.copied) == (200, 140)
    holds(dataset, KEY, "cosine", dict(zip(ids, data, strict=True)))


@one_engine
def test_what_was_begun_stays_if_the_source_has_nothing(engine, finished):
    dataset = finished(image_dataset(40))
    data, ids = vectors(40), dataset.values("id")
    index = fob.compute_similarity(
        dataset, embeddings=data, brain_key=KEY, backend="milvus", **engine.kwargs
    )
    name, client = index.config.collection_name, index.client
    with interrupted(after=2):
        moving.migrate(dataset, KEY, "moved", batch_size=10, **engine.kwargs)

    def refused(kind: type[Exception], match: str) -> None:
        dataset.clear_cache()
        dataset.load_brain_results(KEY, **engine.kwargs)
        with pytest.raises(kind, match=match) as error:
            moving.migrate(dataset, KEY, "moved", batch_size=10, **engine.kwargs)
        one_line(error.value)
        found = inventory.collections(index.connection)
        assert [i.vectors for i in found if i.name.endswith("moved")] == [20]

    # As if it were looked for at another address
    client.rename_collection(name, f"{name}_away")
    refused(CollectionNotFoundError, f"no Milvus collection '{name}'")
    client.rename_collection(f"{name}_away", name)
    index = dataset.load_brain_results(KEY)
    index.remove_from_index(ids)
    refused(InvalidInputError, "nothing to move")
    index.add_to_index(data, ids)
    done = moving.migrate(dataset, KEY, "moved", batch_size=10, **engine.kwargs)
    assert (done.vectors, done.copied) == (40, 20)


@one_engine
def test_what_fails_once_the_run_is_stored_is_only_told(engine, finished, monkeypatch, caplog):
    dataset = finished(image_dataset(6))
    fob.compute_similarity(
        dataset, embeddings=vectors(6), brain_key="old", backend="milvus", **engine.kwargs
    )

    def fail(*_: Any, **__: Any) -> None:
        raise EngineError("not now")

    with monkeypatch.context() as context:
        context.setattr(MilvusCollection, "record_embedded", fail)
        with pytest.raises(EngineError, match="not now"):
            moving.migrate(dataset, "old", "new", **engine.kwargs)
    assert dataset.list_brain_runs() == ["old"]
    with monkeypatch.context() as context:
        context.setattr(MilvusCollection, "set_owner", fail)
        done = moving.migrate(dataset, "old", "new", **engine.kwargs)
    assert (done.vectors, done.copied) == (6, 0)
    assert "is stored, but" in caplog.text
    assert dataset.load_brain_results("new").total_index_size == 6


@one_engine
def test_none_is_the_default(engine, finished):
    dataset = finished(image_dataset(6))
    fob.compute_similarity(
        dataset,
        embeddings=vectors(6),
        brain_key="old",
        backend="milvus",
        metric="euclidean",
        fields=["number"],
        **engine.kwargs,
    )
    moving.migrate(
        dataset, "old", "new", metric=None, fields=None, index_type=None, **engine.kwargs
    )
    config = dataset.get_brain_info("new").config
    assert (config.metric, config.fields) == ("euclidean", ["number"])
    moving.migrate(dataset, "old", "bare", fields=[], **engine.kwargs)
    assert not dataset.get_brain_info("bare").config.fields


@one_engine
def test_vectors_that_milvus_can_not_hold(engine, finished, caplog):
    dataset = finished(image_dataset(12))
    data, ids = vectors(12), dataset.values("id")
    data[3], data[7, 2] = 0, np.nan
    fob.compute_similarity(dataset, embeddings=data, brain_key=KEY, backend="sklearn")
    done = moving.migrate(dataset, KEY, "moved", **engine.kwargs)
    assert done.vectors == 10
    assert set(done.skipped) == {ids[3], ids[7]}
    assert "no direction" in done.skipped[ids[3]]
    assert ids[7] in caplog.text


@one_engine
def test_what_can_not_be_moved(engine, finished, dropped):
    dataset = finished(image_dataset(6))
    fob.compute_similarity(
        dataset, embeddings=vectors(6), brain_key=KEY, backend="sklearn", metric="manhattan"
    )
    fob.compute_visualization(dataset, embeddings=vectors(6), brain_key="shown", method="pca")
    before = stored(dataset)

    def refused(match: str, *arguments: Any, kind: Any = InvalidInputError, **kwargs: Any) -> None:
        with pytest.raises(kind, match=match) as error:
            moving.migrate(dataset, *arguments, **engine.kwargs, **kwargs)
        one_line(error.value)
        assert stored(dataset) == before

    refused("metric 'manhattan', which Milvus does not have", KEY)
    refused("no brain run 'nope'", "nope")
    refused("not a similarity index", "shown", "moved")
    refused("already has a brain run 'shown'", KEY, "shown", metric="cosine")
    refused("Invalid brain key", KEY, "not a name", metric="cosine")
    refused("batch_size 0", KEY, metric="cosine", batch_size=0)
    refused("Unknown parameter 'nprobe'", KEY, metric="cosine", nprobe=3)
    other = index_images(engine, 3, "cosine")
    dropped.append(other)
    name = other.index.config.collection_name
    refused(
        f"'{name}'.*already",
        KEY,
        kind=CollectionMismatchError,
        metric="cosine",
        collection_name=name,
    )
    dataset.delete_samples(dataset.values("id"))
    refused("no usable vector", KEY, metric="cosine", collection_name=unique("none"))
    assert other.index.total_index_size == 3


@one_engine
def test_a_run_may_be_replaced(engine, finished):
    dataset = finished(image_dataset(8))
    data, ids = vectors(8), dataset.values("id")
    fob.compute_similarity(dataset, embeddings=data, brain_key=KEY, backend="sklearn")
    old = fob.compute_similarity(
        dataset, embeddings=data[:, :4], brain_key="other", backend="milvus", **engine.kwargs
    )
    moving.migrate(dataset, KEY, "other", overwrite=True, **engine.kwargs)
    holds(dataset, "other", "cosine", dict(zip(ids, data, strict=True)))
    # migrate() leaves the collection of the replaced run
    assert old.total_index_size == 8
    old.cleanup()


@one_engine
def test_frames_keep_what_they_are_of(engine, finished):
    dataset = finished(fo.Dataset(unique("video")))
    sample = fo.Sample(filepath="video.mp4")
    for number in range(1, 6):
        sample.frames[number] = fo.Frame(filepath=f"frame-{number}.jpg")
    dataset.add_sample(sample)
    frames = dataset.to_frames(sample_frames=False)
    data = vectors(5)
    fob.compute_similarity(frames, embeddings=data, brain_key=KEY, backend="sklearn")
    moving.migrate(dataset, KEY, **engine.kwargs)
    dataset.clear_cache()
    index = dataset.load_brain_results(KEY, **engine.kwargs)
    assert index.samples._is_frames
    assert sorted(index.sample_ids) == sorted(frames.values("id"))


@one_engine
def test_where_other_processes_look(engine, finished, monkeypatch, caplog):
    dataset = finished(image_dataset(3))
    fob.compute_similarity(dataset, embeddings=vectors(3), brain_key=KEY, backend="sklearn")
    backends = fob.brain_config.similarity_backends
    monkeypatch.setitem(backends, "milvus", {**backends["milvus"], **engine.kwargs})
    moving.migrate(dataset, KEY)
    assert "is in" in caplog.text
    assert "FIFTYONE_BRAIN_SIMILARITY_MILVUS_URI" not in caplog.text
