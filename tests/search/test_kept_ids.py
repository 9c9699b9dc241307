"""The IDs of a view are used again while nothing has changed, and never after a change."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from bson import ObjectId
from fiftyone import ViewField as F
from pymongo import DeleteOne, UpdateOne
from pymongo.errors import PyMongoError

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.dataset import evidence, kept_ids, repeatable
from fiftyone_milvus.dataset.kept_ids import KEPT, KeptIds, ViewIds
from fiftyone_milvus.dataset.object_ids import from_strings
from fiftyone_milvus.embedded.markers import SAME
from fiftyone_milvus.search import exact
from fiftyone_milvus.search.views import source_of
from tests.support import oracle
from tests.support.indexes import KEY, Indexed, index_images, index_patches, python, vectors

COUNT, K = 400, 30


@pytest.fixture(scope="module")
def one(engine: Any) -> Iterator[Indexed]:
    indexed = index_images(engine, COUNT, "cosine")
    indexed.dataset.set_values("tags", [["new"] if i % 9 == 0 else [] for i in range(COUNT)])
    yield indexed
    indexed.drop()


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    KEPT.clear()
    # However busy the machine is
    monkeypatch.setattr(kept_ids, "_CHEAP", 60)


def check(indexed: Indexed, view: Any) -> list[str]:
    """A search in the view finds what is nearest in it now; returns the IDs of the view."""
    inside = view.values("id")
    query = indexed.vectors[indexed.ids[7]]
    found = view.sort_by_similarity(query, k=K, brain_key=KEY).values("id")
    oracle.check_ranking(found, indexed.true(query[np.newaxis], among=inside), K)
    return inside


def is_kept(indexed: Indexed, view: Any) -> bool:
    """Whether the next search in the view uses its IDs again."""
    return indexed.index._view_scope(view).known


def keep(indexed: Indexed, view: Any) -> list[str]:
    """Reads the IDs of a view, which are kept then."""
    ids = indexed.index._view_scope(view).ids()
    assert sorted(ids) == sorted(view.values("id"))
    assert is_kept(indexed, view)
    assert indexed.index._view_scope(view).ids() == ids
    return ids


def few(indexed: Indexed) -> Any:
    return indexed.dataset.match(F("number") < 40)


def _slow_update(samples: Any) -> None:
    """Changes some of the samples, until it is interrupted."""
    slow = {"$function": {"body": "function() { sleep(3); return 5 }", "args": [], "lang": "js"}}
    updates = [{"q": {}, "u": [{"$set": {"number": slow}}], "multi": True}]
    with pytest.raises(PyMongoError, match="exceeded"):
        samples.database.command("update", samples.name, updates=updates, maxTimeMS=300)


def _apply(samples: Any, document: ObjectId) -> None:
    operation = {"op": "d", "ns": samples.full_name, "o": {"_id": document}}
    samples.database.client.admin.command({"applyOps": [operation]})


CHANGES: dict[str, Callable[[Any, Any, ObjectId, ObjectId], object]] = {
    "set_values": lambda d, s, i, o: d.select([str(o)]).set_values("number", [3]),
    "sample": lambda d, s, i, o: _saved(d[str(o)]),
    "delete_samples": lambda d, s, i, o: d.delete_samples([str(i)]),
    "set_field": lambda d, s, i, o: d.select([str(o)]).set_field("number", 1).save("number"),
    "update_one": lambda d, s, i, o: s.update_one({"_id": o}, {"$set": {"number": 2}}),
    "update_many": lambda d, s, i, o: s.update_many({"_id": i}, {"$inc": {"number": 500}}),
    "replace_one": lambda d, s, i, o: s.replace_one({"_id": i}, {"number": 900}),
    "delete_one": lambda d, s, i, o: s.delete_one({"_id": i}),
    "find_one_and_update": lambda d, s, i, o: s.find_one_and_update(
        {"_id": o}, {"$set": {"number": 4}}
    ),
    "find_one_and_delete": lambda d, s, i, o: s.find_one_and_delete({"_id": i}),
    "bulk_write": lambda d, s, i, o: s.bulk_write(
        [UpdateOne({"_id": o}, {"$set": {"number": 6}}), DeleteOne({"_id": i})]
    ),
    "merge": lambda d, s, i, o: s.aggregate(
        [{"$match": {"_id": o}}, {"$set": {"number": 7}}, {"$merge": s.name}]
    ),
    "out": lambda d, s, i, o: s.aggregate([{"$match": {"_id": {"$ne": i}}}, {"$out": s.name}]),
    "applyOps": lambda d, s, i, o: _apply(s, i),
    "interrupted": lambda d, s, i, o: _slow_update(s),
    "another process": lambda d, s, i, o: python(
        """
        import sys
        import fiftyone as fo
        from bson import ObjectId
        samples = fo.load_dataset(sys.argv[1])._sample_collection
        samples.update_one({"_id": ObjectId(sys.argv[2])}, {"$set": {"number": 8}})
        samples.delete_one({"_id": ObjectId(sys.argv[3])})
        """,
        d.name,
        str(o),
        str(i),
    ),
}
"""Changes of which samples have a number below 40: of a dataset, its collection, the ID of a sample
inside and of one outside."""


def _saved(sample: Any) -> None:
    sample["number"] = 9
    sample.save()


@pytest.mark.parametrize("how", CHANGES)
def test_no_change_is_missed(one, how):
    view = few(one)
    before = check(one, view)
    keep(one, view)
    assert check(one, view) == before
    assert is_kept(one, view), "reading counted as a change"
    samples = one.dataset._sample_collection
    outside = [i for i in one.dataset.values("id") if i not in before]
    CHANGES[how](one.dataset, samples, ObjectId(before[3]), ObjectId(outside[-1]))
    assert not is_kept(one, view)
    one.dataset.reload()
    assert sorted(check(one, view)) != sorted(before)
    keep(one, view)
    check(one, view)


def test_the_view_of_an_index_that_is_searched_again(one):
    view = few(one)
    query = one.vectors[one.ids[7]]
    with one.index.use_view(view):
        one.index.search(query, k=COUNT)
        removed = one.index.search(query, k=5).ids[0]
        one.dataset._sample_collection.delete_one({"_id": ObjectId(removed)})
        found = one.index.search(query, k=K).ids
    oracle.check_ranking(found, one.true(query[np.newaxis], among=view.values("id")), K)


def test_the_ids_of_a_wide_view_are_read_when_that_pays(one):
    view = one.dataset.match(F("number") >= 100)
    check(one, view)
    assert not is_kept(one, view), "one wide search is faster than to read them"
    check(one, view)
    assert is_kept(one, view)
    check(one, view)


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_what_changes_while_it_is_read(one):
    view, samples = few(one), one.dataset._sample_collection
    source, kept = source_of(view, None), KeptIds()
    assert source is not None

    def ids() -> ViewIds:
        return ViewIds.of_samples(from_strings(view.values("id"))[0])

    def changed(*, first: bool) -> ViewIds:
        before = ids()
        samples.update_one({}, {"$inc": {"unused": 1}})
        return before if first else ids()

    for read, same in (
        (ids, True),
        (lambda: changed(first=True), False),
        (lambda: changed(first=False), False),
    ):
        assert kept.read(source.key, samples.database, source.collections, read)
        assert (kept.get(source.key, samples.database) is not None) == same


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        (lambda d: d.match(F("number") < 40), True),
        (lambda d: d.match_tags("new"), True),
        (lambda d: d.sort_by("number").match(F("number") < 40), True),
        (lambda d: d.limit(40), True),
        (lambda d: d[20:60], True),
        (lambda d: d.take(40), True),
        (lambda d: d.shuffle(seed=51).limit(40), True),
        (lambda d: d.limit(20).concat(d.skip(300)), True),
        (lambda d: d.match(F("number") < 100).limit(40), False),
        (lambda d: d.match(F("number") < 100).take(40), False),
        (lambda d: d.mongo([{"$sample": {"size": 40}}]), False),
        (lambda d: d.mongo([{"$match": {"$sampleRate": 0.5}}]), False),
        (lambda d: d.mongo([{"$match": {"$expr": {"$lt": [{"$rand": {}}, 0.5]}}}]), False),
        (lambda d: d.mongo([{"$match": {"$expr": {"$lt": ["$created_at", "$$NOW"]}}}]), False),
        (lambda d: d.group_by("number"), False),
    ],
)
def test_what_may_differ_each_time_is_not_kept(one, kind, kept):
    view = kind(one.dataset)
    source = source_of(view, None)
    assert (source is not None) == kept
    if kept:
        keep(one, view)
        check(one, view)
        check(one, view)
        one.dataset._sample_collection.delete_one({"_id": ObjectId(view.values("id")[0])})
        assert not is_kept(one, view)
        check(one, view)
    else:
        one.index._view_scope(view).ids()
        assert not is_kept(one, view)


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_views_that_differ_do_not_share_ids(one):
    views = [
        few(one),
        one.dataset.match(F("number") < 41),
        one.dataset.take(9),
        one.dataset.take(9),
    ]
    keys = {source_of(view, None).key for view in views}
    assert len(keys) == len(views)
    assert source_of(few(one), None).key == source_of(few(one), None).key


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_patches_and_the_other_indexes_of_a_dataset(engine, dropped):
    indexed = index_patches(engine, 24, "cosine")
    dropped.append(indexed)
    dataset = indexed.dataset
    labels = dataset.filter_labels("ground_truth", F("number") % 3 == 0)
    copied = dataset.to_patches("ground_truth").match(F("ground_truth.number") % 3 == 0)
    query = indexed.vectors[indexed.ids[0]]

    def right(view: Any, path: str) -> None:
        inside = [
            i for ids in view.values(path) for i in ([ids] if isinstance(ids, str) else ids or [])
        ]
        with indexed.index.use_view(view):
            found = indexed.index.search(query, k=9).ids
        oracle.check_ranking(found, indexed.true(query[np.newaxis], among=inside), 9)

    paths = {id(labels): "ground_truth.detections.id", id(copied): "id"}
    for view in (labels, copied):
        indexed.index._view_scope(view).ids()
        assert is_kept(indexed, view)
        right(view, paths[id(view)])
    # Another index of the same patches knows them, one of samples does not
    other = index_images(engine, 24, "cosine", dataset=dataset, brain_key="samples").index
    assert not other._view_scope(labels).known
    other.cleanup()

    patch = labels.values("ground_truth.detections.id", unwind=True)[0]
    sample = labels.values("id")[0]
    dataset._sample_collection.update_one(
        {"_id": ObjectId(sample)},
        {"$pull": {"ground_truth.detections": {"_id": ObjectId(patch)}}},
    )
    assert not is_kept(indexed, labels)
    assert is_kept(indexed, copied), "the copy has not changed"
    right(labels, paths[id(labels)])
    copied.set_field("ground_truth.number", F("number") + 1).save()
    assert not is_kept(indexed, copied)
    right(copied, "id")


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_frames_groups_and_other_collections(engine, dropped):
    dataset = fo.Dataset()
    samples = []
    for i in range(30):
        sample = fo.Sample(filepath=f"{i}.mp4")
        sample.frames[1] = fo.Frame(number=i)
        samples.append(sample)
    dataset.add_samples(samples)
    indexed = index_images(engine, 30, "cosine", dataset=dataset)
    dropped.append(indexed)
    view = dataset.match_frames(F("number") < 12).match(F("frames").length() > 0)
    keep(indexed, view)
    check(indexed, view)
    dataset._frame_collection.update_many({"number": 3}, {"$set": {"number": 99}})
    assert not is_kept(indexed, view)
    assert len(check(indexed, view)) == 11


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_a_long_list_is_sent_once(engine, dropped, monkeypatch):
    count = 1500
    indexed = index_images(engine, count, "euclidean")
    dropped.append(indexed)
    monkeypatch.setattr(exact, "_NAMED_FROM", 10)
    sent: list[str] = []
    search = MilvusCollection.search

    def spy(self: Any, *args: Any, expression: str = "", **kwargs: Any) -> Any:
        sent.append(expression)
        return search(self, *args, expression=expression, **kwargs)

    monkeypatch.setattr(MilvusCollection, "search", spy)
    view = indexed.dataset.match(F("number") >= 200)
    inside = view.values("id")
    query = vectors(1, seed=6)

    def ask() -> list[bool]:
        """Searches, and returns for each request whether it named the list."""
        sent.clear()
        scope = indexed.index._view_scope(view)
        (found,) = indexed.index._make_searcher("ids").nearest(query, K, scope)
        oracle.check_ranking(found.ids, indexed.true(query, among=inside), K)
        return [expression.startswith(SAME) for expression in sent]

    assert ask() == [False]
    assert ask() == [True]
    changed = inside[5]
    indexed.index.add_to_index(query.copy(), np.array([changed]))
    indexed.vectors[changed] = query[0]
    assert ask() == [True, False], "the rows are others now"
    assert ask() == [True]
    indexed.index.remove_from_index([changed])
    del indexed.vectors[changed]
    assert ask() == [True, False]


# -- without a proof ------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_samples_that_expire(one):
    view, samples = few(one), one.dataset._sample_collection
    keep(one, view)
    samples.create_index("expires", expireAfterSeconds=10)
    try:
        assert not is_kept(one, view)
        one.index._view_scope(view).ids()
        assert not is_kept(one, view)
        check(one, view)
    finally:
        samples.drop_index("expires_1")
    keep(one, view)


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
@pytest.mark.parametrize("refuses", ["hello", "top", "listCollections"])
def test_a_database_that_tells_nothing(one, refuses):
    """A real command that MongoDB refuses: its name is not known in this database's version."""
    view, samples = few(one), one.dataset._sample_collection

    class Database:
        client = property(lambda self: self)
        admin = property(lambda self: self)
        name = samples.database.name

        def command(self, name: str, **kwargs: Any) -> Any:
            real = samples.database if name == "listCollections" else samples.database.client.admin
            return real.command("unknown" if name == refuses else name, **kwargs)

    assert evidence.of(Database(), [samples.name]) is None
    assert evidence.of(samples.database, [samples.name]).holds(Database()) is False
    assert evidence.of(samples.database, [samples.name]).holds(samples.database)
    assert evidence.of(samples.database, ["no such collection"]) is None
    del view


