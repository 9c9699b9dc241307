"""Rows and collections that other programs, clones of a dataset and processes use too."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

from fiftyone_milvus import inventory, search_everywhere
from fiftyone_milvus.collection import CollectionSpec, MilvusCollection
from fiftyone_milvus.connection import connect, resolve
from fiftyone_milvus.errors import (
    CollectionMismatchError,
    CollectionNotFoundError,
    DatabaseNotFoundError,
    FiftyOneMilvusError,
)
from fiftyone_milvus.writing import writer
from fiftyone_milvus.writing.validation import Batch
from tests.conftest import Engine
from tests.support import oracle
from tests.support.indexes import (
    DIM,
    KEY,
    Indexed,
    collections,
    image_dataset,
    index_images,
    one_line,
    unique,
    vectors,
)

KNOWN, NEW = 20, 5


@pytest.fixture(scope="module")
def client(engine: Any) -> Iterator[MilvusClient]:
    """The engine's client, got through an index, as users get it."""
    indexed = index_images(engine, 3, "cosine")
    yield indexed.index.client
    indexed.drop()


class Theirs:
    """A collection of another program, with rows for some samples, and an index on it."""

    def __init__(self, client: MilvusClient, engine: Any, **options: Any) -> None:
        self.client, self.name = client, unique("theirs")
        self.dataset = image_dataset(KNOWN + NEW)
        self.ids = self.dataset.values("id")
        self.vectors = dict(zip(self.ids, vectors(KNOWN + NEW), strict=True))
        self.metric = options.get("metric", "COSINE")
        self.make(**options)
        self.index = fob.compute_similarity(
            self.dataset,
            embeddings=False,
            collection_name=self.name,
            metric="cosine",
            brain_key=KEY,
            backend="milvus",
            **engine.kwargs,
        )

    def make(
        self,
        *,
        metric: str = "COSINE",
        fields: Callable[[Any], None] | None = None,
        dynamic: bool = False,
        values: Callable[[int], dict[str, Any]] = lambda i: {},
        partitions: tuple[str, ...] = (),
        strays: tuple[str, ...] = (),
    ) -> None:
        schema = self.client.create_schema(enable_dynamic_field=dynamic)
        schema.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
        if fields is not None:
            fields(schema)
        params = self.client.prepare_index_params()
        params.add_index("vector", index_type="FLAT", metric_type=metric)
        self.client.create_collection(self.name, schema=schema, index_params=params)
        for name in partitions:
            self.client.create_partition(self.name, name)
        rows = [
            {"pk": _id, "vector": self.vectors[_id], **values(i)}
            for i, _id in enumerate(self.ids[:KNOWN])
        ]
        for i, where in enumerate(partitions or (None,)):
            some = {} if where is None else {"partition_name": where}
            self.client.insert(self.name, rows[i :: max(1, len(partitions))], **some)
        if strays:
            # Near the first sample, so that every search meets them
            near = self.vectors[self.ids[0]]
            self.client.insert(
                self.name, [{"pk": key, "vector": near, **values(0)} for key in strays]
            )

    def rows(self, *fields: str, **where: Any) -> dict[str, dict[str, Any]]:
        found = self.client.query(
            self.name,
            filter='pk not in [""]',
            output_fields=["pk", *fields],
            consistency_level="Strong",
            **where,
        )
        return {row["pk"]: dict(row) for row in found}

    def count(self) -> int:
        (row,) = self.client.query(
            self.name, filter="", output_fields=["count(*)"], consistency_level="Strong"
        )
        return int(row["count(*)"])

    def write(self, ids: list[str], data: np.ndarray) -> None:
        self.index.add_to_index(data, ids)
        self.vectors.update(zip(ids, data, strict=True))

    def check(self, query: np.ndarray, k: int, ids: list[str]) -> None:
        found = self.index.search(query, k=k)
        matrix = np.stack([self.vectors[i] for i in ids])
        true = dict(zip(ids, oracle.distances("cosine", query, matrix)[0].tolist(), strict=True))
        oracle.check_ranking(found.sample_ids, true, k, reported=found.distances.tolist())


