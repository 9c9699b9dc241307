"""Whatever the planner does, the answer is that of brute force; and it does what is cheap."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from fiftyone import ViewField as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fiftyone_milvus.collection import MilvusCollection, consistency
from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.fields.translate import translate
from fiftyone_milvus.search.exactness import exact_split
from fiftyone_milvus.search.planner import PLANS
from fiftyone_milvus.search.scope import Facts
from fiftyone_milvus.search.views import ViewScope
from tests.support import oracle
from tests.support.indexes import (
    KEY,
    Indexed,
    add_samples,
    index_images,
    index_patches,
    unique,
    vectors,
)

COUNT = 8_000
DIM = 16
CLUSTERS = 8


@pytest.fixture(scope="module")
def dataset() -> Iterator[fo.Dataset]:
    """Samples with the cluster that their vector is of, and a random permutation of 0..1."""
    clusters = np.random.default_rng(51)
    clusters.normal(size=(CLUSTERS, DIM))  # as vectors() draws them
    clusters.normal(size=(COUNT, DIM))
    clusters.uniform(size=(COUNT, 1))
    of = clusters.integers(CLUSTERS, size=COUNT)
    shares = np.random.default_rng(1).permutation(COUNT) / COUNT
    dataset = fo.Dataset(unique("plans"))
    add_samples(
        dataset,
        [
            {"filepath": f"{i}.jpg", "number": i, "cluster": f"c{of[i]}", "share": float(shares[i])}
            for i in range(COUNT)
        ],
    )
    yield dataset
    dataset.delete()


@pytest.fixture(scope="module", params=["default", "other", "IVF_FLAT"])
def indexed(request: pytest.FixtureRequest, engine: Any, dataset: fo.Dataset) -> Iterator[Indexed]:
    """8,000 vectors, sealed and indexed where there is an index."""
    other = {"embedded": "HNSW", "server": "FLAT"}[engine.name]  # the other's default
    index_type = {"default": None, "other": other}.get(request.param, request.param)
    kwargs = {} if index_type is None else {"index_type": index_type}
    indexed = index_images(
        engine, COUNT, "cosine", dim=DIM, dataset=dataset, fields=["cluster", "share"], **kwargs
    )
    _await_segments(indexed)
    yield indexed
    indexed.index.cleanup()
    dataset.delete_brain_run(KEY)


def _await_segments(indexed: Indexed) -> None:
    collection = indexed.index._collection
    if collection.connection.engine.lite:
        return
    deadline = time.monotonic() + 120
    flat = collection.layout.index_type == "FLAT"  # which a server does not build
    while not any(built or flat for _, built in collection.sealed_segments() or ()):
        assert time.monotonic() < deadline, "the server does not seal"
        time.sleep(0.2)
    assert collection.count() == collection.count(sealed_only=True) == COUNT


@pytest.fixture(scope="module")
def vantage(indexed: Indexed) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What the views are chosen by: of every row, its attributes."""
    ids, numbers, clusters, shares = indexed.dataset.values(["id", "number", "cluster", "share"])
    assert list(ids) == indexed.ids
    return {
        "number": np.array(numbers),
        "cluster": np.array(clusters),
        "share": np.array(shares),
    }, np.array(ids)


def _views(draw: Any, dataset: fo.Dataset, table: dict[str, np.ndarray]) -> tuple[Any, np.ndarray]:
    what = draw(st.sampled_from(["share", "cluster", "not cluster", "head", "select", "both"]))
    share = draw(st.sampled_from([0.001, 0.01, 0.1, 0.5, 0.9, 0.999, 1.0]))
    cluster = draw(st.integers(0, CLUSTERS - 1).map("c{}".format))
    if what == "share":
        return dataset.match(F("share") < share), table["share"] < share
    if what == "cluster":
        return dataset.match(F("cluster") == cluster), table["cluster"] == cluster
    if what == "not cluster":
        return dataset.match(F("cluster") != cluster), table["cluster"] != cluster
    if what == "head":
        width = max(1, int(share * COUNT))
        return dataset.limit(width), table["number"] < width
    inside = table["share"] < min(share, 0.1)
    if what == "select":
        return dataset.select(np.array(dataset.values("id"))[inside].tolist()), inside
    view = dataset.match(F("share") < share).match(F("cluster") == cluster)
    return view, (table["share"] < share) & (table["cluster"] == cluster)


