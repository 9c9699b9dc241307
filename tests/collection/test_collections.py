"""Milvus collections: given ones, foreign ones, whose they are, and the SDK that users share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from fiftyone import ViewField as F
from pymilvus import DataType, MilvusClient, MilvusException

from fiftyone_milvus.search import ids as lookup
from tests.support import oracle
from tests.support.indexes import (
    DIM,
    KEY,
    Indexed,
    collections,
    image_dataset,
    index_images,
    index_patches,
    one_line,
    unique,
    vectors,
)

METRICS = {"cosine": "COSINE", "dotproduct": "IP", "euclidean": "L2"}


@pytest.fixture(scope="module")
def client(engine: Any) -> Iterator[MilvusClient]:
    """The engine's client, got through an index, as users get it."""
    indexed = index_images(engine, 3, "cosine")
    yield indexed.index.client
    indexed.drop()


Build = Callable[..., str]


@pytest.fixture
def foreign(client: MilvusClient) -> Iterator[Build]:
    """Makes collections as other programs do, with the bare client."""
    made: list[str] = []

    def build(
        ids: list[str],
        data: np.ndarray,
        *,
        metric: str = "IP",
        key: str = "pk",
        vector: str = "vector",
        extra: dict[str, Any] | None = None,
        more_vectors: tuple[str, ...] = (),
        with_sample_id: bool = True,
        int_key: bool = False,
    ) -> str:
        name = unique("foreign")
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        if int_key:
            schema.add_field(key, DataType.INT64, is_primary=True)
        else:
            schema.add_field(key, DataType.VARCHAR, is_primary=True, max_length=64000)
        schema.add_field(vector, DataType.FLOAT_VECTOR, dim=data.shape[1])
        for other in more_vectors:
            schema.add_field(other, DataType.FLOAT_VECTOR, dim=data.shape[1])
        if with_sample_id:
            schema.add_field("sample_id", DataType.VARCHAR, max_length=64000)
        for field in extra or {}:
            schema.add_field(field, DataType.VARCHAR, max_length=100)
        params = client.prepare_index_params()
        for field in (vector, *more_vectors):
            params.add_index(
                field,
                index_type="HNSW",
                metric_type=metric,
                params={"M": 8, "efConstruction": 64},
            )
        client.create_collection(name, schema=schema, index_params=params)
        made.append(name)
        rows = []
        for i, (_id, row) in enumerate(zip(ids, data, strict=True)):
            entry: dict[str, Any] = {key: i if int_key else _id, vector: row}
            entry.update(dict.fromkeys(more_vectors, row))
            if with_sample_id:
                entry["sample_id"] = _id
            entry.update(extra or {})
            rows.append(entry)
        client.insert(name, rows)
        return name

    yield build
    for name in made:
        client.drop_collection(name)


def connect(engine: Any, dataset: fo.Dataset, collection: str, **kwargs: Any) -> Any:
    """Makes a run on a collection that is there already."""
    kwargs = {"metric": "dotproduct", "brain_key": KEY, **kwargs}
    return fob.compute_similarity(
        dataset,
        embeddings=False,
        collection_name=collection,
        backend="milvus",
        **engine.kwargs,
        **kwargs,
    )


# -- given collections --------------------------------------------------------------------------


def test_a_new_collection_of_a_given_name(engine, datasets, dropped):
    name = unique("given")
    dataset = datasets(8)
    index = fob.compute_similarity(
        dataset,
        embeddings=vectors(8),
        brain_key=KEY,
        backend="milvus",
        collection_name=name,
        **engine.kwargs,
    )
    dropped.append(Indexed(dataset, index, "dotproduct", {}, {}))
    assert index.config.collection_name == name
    assert name in collections(index)
    assert dataset.get_brain_info(KEY).config.collection_name == name


def test_the_layout_is_the_documented_one(engine, dropped):
    """``pk``, ``vector``, ``sample_id``: what other programs rely on."""
    indexed = index_patches(engine, 8, "cosine")
    dropped.append(indexed)
    client, name = indexed.index.client, indexed.index.config.collection_name
    fields = {f["name"]: f for f in client.describe_collection(name)["fields"]}
    assert set(fields) == {"pk", "vector", "sample_id"}
    assert fields["pk"]["is_primary"]
    assert fields["pk"]["type"] == fields["sample_id"]["type"] == DataType.VARCHAR
    assert fields["vector"]["type"] == DataType.FLOAT_VECTOR
    rows = client.query(
        name,
        filter=f'pk == "{indexed.ids[0]}"',
        output_fields=["pk", "sample_id", "vector"],
        consistency_level="Strong",
    )
    assert rows[0]["sample_id"] == indexed.samples[indexed.ids[0]]
    np.testing.assert_array_equal(
        np.asarray(rows[0]["vector"], dtype=np.float32), indexed.vectors[indexed.ids[0]]
    )