@pytest.fixture
def theirs(client: MilvusClient, engine: Any) -> Iterator[Callable[..., Theirs]]:
    made: list[Theirs] = []

    def make(**options: Any) -> Theirs:
        made.append(Theirs(client, engine, **options))
        return made[-1]

    yield make
    for one in made:
        client.drop_collection(one.name)
        one.dataset.delete()


# -- rows of other programs ---------------------------------------------------------------------


def test_a_row_stays_in_its_partition(theirs, engine):
    one = theirs(partitions=("old", "new"))
    before = {p: set(one.rows(partition_names=[p])) for p in ("old", "new")}
    asked = [*one.ids[:6], *one.ids[KNOWN:]]
    one.write(asked, -vectors(len(asked), seed=3))
    assert one.count() == KNOWN + NEW
    assert {p: set(one.rows(partition_names=[p])) for p in ("old", "new")} == before
    one.check(vectors(KNOWN)[0], 8, one.ids)
    if engine.name == "server":
        # One that somebody left in two partitions: a write leaves one
        row = {"pk": one.ids[0], "vector": one.vectors[one.ids[0]]}
        one.client.insert(one.name, [row], partition_name="new")
        assert one.count() == KNOWN + NEW + 1
        one.write(one.ids[:1], vectors(1, seed=4))
        assert one.count() == KNOWN + NEW
        one.check(one.vectors[one.ids[0]], 8, one.ids)
    one.index.remove_from_index(sample_ids=one.ids[:2])
    assert one.count() == KNOWN + NEW - 2


def test_a_write_keeps_the_fields_of_others(theirs, engine):
    def fields(schema: Any) -> None:
        schema.add_field("split", DataType.VARCHAR, max_length=9, default_value="train")
        if engine.name == "embedded":  # Milvus 2.3 has no nullable fields
            schema.add_field("score", DataType.DOUBLE, nullable=True)

    def values(i: int) -> dict[str, Any]:
        score = {"score": None if i % 3 else i / 2} if engine.name == "embedded" else {}
        return {"split": "val", "caption": f"cat {i}", "boxes": [i, {"a": 1}], **score}

    one = theirs(fields=fields, dynamic=True, values=values)
    names = ["split", "caption", "boxes"] + ["score"] * (engine.name == "embedded")
    before = one.rows(*names)
    assert before[one.ids[4]]["caption"] == "cat 4"
    asked = [*one.ids[:6], *one.ids[KNOWN:]]
    one.write(asked, vectors(len(asked), seed=3))
    # Also by sync(), which finds two rows missing
    one.index.remove_from_index(sample_ids=one.ids[KNOWN - 2 : KNOWN])
    one.index.sync(embeddings=np.stack([one.vectors[i] for i in one.ids]))
    after = one.rows(*names)
    kept = one.ids[: KNOWN - 2]
    assert {i: after[i] for i in kept} == {i: before[i] for i in kept}
    assert {after[i]["split"] for i in one.ids[KNOWN - 2 :]} == {"train"}
    one.check(one.vectors[one.ids[0]], 10, one.ids)


def test_our_own_rows_cost_one_request(engine, dropped, monkeypatch):
    indexed = index_images(engine, 6, "cosine")
    dropped.append(indexed)
    indexed.index.add_to_index(vectors(2), indexed.ids[:2])
    calls: list[str] = []
    for name in dir(MilvusClient):
        method = getattr(MilvusClient, name)
        if not name.startswith("_") and callable(method) and name != "has_collection":

            def told(self: Any, *args: Any, _name: str = name, _do: Any = method, **kw: Any) -> Any:
                calls.append(_name)
                return _do(self, *args, **kw)

            monkeypatch.setattr(MilvusClient, name, told)
    indexed.index.add_to_index(vectors(2), indexed.ids[:2])
    assert [c for c in calls if c not in ("get_load_state", "get_server_type")] == ["upsert"]