@pytest.mark.parametrize("plan", [None, *PLANS])
@settings(max_examples=8)
@given(data=st.data())
def test_every_plan_gives_the_true_answer(indexed, vantage, plan, data):
    table, ids = vantage
    view, inside = _views(data.draw, indexed.dataset, table)
    k = data.draw(st.sampled_from([1, 10, 25, 300, 5_000, None]))
    query = indexed.ids[data.draw(st.integers(0, COUNT - 1))]
    index = indexed.index
    scope = index._view_scope(view)
    scope.facts = Facts(
        size=data.draw(st.sampled_from([None, 0, int(inside.sum()), COUNT])),
        share=data.draw(st.sampled_from([None, 0.0, 0.01, 1.0])),
    )
    vector = indexed.vectors[query][np.newaxis]
    (found,) = index._make_searcher(plan).nearest(vector, k, scope)
    true = indexed.true(query, among=ids[inside].tolist())
    if plan in (None, "wide", "whole") and index._collection.layout.index_type not in (
        "AUTOINDEX",
        "FLAT",
    ):
        assert len(found.ids) == len(set(found.ids)) == min(k or COUNT, len(true))
        assert set(found.ids) <= set(true)
        # 0.99 is promised of the mean of searches, which is below: one may miss one of ten
        least = 0.9 if k == 10 else 0.96
        assert oracle.recall(found.ids, true, k or COUNT) >= least
    else:
        oracle.check_ranking(found.ids, true, k, reported=found.distances)


@pytest.mark.parametrize("plan", ["ids", "condition", None])
def test_recall_in_views_of_an_approximate_index(indexed, vantage, plan):
    table, ids = vantage
    rng = np.random.default_rng(7)
    queries = indexed.matrix()[rng.choice(COUNT, 10, replace=False)]
    queries = queries + rng.normal(scale=0.3 / np.sqrt(DIM), size=queries.shape)
    queries = queries.astype(np.float32)
    for share in (0.01, 0.05, 0.1, 0.3, 0.9):
        inside = ids[table["share"] < share].tolist()
        view = indexed.dataset.match(F("share") < share)
        recalls = []
        distances = oracle.distances(indexed.metric, queries, indexed.matrix(inside))
        for query, row in zip(queries, distances, strict=True):
            scope = indexed.index._view_scope(view)
            searcher = indexed.index._make_searcher(plan)
            (found,) = searcher.nearest(query[np.newaxis], 25, scope)
            true = dict(zip(inside, row.tolist(), strict=True))
            recalls.append(oracle.recall(found.ids, true, 25))
        assert np.mean(recalls) >= 0.99, f"in a view of {share:.0%}"


def test_many_queries_at_once_in_a_view(indexed, vantage):
    table, ids = vantage
    view = indexed.dataset.match(F("cluster") == "c3")
    inside = ids[table["cluster"] == "c3"].tolist()
    queries = vectors(30, DIM, seed=8)
    with indexed.index.use_view(view):
        answers, _ = indexed.index._kneighbors(query=queries, k=10)
    for query, found in zip(queries, answers, strict=True):
        oracle.check_ranking(found, indexed.true(query[np.newaxis], among=inside), 10)


def test_a_split_asks_for_small_shares_of_every_segment(indexed):
    collection = indexed.index._collection
    one = exact_split(collection, 10)
    many = exact_split(collection, COUNT)
    assert one is not None
    assert one.requests == 1
    assert many is not None
    scans = collection.connection.engine.lite or collection.layout.index_type != "HNSW"
    assert many.requests == (1 if scans else 20)


def test_no_split_is_exact_before_segments_have_their_index(indexed, monkeypatch):
    collection = indexed.index._collection
    state = consistency.SegmentState(0, [(COUNT, False)])
    monkeypatch.setattr(MilvusCollection, "segment_state", lambda self: state)
    scans = collection.connection.engine.lite or collection.layout.index_type == "FLAT"
    assert (exact_split(collection, 10) is None) == (not scans)


# -- what is chosen -----------------------------------------------------------------------------


def test_no_view_is_no_filter(indexed):
    plan = indexed.index.explain(indexed.ids[0], k=5)
    assert (plan.plan, plan.scope, len(plan.steps)) == ("whole", None, 1)
    assert indexed.index.explain(indexed.ids[0], view=indexed.dataset).plan == "whole"


def test_a_view_of_everything_reads_no_ids(indexed):
    view = indexed.dataset.select_fields("number").sort_by("number", reverse=True)
    scope = indexed.index._view_scope(view)
    (found,) = indexed.index._make_searcher().nearest(indexed.matrix()[:1], 25, scope)
    assert len(found.ids) == 25
    assert not scope.known
    assert scope.facts.share == 1.0


def test_a_selection_is_searched_by_its_ids(indexed):
    view = indexed.dataset.select(indexed.ids[:50])
    scope = indexed.index._view_scope(view)
    (found,) = indexed.index._make_searcher().nearest(indexed.matrix()[:1], 25, scope)
    true = indexed.true(indexed.ids[0], among=indexed.ids[:50])
    oracle.check_ranking(found.ids, true, 25)
    assert not scope.known, "MongoDB was asked for IDs that the view itself names"


