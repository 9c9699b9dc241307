"""What there is: indexes, collections, and whether Milvus answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiftyone.brain as fob
import pytest

from fiftyone_milvus import inventory
from fiftyone_milvus.backend import MilvusSimilarityConfig
from fiftyone_milvus.connection import Connection
from fiftyone_milvus.errors import InvalidInputError, UnreachableError
from tests.conftest import Engine
from tests.support.processes import free_port

from .support import (
    DIM,
    KEY,
    Indexed,
    image_dataset,
    index_images,
    index_patches,
    one_line,
    patch_dataset,
    unique,
    vectors,
)


@pytest.fixture
def connection(engine: Engine) -> Connection:
    return MilvusSimilarityConfig(**engine.kwargs).connect()


def by_name(connection: Connection) -> dict[str, inventory.CollectionInfo]:
    return {info.name: info for info in inventory.collections(connection)}


def test_an_index_in_step(engine: Engine, dropped: list[Indexed]) -> None:
    indexed = index_images(engine, 40, "cosine")
    dropped.append(indexed)
    (info,) = inventory.indexes(indexed.dataset)
    assert (info.dataset, info.brain_key) == (indexed.dataset.name, KEY)
    assert info.collection == indexed.index.config.collection_name
    assert (info.metric, info.deployment) == ("cosine", engine.name)
    assert (info.exists, info.vectors, info.dimension) == (True, 40, DIM)
    assert info.bytes == 40 * DIM * 4
    assert info.index_type == indexed.index._collection.layout.index_type
    assert (info.missing, info.stale, info.in_step, info.error) == (0, 0, True, None)
    assert info.fields_stale is None
    assert info.built in (None, *(i / 40 for i in range(41)))


def test_what_is_missing_and_what_is_stale(engine: Engine, dropped: list[Indexed]) -> None:
    indexed = index_images(engine, 30, "dotproduct", fields=["number"])
    dropped.append(indexed)
    dataset = indexed.dataset
    dataset.delete_samples(indexed.ids[:4])
    dataset.merge_samples(image_dataset(37), key_field="filepath")
    info = inventory.index_info(dataset, KEY)
    # Four came back under new IDs, and seven are new
    assert (info.missing, info.stale, info.in_step) == (11, 4, False)
    assert info.fields == ("number",)
    assert info.fields_stale is True

    quick = inventory.index_info(dataset, KEY, compare=False)
    assert (quick.missing, quick.stale, quick.in_step) == (None, None, None)
    assert quick.vectors == 30


def test_patches_are_compared_by_label(engine: Engine, dropped: list[Indexed]) -> None:
    indexed = index_patches(engine, 20, "cosine")
    dropped.append(indexed)
    dataset = indexed.dataset
    sample = dataset.exists("ground_truth").skip(2).first()
    gone = len(sample.ground_truth.detections)
    dataset.delete_samples(sample)
    more = patch_dataset(6)
    added = len(more.values("ground_truth.detections.id", unwind=True))
    for sample in more:
        sample.filepath = f"another-{sample.filepath}"
        sample.save()
    dataset.merge_samples(more)
    more.delete()
    info = inventory.index_info(dataset, KEY)
    assert gone
    assert info.patches_field == "ground_truth"
    assert (info.missing, info.stale) == (added, gone)


def test_a_collection_that_was_dropped(engine: Engine, dropped: list[Indexed]) -> None:
    indexed = index_images(engine, 5, "cosine")
    dropped.append(indexed)
    indexed.index.client.drop_collection(indexed.index.config.collection_name)
    info = inventory.index_info(indexed.dataset, KEY)
    assert (info.exists, info.vectors, info.missing, info.stale) == (False, 0, 5, 0)
    assert info.error is None


def test_an_index_that_is_empty(engine: Engine, dropped: list[Indexed]) -> None:
    dataset = image_dataset(3)
    index = fob.compute_similarity(
        dataset, embeddings=False, brain_key=KEY, backend="milvus", **engine.kwargs
    )
    dropped.append(Indexed(dataset, index, "dotproduct", {}, engine.kwargs))
    info = inventory.index_info(dataset, KEY)
    assert (info.exists, info.missing) == (False, 3)


def test_other_backends_are_left_out(engine: Engine, dropped: list[Indexed]) -> None:
    indexed = index_images(engine, 5, "cosine")
    dropped.append(indexed)
    fob.compute_similarity(
        indexed.dataset, embeddings=vectors(5), brain_key="other", backend="sklearn"
    )
    assert inventory.keys(indexed.dataset) == [KEY]
    with pytest.raises(InvalidInputError, match=r"'other'.*not an index of fiftyone-milvus.*'sim'"):
        inventory.index_info(indexed.dataset, "other")
    with pytest.raises(InvalidInputError, match=r"no brain run 'nothing'.*'sim'"):
        inventory.index_info(indexed.dataset, "nothing")


def test_milvus_answers(connection: Connection, engine: Engine) -> None:
    status = inventory.milvus_status(connection)
    assert status.error is None
    assert status.deployment == engine.name
    assert status.engine == {"embedded": "Milvus Lite", "server": "Milvus"}[engine.name]
    assert status.version == connection.engine.version
    assert status.latency is not None
    assert 0 < status.latency < inventory.status.ANSWER_SECONDS


def test_milvus_does_not_answer(monkeypatch: pytest.MonkeyPatch, dropped: list[Indexed]) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setattr(fob.brain_config, "similarity_backends", _backends(uri))
    status = inventory.milvus_status()
    assert status.address == uri
    assert status.latency is None
    assert status.version is None
    assert "secret" not in one_line(status.error)
    assert uri in str(status.error)

    dataset = image_dataset(3)
    config = MilvusSimilarityConfig(uri=uri, collection_name="never", deployment="server")
    with pytest.raises(UnreachableError):
        inventory.collections(config.connect())
    dataset.delete()


def _backends(uri: str) -> dict[str, Any]:
    backends = dict(fob.brain_config.similarity_backends)
    backends["milvus"] = {**backends["milvus"], "uri": uri, "user": "root", "password": "secret"}
    return backends


# -- whose a collection is ------------------------------------------------------------------------


@pytest.fixture
def foreign(connection: Connection) -> Iterator[str]:
    """A collection that somebody made with pymilvus."""
    name = unique("foreign")
    connection.client.create_collection(name, dimension=4)
    yield name
    if connection.client.has_collection(name):
        connection.client.drop_collection(name)


def test_whose_collections_are(
    engine: Engine, connection: Connection, foreign: str, dropped: list[Indexed]
) -> None:
    used = index_images(engine, 6, "cosine")
    lost = index_images(engine, 4, "cosine")
    forgotten = index_images(engine, 5, "cosine")
    dropped += [used, forgotten]
    names = [i.index.config.collection_name for i in (used, lost, forgotten)]
    lost_name = lost.dataset.name
    lost.dataset.delete()
    # As in a database that was restored: delete_brain_run() would drop the collection
    forgotten.dataset.rename_brain_run(KEY, "renamed")
    run = forgotten.dataset._doc.brain_methods.pop("renamed")
    forgotten.dataset.save()
    run.delete()
    forgotten.dataset.reload()

    used.index._collection.wait_until_loaded()
    there = by_name(connection)
    assert there[foreign].owner == "other"
    first = there[names[0]]
    assert (first.owner, first.dataset, first.brain_key) == ("index", used.dataset.name, KEY)
    assert (first.vectors, first.dimension) == (6, DIM)
    assert there[names[1]].owner == "orphan"
    assert lost_name in there[names[1]].why
    assert there[names[2]].owner == "orphan"
    assert forgotten.dataset.name in there[names[2]].why

    for refused in (foreign, names[0], "no_such_collection"):
        with pytest.raises(InvalidInputError, match=refused):
            inventory.clean_up([names[1], refused], connection)
    assert names[1] in by_name(connection)
    assert inventory.clean_up(names[1:], connection) == names[1:]
    there = by_name(connection)
    assert names[1] not in there
    assert names[2] not in there
    assert names[0] in there


def test_a_run_may_use_a_collection_that_another_made(
    engine: Engine, connection: Connection, dropped: list[Indexed]
) -> None:
    made = index_images(engine, 5, "cosine")
    name = made.index.config.collection_name
    other = image_dataset(2)
    index = fob.compute_similarity(
        other,
        embeddings=False,
        brain_key=KEY,
        backend="milvus",
        collection_name=name,
        metric="cosine",
        **engine.kwargs,
    )
    dropped.append(Indexed(other, index, "cosine", {}, engine.kwargs))
    made.dataset.delete()
    info = by_name(connection)[name]
    assert info.owner == "index"
    assert other.name in info.why