@pytest.mark.parametrize("metric", METRICS)
def test_milvus_gets_the_metric_that_was_asked_for(engine, metric, dropped):
    indexed = index_images(engine, 4, metric)
    dropped.append(indexed)
    client, name = indexed.index.client, indexed.index.config.collection_name
    described = client.describe_index(name, client.list_indexes(name)[0])
    assert described["metric_type"] == METRICS[metric]


def test_a_second_run_on_a_collection_of_ours(engine, dropped):
    indexed = index_images(engine, 20, "dotproduct")
    dropped.append(indexed)
    name = indexed.index.config.collection_name
    second = connect(engine, indexed.dataset, name, brain_key="second")
    assert second.total_index_size == 20
    got = indexed.dataset.sort_by_similarity(indexed.ids[0], k=5, brain_key="second")
    oracle.check_ranking(got.values("id"), indexed.true(indexed.ids[0]), 5)
    indexed.dataset.delete_brain_run("second")


def test_a_collection_of_the_builtin_backend(engine, datasets, foreign):
    """Its layout, made with bare pymilvus; more can be added to it and removed again."""
    dataset = datasets(30)
    ids, data = dataset.values("id"), vectors(30)
    name = foreign(ids[:25], data[:25])
    index = connect(engine, dataset, name)
    indexed = Indexed(dataset, index, "dotproduct", dict(zip(ids[:25], data[:25], strict=True)), {})
    assert index.total_index_size == 25
    assert sorted(index.sample_ids) == sorted(ids[:25])
    view = dataset.sort_by_similarity(ids[3], k=10, brain_key=KEY, dist_field="dist")
    got, dists = view.values(["id", "dist"])
    oracle.check_ranking(got, indexed.true(ids[3]), 10, reported=dists)
    index.add_to_index(data[25:], np.array(ids[25:]))
    index.remove_from_index(sample_ids=ids[:2])
    assert index.total_index_size == 28
    embeddings, _, _ = index.get_embeddings(sample_ids=[ids[29], ids[4]])
    np.testing.assert_array_equal(embeddings, data[[29, 4]])


def test_a_patch_collection_of_the_builtin_backend(engine, foreign):
    indexed = index_patches(engine, 12, "dotproduct")
    try:
        client, ids = indexed.index.client, indexed.ids
        name = foreign(ids, indexed.matrix())
        client.upsert(
            name,
            [{"pk": i, "vector": indexed.vectors[i], "sample_id": indexed.samples[i]} for i in ids],
        )
        index = connect(
            engine, indexed.dataset, name, patches_field="ground_truth", brain_key="old"
        )
        assert dict(zip(index.label_ids, index.sample_ids, strict=True)) == indexed.samples
        view = indexed.dataset.to_patches("ground_truth")
        got = view.sort_by_similarity(ids[2], k=6, brain_key="old").values("id")
        oracle.check_ranking(got, indexed.true(ids[2]), 6)
    finally:
        indexed.drop()


@pytest.mark.parametrize("named", [False, True], ids=["found", "named"])
def test_any_other_layout(engine, datasets, foreign, named):
    """A VARCHAR key and one float vector, whatever they are called."""
    dataset = datasets(20)
    ids, data = dataset.values("id"), vectors(20)
    name = foreign(ids, data, metric="COSINE", key="uid", vector="embedding", with_sample_id=False)
    fields = {"id_field": "uid", "vector_field": "embedding"} if named else {}
    index = connect(engine, dataset, name, metric="cosine", **fields)
    indexed = Indexed(dataset, index, "cosine", dict(zip(ids, data, strict=True)), {})
    assert index.total_index_size == 20
    assert sorted(index.sample_ids) == sorted(ids)
    got = dataset.sort_by_similarity(ids[7], k=6, brain_key=KEY).values("id")
    oracle.check_ranking(got, indexed.true(ids[7]), 6)
    got = dataset.skip(10).sort_by_similarity(ids[7], k=6, brain_key=KEY).values("id")
    oracle.check_ranking(got, indexed.true(ids[7], among=ids[10:]), 6)
    embeddings, _, _ = index.get_embeddings(sample_ids=[ids[5], ids[1]])
    np.testing.assert_array_equal(embeddings, data[[5, 1]])