# -- the IDs --------------------------------------------------------------------------------------


def test_memory_is_bounded(one):
    database, name = one.dataset._sample_collection.database, one.dataset._sample_collection.name
    ids = [
        ViewIds.of_samples(from_strings([str(ObjectId()) for _ in range(100)])[0]) for _ in "abc"
    ]
    kept = KeptIds(max_bytes=2 * ids[0].nbytes)
    for key, some in zip((b"a", b"b"), ids):
        kept.read(key, database, {name}, lambda some=some: some)
    assert kept.get(b"a", database) is ids[0]
    kept.read(b"c", database, {name}, lambda: ids[2])
    assert (len(kept), kept.nbytes) == (2, kept.max_bytes)
    assert kept.get(b"b", database) is None, "the least recently used goes first"
    assert kept.get(b"a", database) is ids[0]
    large = ViewIds.of_samples(from_strings([str(ObjectId()) for _ in range(300)])[0])
    kept.read(b"large", database, {name}, lambda: large)
    assert kept.get(b"large", database) is None
    assert len(kept) == 2


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_a_proof_that_takes_longer_than_to_read(one, monkeypatch):
    samples, kept = one.dataset._sample_collection, KeptIds()
    ids = ViewIds.of_samples(from_strings(one.ids)[0])
    monkeypatch.setattr(kept_ids, "_CHEAP", 0)
    monkeypatch.setattr(kept_ids, "perf_counter", itertools.count().__next__)

    def read(seconds: int) -> ViewIds:
        for _ in range(seconds):
            kept_ids.perf_counter()
        return ids

    # Each look at the clock takes a second, so a proof takes one
    assert not kept.read(b"fast", samples.database, {samples.name}, lambda: read(0))
    assert not kept.read(b"slow", samples.database, {samples.name}, lambda: read(9))
    assert kept.read(b"slow", samples.database, {samples.name}, lambda: read(9))
    assert len(kept) == 1