def test_a_condition_is_searched_as_such(indexed):
    view = indexed.dataset.match(F("share") < 0.03)
    plan = indexed.index.explain(indexed.ids[0], k=5, view=view)
    assert plan.plan == "condition"
    assert plan.scope == 0.03 * COUNT
    assert {a.plan for a in plan.alternatives} == {"condition", "ids", "vectors", "wide"}


def test_a_small_view_is_searched_by_ids_and_a_large_one_wide(indexed):
    small = indexed.dataset.match(F("number") < 40)
    large = indexed.dataset.match(F("number") >= 40)
    assert indexed.index.explain(indexed.ids[0], k=5, view=small).plan == "ids"
    assert indexed.index.explain(indexed.ids[0], k=5, view=large).plan == "wide"


def test_what_a_search_learns_serves_the_next(indexed):
    view = indexed.dataset.match(F("number") % 20 == 3)
    first = indexed.index.explain(indexed.ids[0], k=25, view=view)
    again = indexed.index.explain(indexed.ids[1], k=25, view=view)
    assert len(again.steps) <= len(first.steps)
    assert len(again.steps) == 1


def test_explain_says_what_it_found(indexed, capsys):
    view = indexed.dataset.match(F("share") < 0.5)
    plan = indexed.index.explain(indexed.ids[0], k=7, view=view, analyze=True)
    assert all(a.measured is not None and a.measured > 0 for a in plan.alternatives)
    assert plan.milliseconds > 0
    printed = capsys.readouterr().out
    assert printed.strip() == str(plan)
    assert f"7 nearest of {COUNT // 2:,} in the view, of {COUNT:,} rows" in printed
    assert "measured" in printed