def test_patches_without_their_samples(engine, foreign, monkeypatch):
    """Where a collection holds label IDs only, the dataset knows whose they are."""
    indexed = index_patches(engine, 12, "dotproduct")
    try:
        ids = indexed.ids
        name = foreign(ids, indexed.matrix(), key="label", vector="emb", with_sample_id=False)
        index = connect(
            engine, indexed.dataset, name, patches_field="ground_truth", brain_key="bare"
        )
        assert dict(zip(index.label_ids, index.sample_ids, strict=True)) == indexed.samples
        with monkeypatch.context() as patch:
            # It is asked whose the results are, and no more
            patch.setattr(lookup, "ViewScope", None)
            samples, labels = index._kneighbors(query=ids[0], k=5)
            assert index._lookup.with_samples([*ids[:2], "foreign"], [""] * 3)[1] == [
                *(indexed.samples[_id] for _id in ids[:2]),
                "foreign",
            ]
        oracle.check_ranking(labels, indexed.true(ids[0]), 5)
        assert samples == [indexed.samples[_id] for _id in labels]
        part = indexed.dataset.match(F("number") < 8)
        inside = part.values("ground_truth.detections.id", unwind=True)
        got = part.sort_by_similarity(ids[-1], k=4, brain_key="bare")
        found = got.values("ground_truth.detections.id", unwind=True)
        assert len(found) == 4
        assert oracle.recall(found, indexed.true(ids[-1], among=inside), 4) == 1.0
        gone = indexed.samples[ids[0]]
        index.remove_from_index(sample_ids=[gone])
        assert gone not in index.sample_ids
    finally:
        indexed.drop()


def test_two_vectors_are_ambiguous(engine, datasets, foreign):
    dataset = datasets(10)
    ids, data = dataset.values("id"), vectors(10)
    if engine.name == "server":
        # Milvus 2.3.5 has no such collections; this fails once the tests' server has.
        with pytest.raises(MilvusException, match="multiple vector fields"):
            foreign(ids, data, vector="first", more_vectors=("second",))
        return
    name = foreign(ids, data, vector="first", more_vectors=("second",))
    with pytest.raises(ValueError, match="vector_field") as error:
        connect(engine, dataset, name)
    message = one_line(error.value)
    assert "first" in message
    assert "second" in message
    assert dataset.list_brain_runs() == []
    index = connect(engine, dataset, name, vector_field="second")
    assert index.total_index_size == 10
    assert len(dataset.sort_by_similarity(ids[0], k=4, brain_key=KEY)) == 4


def test_fields_that_do_not_exist_are_named(engine, datasets, foreign):
    dataset = datasets(5)
    name = foreign(dataset.values("id"), vectors(5))
    for field in ("id_field", "vector_field"):
        with pytest.raises(ValueError, match="nonsense") as error:
            connect(engine, dataset, name, **{field: "nonsense"})
        one_line(error.value)
        assert dataset.list_brain_runs() == []


def test_an_integer_key_is_refused(engine, datasets, foreign):
    dataset = datasets(5)
    name = foreign(dataset.values("id"), vectors(5), int_key=True, with_sample_id=False)
    with pytest.raises(ValueError, match="VARCHAR") as error:
        connect(engine, dataset, name)
    assert name in one_line(error.value)
    assert dataset.list_brain_runs() == []


def test_a_metric_that_differs_is_refused(engine, datasets, foreign):
    dataset = datasets(10)
    name = foreign(dataset.values("id"), vectors(10), metric="L2")
    with pytest.raises(ValueError, match=r"euclidean|L2") as error:
        connect(engine, dataset, name, metric="cosine")
    message = one_line(error.value)
    assert "cosine" in message.lower()
    assert dataset.list_brain_runs() == []
    index = connect(engine, dataset, name, metric="euclidean")
    assert index.total_index_size == 10


def test_a_dimension_that_differs_is_refused(engine, datasets, foreign):
    """Nothing is written, and no run is left that could not be used."""
    dataset = datasets(10)
    name = foreign(dataset.values("id"), vectors(10))
    with pytest.raises(ValueError, match=str(DIM)) as error:
        fob.compute_similarity(
            dataset,
            embeddings=vectors(10, 2 * DIM),
            brain_key=KEY,
            backend="milvus",
            collection_name=name,
            metric="dotproduct",
            **engine.kwargs,
        )
    assert str(2 * DIM) in one_line(error.value)
    assert dataset.list_brain_runs() == []
    index = connect(engine, dataset, name)
    assert index.total_index_size == 10