def test_keys_that_are_no_ids_are_skipped(theirs, caplog):
    strays = ("a.jpg", "b.jpg", "F" * 24, "ü" * 12)
    one = theirs(strays=strays)
    index, dataset, ids = one.index, one.dataset, one.ids[:KNOWN]
    near = one.vectors[ids[0]]
    with caplog.at_level(logging.WARNING, logger="fiftyone"):
        one.check(near, 3, ids)
        one.check(near, KNOWN, ids)
        one.check(near, KNOWN + 3, ids)
        found = index.search(near, max_distance=10.0)
        assert sorted(found.sample_ids) == sorted(ids)
        assert index.search(near, k=3, filter='pk != "x"').view().values("id")[0] == ids[0]
        assert index.search(near, k=2, reverse=True).sample_ids[0] in ids
    assert caplog.text.count("no IDs of FiftyOne") == 1
    assert re.search(r"\([1-4] of the \d+ that", caplog.text)
    for query in (ids[0], near, ids[:2]):
        assert len(dataset.sort_by_similarity(query, k=KNOWN, brain_key=KEY)) == KNOWN
    view = dataset[:8].sort_by_similarity(near, k=4, brain_key=KEY)
    assert len(view.values("id")) == 4
    assert sorted(index.sample_ids) == sorted(ids)
    assert sorted(index.get_embeddings()[1]) == sorted(ids)
    parts = [i for _, some, _ in index.iter_embeddings(7) for i in some]
    assert sorted(parts) == sorted(ids)
    index.find_unique(3)
    assert set(index.unique_ids) <= set(ids)
    index.find_duplicates(fraction=0.2)
    assert {*index.unique_ids, *index.duplicate_ids} == set(ids)
    assert index.evaluate(k=3, queries=5).recall == 1.0
    everywhere = search_everywhere(near, k=3, datasets=dataset.name)
    assert everywhere[0].sample_id == ids[0]
    report = index.sync(embeddings=np.stack([one.vectors[i] for i in one.ids]))
    assert (report.added, report.removed, report.foreign) == (NEW, 0, len(strays))
    assert "4 of other programs kept" in str(report)
    assert set(strays) <= set(one.rows())
    info = inventory.index_info(dataset, KEY)
    assert (info.missing, info.stale) == (0, 0)


# -- collections of several ---------------------------------------------------------------------


def test_a_clone_shares_the_collection(engine, datasets, dropped, caplog):
    dataset, data = datasets(10), vectors(14)
    index = fob.compute_similarity(
        dataset, embeddings=data[:10], brain_key=KEY, backend="milvus", **engine.kwargs
    )
    ids = dataset.values("id")
    clone = dataset.clone()
    clone.add_samples([fo.Sample(filepath=f"more-{i}.jpg") for i in range(4)])
    other = clone.load_brain_results(KEY, **engine.kwargs)
    other.add_to_index(data[10:], clone.values("id")[10:])
    truth = dict(zip(clone.values("id"), data, strict=True))

    dataset.delete_samples(ids[:3])
    with_more = inventory.index_info(dataset, KEY)
    assert (with_more.stale, with_more.in_step) == (0, True)
    report = index.sync(embeddings=data[3:10])
    assert (report.removed, report.shared) == (0, 7)
    assert "7 of other datasets kept" in str(report)
    other.reload()
    assert other.total_index_size == 14

    def check(which: fo.Dataset, k: int) -> None:
        for query in (data[0], data[12]):
            got = which.sort_by_similarity(query, k=k, brain_key=KEY).values("id")
            own = which.values("id")
            matrix = np.stack([truth[i] for i in own])
            distances = oracle.distances("dotproduct", query, matrix)[0].tolist()
            oracle.check_ranking(got, dict(zip(own, distances, strict=True)), k)

    check(dataset, 5)
    check(clone, 9)
    with caplog.at_level(logging.WARNING, logger="fiftyone"):
        other.cleanup()
    assert caplog.text.count("stays") == 1
    assert f"'{KEY}' of dataset '{dataset.name}'" in caplog.text
    clone.delete_brain_run(KEY)
    check(dataset, 5)
    # Nobody else uses it now
    report = index.sync(embeddings=data[3:10])
    assert (report.removed, report.shared) == (7, 0)
    name = index.config.collection_name
    index.cleanup()
    assert name not in collections(index)
    clone.delete()


