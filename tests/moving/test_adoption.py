"""Runs of FiftyOne's real built-in backend become ours, in place, and the built-in's again."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.core.odm as foo
import numpy as np
import pytest

from fiftyone_milvus import embedded, inventory, moving
from fiftyone_milvus.backend import MilvusSimilarityConfig
from fiftyone_milvus.errors import (
    CollectionMismatchError,
    CollectionNotFoundError,
    EmbeddedServiceError,
    EngineError,
    FiftyOneMilvusError,
    InvalidInputError,
)
from fiftyone_milvus.index import MilvusSimilarityIndex
from fiftyone_milvus.moving import builtin, runs
from tests.support.indexes import (
    KEY,
    Indexed,
    built_in,
    image_dataset,
    index_images,
    one_line,
    unique,
    vectors,
)

# A server takes seconds to make a run of the built-in
quick = pytest.mark.parametrize("engine", ["embedded"], indirect=True)


@pytest.fixture
def run(engine: Any, dropped: list[Indexed]) -> Any:
    """Makes a dataset with a run of the built-in, and cleans up behind both backends."""

    def make(count: int = 20, **kwargs: Any) -> tuple[fo.Dataset, np.ndarray, Any]:
        dataset, data = image_dataset(count), vectors(count)
        for sample, vector in zip(dataset.iter_samples(autosave=True), data):
            sample["vector"] = vector
        index = built_in(engine, dataset, "vector", **kwargs)
        dropped.append(_Owned(dataset, engine, index.config.collection_name))
        return dataset, data, index

    return make


class _Owned:
    def __init__(self, dataset: fo.Dataset, engine: Any, name: str) -> None:
        self.dataset, self.engine, self.name = dataset, engine, name

    def drop(self) -> None:
        if self.engine.name == "embedded":
            builtin.close_directory(self.engine.kwargs["uri"])
        config = MilvusSimilarityConfig(**self.engine.kwargs)
        config.connect().run(lambda client: client.drop_collection(self.name))
        if not self.dataset.deleted:
            self.dataset.delete()


def stored(dataset: fo.Dataset, key: str = KEY) -> dict[str, Any]:
    """Returns what MongoDB has of a run."""
    return foo.get_db_conn().runs.find_one({"_dataset_id": dataset._doc.id, "key": key})


def files() -> int:
    return foo.get_db_conn()["fs.files"].count_documents({})


def test_there_and_back(engine, run):
    dataset, data, old = run()
    ids = dataset.values("id")
    old.add_to_index(-data[:5], ids[:5])
    before, count = stored(dataset), files()
    if engine.name == "server":
        with pytest.raises(InvalidInputError, match=r"5 rows that repeat.*adopt\(\)") as error:
            moving.migrate(dataset, KEY, "moved", **engine.kwargs)
        one_line(error.value)
    assert moving.adoptable(dataset) == [KEY]
    assert inventory.keys(dataset) == []

    done = moving.adopt(dataset, KEY)

    assert (done.vectors, done.dimension, done.dropped, done.owned) == (20, 16, (), True)
    assert done.repeated == (5 if engine.name == "server" else 0)
    assert moving.adoptable(dataset) == []
    assert inventory.keys(dataset) == [KEY]
    after = stored(dataset)
    kept = {n: v for n, v in before["config"].items() if n != "cls"}
    assert kept.items() <= after["config"].items()
    assert after["config"]["deployment"] == engine.name
    assert {n: v for n, v in after.items() if n not in ("config", "results")} == {
        n: v for n, v in before.items() if n not in ("config", "results")
    }
    assert files() == count

    # What FiftyOne keeps of the run is not the built-in's any more, with or without a reload
    assert type(dataset.load_brain_results(KEY)) is MilvusSimilarityIndex
    dataset.clear_cache()
    dataset.reload()
    index = dataset.load_brain_results(KEY, **engine.kwargs)
    assert type(index) is MilvusSimilarityIndex
    assert index.total_index_size == 20
    # One of each, which may be either
    found = index.get_embeddings(sample_ids=ids)[0]
    np.testing.assert_array_equal(np.abs(found), np.abs(data))
    np.testing.assert_array_equal(found[5:], data[5:])
    name = index.config.collection_name
    infos = inventory.collections(index.connection)
    assert [i.owner for i in infos if i.name == name] == ["index"]

    # Up to date: the record of the collection allows it to remove rows
    dataset.delete_samples(ids[:3])
    dataset.add_sample(fo.Sample(filepath="new.jpg", vector=data[0]))
    report = index.sync(refresh=True)
    assert (report.added, report.removed, report.updated) == (1, 3, 17)
    np.testing.assert_array_equal(index.get_embeddings(sample_ids=ids[3:])[0], data[3:])

    again = moving.adopt(dataset, KEY)
    assert (again.changed, again.vectors, again.owned) == (False, 18, True)

    assert moving.revert(dataset, KEY).changed
    assert moving.adoptable(dataset) == [KEY]
    assert not moving.revert(dataset, KEY).changed
    if engine.name == "embedded":
        embedded.stop(engine.kwargs["uri"])
    back = dataset.load_brain_results(KEY, **engine.kwargs)
    assert type(back) is type(old)
    assert dataset.sort_by_similarity(ids[5], k=1, brain_key=KEY).values("id") == [ids[5]]
    assert stored(dataset)["config"] == before["config"]
    assert files() == count


@quick
def test_the_update_is_the_last_thing(run, monkeypatch):
    dataset, _, _ = run()
    before = stored(dataset)

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(runs, "rewrite", interrupt)
        with pytest.raises(KeyboardInterrupt):
            moving.adopt(dataset, KEY)
    assert stored(dataset) == before
    assert moving.adopt(dataset, KEY).changed


@quick
def test_the_built_in_gets_its_directory_back(run, monkeypatch, tmp_path):
    dataset, _, old = run()
    ids = dataset.values("id")

    def works() -> None:
        assert dataset.load_brain_results(KEY) is old
        assert old.total_index_size == 20
        found = dataset.sort_by_similarity(ids[5], k=1, brain_key=KEY)
        assert found.values("id") == [ids[5]]

    def fail(*_: Any, **__: Any) -> None:
        raise EngineError("not now")

    with monkeypatch.context() as context:
        context.setattr(runs, "rewrite", fail)
        with pytest.raises(EngineError, match="not now"):
            moving.adopt(dataset, KEY)
    works()
    moving.export_index(dataset, KEY, tmp_path / "out.parquet")
    works()
    moving.migrate(dataset, KEY, "moved", uri=str(tmp_path / "other.db"))
    works()
    assert moving.adopt(dataset, KEY).vectors == 20
    assert dataset.load_brain_results("moved").total_index_size == 20
    embedded.stop(tmp_path / "other.db")


@pytest.mark.parametrize("engine", ["server"], indirect=True)
def test_a_collection_that_has_no_vector_index(run, engine):
    dataset, _, old = run()
    name = old.config.collection_name
    client = MilvusSimilarityConfig(**engine.kwargs).connect().client
    client.release_collection(name)
    for index in client.list_indexes(name):
        client.drop_index(name, index)
    assert moving.adopt(dataset, KEY).vectors == 20
    assert dataset.load_brain_results(KEY).total_index_size == 20


@quick
def test_where_a_run_is_that_was_adopted_before(run, engine, tmp_path):
    dataset, _, _ = run()
    moving.adopt(dataset, KEY)
    dataset.clear_cache()
    before = stored(dataset)
    for call in (moving.adopt, moving.revert):
        with pytest.raises(InvalidInputError, match="'urii'") as error:
            call(dataset, KEY, urii="x")
        one_line(error.value)
        with pytest.raises(FiftyOneMilvusError, match=r"127\.0\.0\.1:1"):
            call(dataset, KEY, uri="http://127.0.0.1:1")
    with pytest.raises(CollectionNotFoundError) as error:
        moving.adopt(dataset, KEY, uri=str(tmp_path / "other.db"))
    one_line(error.value)
    embedded.stop(tmp_path / "other.db")
    assert stored(dataset) == before
    assert moving.adopt(dataset, KEY, **engine.kwargs).vectors == 20
    assert dataset.load_brain_results(KEY).total_index_size == 20


@quick
def test_a_run_whose_results_were_never_stored(run, engine):
    dataset, _, _ = run()
    moved = runs.document(dataset, KEY)
    moved.results.delete()
    moved.save()
    dataset.clear_cache()
    assert dataset.load_brain_results(KEY) is None
    moving.adopt(dataset, KEY, **engine.kwargs)
    dataset.clear_cache()
    assert dataset.load_brain_results(KEY, **engine.kwargs).total_index_size == 20


@quick
def test_what_can_not_be_adopted(run, engine, datasets):
    dataset, _, old = run()
    name = old.config.collection_name
    before = stored(dataset)

    def refused(kind: type[Exception], match: str, **credentials: Any) -> None:
        with pytest.raises(kind, match=match) as error:
            moving.adopt(dataset, KEY, **credentials)
        one_line(error.value)
        assert stored(dataset) == before

    refused(FiftyOneMilvusError, "127.0.0.1:1", uri="http://127.0.0.1:1")
    refused(InvalidInputError, "'urii'", urii="x")
    with pytest.raises(InvalidInputError, match="no brain run 'nope'"):
        moving.adopt(dataset, "nope")

    dataset.set_values("vector", [np.ones(3)] * 20)
    refused(CollectionMismatchError, "16 dimensions.*have 3")
    dataset.set_values("vector", [np.ones(16)] * 20)
    collection = foo.get_db_conn().runs
    collection.update_one({"_id": before["_id"]}, {"$set": {"config.metric": "euclidean"}})
    dataset.reload()
    before = stored(dataset)
    refused(CollectionMismatchError, "'cosine', but the run 'sim' records 'euclidean'")
    builtin.close_directory(engine.kwargs["uri"])
    connection = MilvusSimilarityConfig(**engine.kwargs).connect()
    connection.run(lambda client: client.rename_collection(name, f"{name}_away"))
    refused(CollectionNotFoundError, name)
    connection.run(lambda client: client.rename_collection(f"{name}_away", name))

    # What another process did to the run since this one has read it
    collection.update_one({"_id": before["_id"]}, {"$set": {"config.metric": "cosine"}})
    dataset.reload()
    assert moving.adoptable(dataset) == [KEY]
    collection.update_one({"_id": before["_id"]}, {"$set": {"config.cls": "other.Config"}})
    before, count = stored(dataset), files()
    refused(InvalidInputError, "changed by another process")
    assert files() == count

    fob.compute_similarity(dataset, embeddings=vectors(20), brain_key="plain", backend="sklearn")
    with pytest.raises(InvalidInputError, match=r"migrate\(\)") as error:
        moving.adopt(dataset, "plain")
    one_line(error.value)


@quick
def test_a_collection_with_rows_of_others_is_not_claimed(run, engine, datasets, caplog):
    name = unique("given")
    dataset, _, _ = run(collection_name=name)
    dataset.delete_samples(dataset.limit(2))
    done = moving.adopt(dataset, KEY)
    assert (done.owned, done.stale) == (False, 2)
    assert "2 of its vectors are of no sample" in caplog.text
    report = dataset.load_brain_results(KEY).sync()
    assert (report.removed, report.kept) == (0, 2)

    second = datasets(3)
    built_in(engine, second, collection_name=name)
    done = moving.adopt(second, KEY)
    assert (done.owned, done.missing) == (False, 3)
    assert "runs of other datasets use it" in caplog.text


@quick
def test_another_process_holds_the_directory(engine, run):
    dataset, _, _ = run()
    builtin.close_directory(engine.kwargs["uri"])
    code = """