def test_explain_shows_it(one):
    view = few(one)
    keep(one, view)
    found = one.index.explain(one.ids[0], k=K, view=view)
    assert (found.kept_views, found.kept_bytes) == (1, KEPT.nbytes)
    assert "by the IDs of an earlier search" in str(found)
    assert "of 1 view, " in str(found)


@pytest.mark.parametrize("sort", [True, False])
def test_membership(sort):
    rng = np.random.default_rng(0)
    texts = [f"{int(n):024x}" for n in rng.integers(1 << 62, size=500)]
    texts += ["0" * 24, "f" * 24, "0" * 22 + "00", "ab" * 11 + "00"]
    texts = list(dict.fromkeys(texts))
    inside = sorted(texts[::2]) if sort else texts[::2]
    ids = ViewIds.of_samples(from_strings(inside + inside[:3])[0])
    assert len(ids) == len(inside)
    asked = [*texts, "no ID", "", "F" * 24]
    assert ids.contain(asked).tolist() == [i in set(inside) for i in asked]
    assert list(ids.as_dict()) == inside
    assert ids.nbytes <= 20 * len(ids)
    assert not ViewIds.of_samples(from_strings([])[0]).contain(asked).any()


def test_pipelines():
    lookup = {"$lookup": {"from": "frames", "pipeline": [{"$match": {}}], "as": "x"}}
    union = {"$unionWith": {"coll": "other", "pipeline": [lookup]}}
    assert repeatable.collections_of([]) == set()
    assert repeatable.collections_of([lookup, union]) == {"frames", "other"}
    for wrong in (
        [lookup, {"$limit": 3}],
        [{"$lookup": {"from": "f", "pipeline": [{"$match": {}}, {"$limit": 1}], "as": "x"}}],
        [{"$lookup": {"from": {"db": "d", "coll": "c"}, "pipeline": [], "as": "x"}}],
        [{"$group": {"_id": "$x"}}],
        [{"$out": "x"}],
        [{"$match": {"a": [1, {"$function": {}}]}}],
        [{"$match": {"$where": "true"}}],
        [{"$set": {"a": {"$cond": [True, "$$CLUSTER_TIME", datetime(2026, 1, 1)]}}}],
    ):
        assert repeatable.collections_of(wrong) is None