def test_whoever_is_told_so_drops_it(engine, dropped):
    indexed = index_images(engine, 5, "cosine")
    dropped.append(indexed)
    name = indexed.index.config.collection_name
    second = fob.compute_similarity(
        indexed.dataset,
        embeddings=False,
        collection_name=name,
        metric="cosine",
        brain_key="second",
        backend="milvus",
        **engine.kwargs,
    )
    second.cleanup()
    assert name in collections(second)
    second.cleanup(force=True)
    assert name not in collections(second)


def test_an_alias_and_its_collection_stay(theirs, client, engine, caplog):
    one = theirs()
    alias = unique("alias")
    client.create_alias(one.name, alias)
    options = {"embeddings": False, "collection_name": alias, "backend": "milvus", **engine.kwargs}
    with pytest.raises(CollectionMismatchError, match="cosine"):
        fob.compute_similarity(one.dataset, metric="euclidean", brain_key="no", **options)
    index = fob.compute_similarity(one.dataset, metric="cosine", brain_key="by_alias", **options)
    assert index.total_index_size == KNOWN
    with caplog.at_level(logging.WARNING, logger="fiftyone"):
        index.cleanup(force=True)
    assert f"is an alias of '{one.name}'" in caplog.text
    assert one.count() == KNOWN
    # A run that names the alias uses the collection
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="fiftyone"):
        one.index.cleanup()
    assert "'by_alias'" in caplog.text
    assert one.count() == KNOWN
    (info,) = (c for c in inventory.collections(index.connection) if c.name == one.name)
    assert "'by_alias'" in info.why
    client.drop_alias(alias)


# -- changed behind our back --------------------------------------------------------------------


def test_a_dropped_index_is_built_again(engine, dropped, caplog):
    indexed = index_images(engine, 20, "cosine", index_type="HNSW", index_params={"M": 12})
    dropped.append(indexed)
    index, name = indexed.index, indexed.index.config.collection_name

    def drop() -> None:
        index.client.release_collection(name)
        index.client.drop_index(name, "vector")

    def check(one: Any) -> None:
        query = indexed.matrix()[3]
        found = one.search(query, k=5)
        oracle.check_ranking(found.sample_ids, indexed.true(query), 5)
        described = index.client.describe_index(name, "vector")
        assert (described["index_type"], described["metric_type"]) == ("HNSW", "COSINE")

    def fresh() -> Any:
        return indexed.dataset.load_brain_results(KEY, cache=False, **engine.kwargs)

    for again in (lambda: index, fresh):
        drop()
        one = again()
        with caplog.at_level(logging.WARNING, logger="fiftyone"):
            # The embedded engine also searches without it, by the metric that it is asked for
            if one is index and engine.name == "embedded":
                one.reload()
            check(one)
        assert "building it again" in caplog.text
        caplog.clear()
    drop()
    assert index.sync(embeddings=indexed.matrix()).unchanged == 20
    index.reload()
    check(index)