def test_an_impossible_name_is_refused(engine, datasets):
    dataset = datasets(5)
    for name in ("not a name!", "1st", "", "x" * 256):
        with pytest.raises(ValueError, match="collection") as error:
            fob.compute_similarity(
                dataset,
                embeddings=vectors(5),
                brain_key=KEY,
                backend="milvus",
                collection_name=name,
                **engine.kwargs,
            )
        one_line(error.value)
        assert dataset.list_brain_runs() == []


# -- whose a collection is ----------------------------------------------------------------------


def _owner(index: Any) -> str:
    """Returns all that the collection's properties say, as one text."""
    described = index.client.describe_collection(index.config.collection_name)
    return str(described.get("properties"))


def test_a_collection_says_who_owns_it(engine, dropped):
    images = index_images(engine, 4, "cosine")
    dropped.append(images)
    assert images.dataset.name in _owner(images.index)
    assert KEY in _owner(images.index)
    patches = index_patches(engine, 8, "cosine")
    dropped.append(patches)
    assert "ground_truth" in _owner(patches.index)
    assert patches.dataset.name in _owner(patches.index)


def test_renaming_a_run_keeps_it_working(engine, dropped):
    indexed = index_images(engine, 10, "cosine")
    dropped.append(indexed)
    dataset = indexed.dataset
    dataset.rename_brain_run(KEY, "renamed_run")
    assert dataset.list_brain_runs() == ["renamed_run"]
    view = dataset.sort_by_similarity(indexed.ids[0], k=4, brain_key="renamed_run")
    oracle.check_ranking(view.values("id"), indexed.true(indexed.ids[0]), 4)
    index = dataset.load_brain_results("renamed_run", cache=False, **engine.kwargs)
    assert index.total_index_size == 10
    assert "renamed_run" in _owner(index)


def test_a_name_with_quotes_is_recorded(engine, dropped):
    dataset = image_dataset(3, f'it\'s "mine" {unique("q")}')
    indexed = index_images(engine, 3, "cosine", dataset=dataset)
    dropped.append(indexed)
    assert "mine" in _owner(indexed.index)


# -- cleaning up --------------------------------------------------------------------------------


def test_cleanup_twice_and_life_afterwards(engine, datasets):
    dataset = datasets(12)
    indexed = index_images(engine, 12, "cosine", dataset=dataset)
    index, name = indexed.index, indexed.index.config.collection_name
    assert name in collections(index)
    index.cleanup()
    assert name not in collections(index)
    assert index.total_index_size == 0
    index.cleanup()
    index.add_to_index(indexed.matrix(), np.array(indexed.ids))
    assert index.total_index_size == 12
    got = dataset.sort_by_similarity(indexed.ids[0], k=4, brain_key=KEY).values("id")
    oracle.check_ranking(got, indexed.true(indexed.ids[0]), 4)
    index.cleanup()
    dataset.delete_brain_run(KEY)
    assert dataset.list_brain_runs() == []


def test_deleting_a_run_keeps_its_collection(engine, datasets):
    """As FiftyOne documents it; cleanup() deletes the collection."""
    indexed = index_images(engine, 4, "cosine", dataset=datasets(4))
    indexed.dataset.delete_brain_run(KEY)
    assert indexed.index.config.collection_name in collections(indexed.index)
    indexed.index.cleanup()


# -- the SDK of users ----------------------------------------------------------------------------


def test_the_client_is_the_current_one(cosine_images):
    client = cosine_images.index.client
    assert isinstance(client, MilvusClient)
    name = cosine_images.index.config.collection_name
    assert name in client.list_collections()
    rows = client.query(name, filter="", output_fields=["count(*)"], consistency_level="Strong")
    assert rows[0]["count(*)"] == len(cosine_images.ids)


def test_the_collection_is_the_orm_object(cosine_images):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collection = cosine_images.index.collection
        assert type(collection).__name__ == "Collection"
        assert collection.name == cosine_images.index.config.collection_name
        assert [f.name for f in collection.schema.fields] == ["pk", "vector", "sample_id"]
        found = collection.search(
            [cosine_images.vectors[cosine_images.ids[0]].tolist()],
            "vector",
            {"metric_type": "COSINE"},
            limit=3,
            output_fields=["pk"],
        )
        assert cosine_images.ids[0] in list(found[0].ids)