import sys
from milvus_lite.server_manager import server_manager_instance as manager
assert manager.start_and_get_uri(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", code, engine.kwargs["uri"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(EmbeddedServiceError, match="close the other Python sessions") as error:
            moving.adopt(dataset, KEY)
        one_line(error.value)
        assert moving.adoptable(dataset) == [KEY]
    finally:
        holder.communicate("")
    assert moving.adopt(dataset, KEY).vectors == 20


@pytest.mark.parametrize("engine", ["server"], indirect=True)
def test_what_the_built_in_can_not_use_is_not_given_to_it(engine, dropped, tmp_path):
    indexed = index_images(engine, 6, "cosine", fields=["number"], index_type="FLAT")
    dropped.append(indexed)
    before = stored(indexed.dataset)
    with pytest.raises(CollectionMismatchError, match="metadata fields") as error:
        moving.revert(indexed.dataset, KEY)
    one_line(error.value)
    assert stored(indexed.dataset) == before
    # Where it is not, nothing says that the built-in could use it
    with pytest.raises(CollectionNotFoundError, match="has fields, which the built-in") as error:
        moving.revert(indexed.dataset, KEY, uri=str(tmp_path / "other.db"))
    one_line(error.value)
    embedded.stop(tmp_path / "other.db")
    assert stored(indexed.dataset) == before


@pytest.mark.parametrize("engine", ["server"], indirect=True)
def test_what_the_built_in_has_no_parameter_for_is_dropped(engine, dropped):
    indexed = index_images(engine, 6, "cosine", index_type="FLAT", timeout=30)
    dropped.append(indexed)
    done = moving.revert(indexed.dataset, KEY)
    assert done.dropped == ("deployment", "index_type", "timeout")
    back = indexed.dataset.load_brain_results(KEY, **engine.kwargs)
    assert type(back).__module__.startswith("fiftyone.brain.")
    found = indexed.dataset.sort_by_similarity(indexed.ids[2], k=1, brain_key=KEY)
    assert found.values("id") == [indexed.ids[2]]