def make_again(client: MilvusClient, indexed: Indexed, metric: str) -> None:
    """What another program may do: the same rows, in a new collection without our properties."""
    name = indexed.index.config.collection_name
    client.drop_collection(name)
    schema = client.create_schema()
    schema.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("sample_id", DataType.VARCHAR, max_length=64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    params = client.prepare_index_params()
    params.add_index("vector", index_type="FLAT", metric_type=metric)
    client.create_collection(name, schema=schema, index_params=params)
    client.insert(
        name, [{"pk": i, "sample_id": i, "vector": v} for i, v in indexed.vectors.items()]
    )


def test_another_metric_is_an_error(engine, dropped):
    indexed = index_images(engine, 20, "dotproduct")
    dropped.append(indexed)
    index = indexed.index
    make_again(index.client, indexed, "L2")
    fresh = indexed.dataset.load_brain_results(KEY, cache=False, **engine.kwargs)
    query = indexed.matrix()[0]
    for call in (
        lambda: fresh.search(query, k=3),
        lambda: fresh.total_index_size,
        lambda: fresh.add_to_index(query[None], indexed.ids[:1]),
        lambda: fresh.sync(embeddings=indexed.matrix()),
        index.reload,
        lambda: index.search(query, k=3),
    ):
        with pytest.raises(CollectionMismatchError) as error:
            call()
        assert "'euclidean'" in one_line(error.value)
        assert "'dotproduct'" in str(error.value)
    info = inventory.index_info(indexed.dataset, KEY)
    assert "euclidean" in str(info.error)
    assert info.in_step is None


def test_a_renamed_collection_is_not_answered_from_memory(engine, dropped):
    indexed = index_images(engine, 10, "cosine")
    dropped.append(indexed)
    index, name = indexed.index, indexed.index.config.collection_name
    # Not index.client, which would wait until it is loaded
    client = index.connection.client
    client.rename_collection(name, f"{name}_renamed")
    for call in (
        lambda: index.search(indexed.matrix()[0], k=3),
        lambda: index.get_embeddings(),
        lambda: index.total_index_size,
        index.reload,
    ):
        with pytest.raises(CollectionNotFoundError) as error:
            call()
        one_line(error.value)
    client.drop_collection(f"{name}_renamed")


def test_a_removed_database_is_not_answered_from_memory(engine):
    name = unique("gone")
    client = connect(resolve(engine.settings, None)).client
    client.create_database(name)
    there = Engine(engine.name, {**engine.kwargs, "db_name": name})
    indexed = index_images(there, 10, "cosine")
    index = indexed.index
    dataset, query = indexed.dataset, indexed.matrix()[0]
    other = connect(resolve(there.settings, None)).client
    other.drop_collection(index.config.collection_name)
    client.drop_database(name)
    for call in (
        lambda: index.search(query, k=3),
        lambda: index.search(dataset.first().id, k=3),
        lambda: index.get_embeddings(),
        lambda: index.total_index_size,
        lambda: dataset.load_brain_results(KEY, cache=False, **there.kwargs).search(query),
        index.reload,
    ):
        with pytest.raises((DatabaseNotFoundError, CollectionNotFoundError)) as error:
            call()
        assert {name, index.config.collection_name} & {*re.findall(r"\w+", one_line(error.value))}
    dataset.delete()


def test_missing_metadata_fields_are_an_error_at_first_use(engine, dropped):
    """Another program made the collection again, without them."""
    indexed = index_images(engine, 10, "cosine", fields=["number"])
    dropped.append(indexed)
    client, dataset, name = (
        indexed.index.client,
        indexed.dataset,
        indexed.index.config.collection_name,
    )
    before = indexed.index._collection.where
    make_again(client, indexed, "COSINE")
    view, query = dataset.match(fo.ViewField("number") > 3), indexed.matrix()[0]

    def loaded() -> Any:
        return dataset.load_brain_results(KEY, cache=False, **engine.kwargs)

    for call in (
        lambda: loaded().search(query, k=3),
        lambda: loaded().use_view(view).search(query, k=3),
        lambda: loaded().sync_fields(),
        lambda: loaded().add_to_index(query[None], indexed.ids[:1]),
        indexed.index.reload,
    ):
        with pytest.raises(
            CollectionMismatchError, match="has no metadata field 'number'"
        ) as error:
            call()
        assert before in one_line(error.value)
    found = client.query(name, 'pk != ""', output_fields=["pk"], consistency_level="Strong")
    assert {row["pk"] for row in found} == {*indexed.ids}


def test_another_vector_is_not_emptied(engine, client, datasets):
    """Not every Milvus returns vectors as it takes them, so a write could not keep it."""
    if engine.name == "server":
        pytest.skip("Milvus 2.3 has one vector in a collection")
    name, dataset = unique("theirs"), datasets(3)
    schema = client.create_schema()
    schema.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("other", DataType.FLOAT_VECTOR, dim=2, nullable=True)
    params = client.prepare_index_params()
    params.add_index("vector", index_type="FLAT", metric_type="COSINE")
    client.create_collection(name, schema=schema, index_params=params)
    ids = dataset.values("id")
    before = {"pk": ids[0], "vector": [1.0] * DIM, "other": [3.0, 4.0]}
    client.insert(name, [before])
    options = {"backend": "milvus", "metric": "cosine", "collection_name": name, **engine.kwargs}
    with pytest.raises(CollectionMismatchError, match="several float vectors"):
        fob.compute_similarity(dataset, embeddings=False, **options)
    index = fob.compute_similarity(dataset, embeddings=False, vector_field="vector", **options)
    assert index.search(vectors(1)[0], k=3).sample_ids == ids[:1]
    for call in (
        lambda: index.add_to_index(vectors(3), ids),
        lambda: index.sync(embeddings=vectors(3)),
    ):
        with pytest.raises(FiftyOneMilvusError, match=r"requires the fields \['other'\]") as error:
            call()
        one_line(error.value)
    found = client.query(name, 'pk != ""', output_fields=["pk", "vector", "other"])
    assert [dict(row) for row in found] == [before]
    client.drop_collection(name)


# -- several processes --------------------------------------------------------------------------


def test_rows_of_one_that_joins_are_not_doubled(engine, dropped, monkeypatch):
    """One creates, another writes before the first has."""
    dataset, data = image_dataset(20), vectors(20)
    ids = dataset.values("id")
    options = {"embeddings": False, "brain_key": KEY, "backend": "milvus", **engine.kwargs}
    index = fob.compute_similarity(dataset, metric="cosine", **options)
    dropped.append(Indexed(dataset, index, "cosine", {}, {}))
    other = MilvusCollection(index.connection, index.config.collection_name)
    upload = writer.upload

    def late(collection: MilvusCollection, batch: Batch, **how: Any) -> None:
        upload(other, Batch(ids[:8], ids[:8], -data[:8]), replace=True)
        upload(collection, batch, **how)

    monkeypatch.setattr(writer, "upload", late)
    index.add_to_index(data, ids)
    assert other.count(strong=True) == 20
    rows = other.fetch(ids, strong=True)
    np.testing.assert_array_equal(rows.vectors, data)


def test_what_another_wrote_is_not_discarded(engine):
    """Also if it found the collection, and did not try to create it."""
    connection = connect(resolve(engine.settings, None))
    name = unique("joined")
    maker, other = MilvusCollection(connection, name), MilvusCollection(connection, name)
    assert maker.create(CollectionSpec(DIM, "COSINE", "FLAT", owner={"brain_key": KEY}))
    ids = image_dataset(3).values("id")
    is_mine = maker._is_mine

    def joined(*args: Any) -> bool:
        mine = is_mine(*args)
        if not args:  # between the first look and the drop
            upload = Batch(ids, ids, vectors(3))
            writer.upload(other, upload, replace=True)
        return mine

    maker._is_mine = joined  # type: ignore[method-assign]
    try:
        assert not maker.discard()
        assert other.count(strong=True) == 3
        assert not maker.discard()
    finally:
        other.drop()


def test_a_failed_creation_leaves_nothing(engine, datasets):
    dataset = datasets(4)

    def fail(*_: Any, **__: Any) -> None:
        raise FiftyOneMilvusError("no")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "upload", fail)
        with pytest.raises(FiftyOneMilvusError, match="no"):
            fob.compute_similarity(
                dataset,
                embeddings=vectors(4),
                brain_key=KEY,
                backend="milvus",
                collection_name="failed_creation",
                **engine.kwargs,
            )
    names = connect(resolve(engine.settings, None)).run(lambda c: c.list_collections())
    assert not [n for n in names if n.startswith("failed_creation")]