# -- what is asked ------------------------------------------------------------------------------


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The reads that Milvus is asked for, as they are asked."""
    made: list[str] = []
    read, segments = MilvusCollection._read, MilvusCollection.sealed_segments

    def reading(self: MilvusCollection, method: str, **options: Any) -> Any:
        counts = options.get("output_fields") == ["count(*)"]
        made.append("count" if counts else method)
        return read(self, method, **options)

    def listing(self: MilvusCollection) -> Any:
        made.append("segments")
        return segments(self)

    monkeypatch.setattr(MilvusCollection, "_read", reading)
    monkeypatch.setattr(MilvusCollection, "sealed_segments", listing)
    return made


@pytest.mark.parametrize("what", ["condition", "ids", "everything", "untranslatable"])
def test_a_view_is_translated_once_per_search(indexed, monkeypatch, what):
    dataset = indexed.dataset
    view = {
        "condition": dataset.match(F("share") < 0.1),
        "ids": dataset.select(indexed.ids[:50]),
        "everything": dataset.sort_by("number"),
        "untranslatable": dataset.match(F("number") < 100),
    }[what]
    translated = []

    def counting(*args: Any) -> str | None:
        translated.append(translate(*args))
        return translated[-1]

    monkeypatch.setattr("fiftyone_milvus.index.base.translate", counting)
    view.sort_by_similarity(indexed.ids[0], k=5, brain_key=KEY).values("id")
    assert len(translated) == 1
    translated.clear()
    with indexed.index.use_view(view):
        indexed.index.search(indexed.ids[0], k=5)
        indexed.index.search(indexed.ids[1], k=5)
    assert len(translated) == 2, "what it reads may have changed between two searches"


def test_a_condition_takes_as_few_requests_as_it_can(indexed, requests, monkeypatch):
    # On a busy machine, two searches may take longer than the state of the segments is kept
    monkeypatch.setattr(consistency, "_SEGMENTS_SECONDS", 600)
    view = indexed.dataset.match(F("share") < 0.02)

    def search() -> list[str]:
        requests.clear()
        scope = indexed.index._view_scope(view)
        vector = indexed.matrix()[7][np.newaxis]
        (found,) = indexed.index._make_searcher().nearest(vector, 10, scope)
        true = indexed.true(vector, among=view.values("id"))
        oracle.check_ranking(found.ids, true, 10, reported=found.distances)
        return list(requests)

    first, second = search(), search()
    if indexed.index._collection.connection.engine.lite:
        assert first == second == ["search"]
    else:
        assert second == ["count", "search"]


# -- samples that are gone, and fields that are stale -------------------------------------------


def test_samples_gone_from_the_dataset_are_not_answered(engine):
    indexed = index_images(engine, 200, "cosine", fields=["number"])
    try:
        gone = indexed.ids[:5]
        view = indexed.dataset.match(F("number") < 60)
        indexed.dataset.delete_samples(gone)
        left = indexed.ids[5:60]
        for _ in range(2):
            found = view.sort_by_similarity(indexed.vectors[gone[0]], k=20, brain_key=KEY)
            true = indexed.true(indexed.vectors[gone[0]][np.newaxis], among=left)
            oracle.check_ranking(found.values("id"), true, 20)
    finally:
        indexed.drop()


def test_conditions_while_rows_come_and_go(engine, requests):
    """What is known of the segments is never older than what this process wrote."""
    indexed = index_images(engine, COUNT, "cosine", fields=["number"])
    index, every = indexed.index, dict(indexed.vectors)
    view = indexed.dataset.match(F("number").is_in([*range(60), *range(COUNT - 60, COUNT)]))
    inside = view.values("id")

    def check() -> None:
        for _ in range(2):
            requests.clear()
            found = view.sort_by_similarity(every[indexed.ids[5]], k=20, brain_key=KEY)
            true = indexed.true(every[indexed.ids[5]][np.newaxis], inside)
            oracle.check_ranking(found.values("id"), true, 20)
        assert index._collection.connection.engine.lite or "segments" not in requests

    try:
        index._collection.wait_until_built()
        check()
        late = indexed.ids[2_000:]
        index.remove_from_index(sample_ids=late)
        indexed.vectors = {i: v for i, v in every.items() if i not in set(late)}
        check()
        # More than a server scans before they are sealed
        index.add_to_index(np.stack([every[i] for i in late]), np.array(late))
        indexed.vectors = every
        check()
        index._collection.wait_until_built()
        check()
    finally:
        indexed.drop()


def test_stale_fields_are_not_used(engine, caplog):
    indexed = index_images(engine, 200, "cosine", fields=["number"])
    index = indexed.index
    view = indexed.dataset.match(F("number") >= 1_000)

    def check(inside: list[str], plan: str) -> None:
        found = view.sort_by_similarity(indexed.ids[0], k=20, brain_key=KEY).values("id")
        oracle.check_ranking(found, indexed.true(indexed.ids[0], among=inside), 20)
        chosen = index.explain(indexed.ids[0], k=20, view=view).plan
        assert (chosen == "condition") == (plan == "condition")

    try:
        some = indexed.dataset.match(F("number") < 10)
        check([], "condition")
        some.set_values("number", [1_000 + i for i in range(10)])
        with caplog.at_level("INFO", logger="fiftyone_milvus"):
            check(indexed.ids[:10], "other")
            check(indexed.ids[:10], "other")
        said = [r for r in caplog.records if "sync_fields" in r.message]
        assert len(said) == 1
        assert index.sync_fields().updated == 10
        check(indexed.ids[:10], "condition")
    finally:
        indexed.drop()


# -- IDs from MongoDB ---------------------------------------------------------------------------


def test_ids_of_a_view_in_its_order(indexed):
    dataset = indexed.dataset
    for view in (
        dataset,
        dataset.match(F("number") < 0),
        dataset.match(F("number") == 5),
        dataset.sort_by("share").limit(1_234),
        dataset.match(F("share") < 0.3).select_fields("number"),
        dataset.select(indexed.ids[10:0:-1], ordered=True),
    ):
        assert object_ids.sample_ids(view) == view.values("id")
        assert object_ids.sample_ids(view, 5) == view.limit(5).values("id")


def test_few_reads_no_more_than_it_has_to(indexed):
    scope = ViewScope(indexed.dataset.limit(100))
    assert not scope.few(99)
    assert not scope.known
    assert scope.few(100)
    assert scope.known
    assert scope.facts.size == 100


def test_patches_that_were_copied_before_an_edit(engine):
    """A patches view keeps the labels it was made of, whatever the fields say since."""
    indexed = index_patches(engine, 24, "cosine", fields=["ground_truth.label"])
    index, dataset = indexed.index, indexed.dataset

    def check(view: Any, inside: list[str]) -> str:
        found = view.sort_by_similarity(indexed.ids[0], k=8, brain_key=KEY)
        oracle.check_ranking(found.values("id"), indexed.true(indexed.ids[0], among=inside), 8)
        return index.explain(indexed.ids[0], k=8, view=view).plan

    try:
        old = dataset.to_patches("ground_truth").match(F("ground_truth.label") == "a")
        inside = old.values("id")
        assert check(old, inside) == "condition"
        labels = dataset.values("ground_truth.detections.label")
        swapped = [[{"a": "b", "b": "a"}[x] for x in row] if row else row for row in labels]
        dataset.set_values("ground_truth.detections.label", swapped)
        assert check(old, inside) != "condition"
        assert index.sync_fields().updated == len(indexed.ids)
        assert check(old, inside) != "condition"
        new = dataset.to_patches("ground_truth").match(F("ground_truth.label") == "a")
        assert set(new.values("id")) == set(indexed.ids) - set(inside)
        assert check(new, new.values("id")) == "condition"
    finally:
        indexed.drop()
