"""Adding, replacing, removing and reading embeddings back, on one index that is reset each time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fiftyone.brain as fob
import numpy as np
import pytest
from fiftyone import ViewField as F

from tests.support import oracle
from tests.support.indexes import (
    DIM,
    KEY,
    Indexed,
    image_dataset,
    index_patches,
    one_line,
    unknown_id,
    vectors,
)

COUNT = 40
SPARE = 20


@pytest.fixture(scope="module")
def _writable(engine: Any) -> Iterator[Indexed]:
    dataset = image_dataset(COUNT + SPARE)
    index = fob.compute_similarity(
        dataset,
        embeddings=False,
        brain_key=KEY,
        backend="milvus",
        metric="euclidean",
        **engine.kwargs,
    )
    indexed = Indexed(dataset, index, "euclidean", {}, dict(engine.kwargs))
    yield indexed
    indexed.drop()


@pytest.fixture
def images(_writable: Indexed) -> Indexed:
    """40 of 60 samples are indexed, whatever the test before did."""
    ids = _writable.dataset.values("id")
    data = vectors(COUNT)
    index = _writable.index
    index.clear_view()
    index.remove_from_index(sample_ids=ids)
    index.add_to_index(data, np.array(ids[:COUNT]))
    _writable.vectors = dict(zip(ids[:COUNT], data, strict=True))
    return _writable


@pytest.fixture
def spare(images: Indexed) -> list[str]:
    """IDs of samples that are not indexed."""
    return images.dataset.values("id")[COUNT:]


@pytest.fixture(scope="module")
def _writable_patches(engine: Any) -> Iterator[Indexed]:
    indexed = index_patches(engine, 24, "euclidean")
    yield indexed
    indexed.drop()


@pytest.fixture
def patches(_writable_patches: Indexed) -> Indexed:
    """Every detection is indexed, whatever the test before did."""
    index, ids = _writable_patches.index, _writable_patches.ids
    owners = [_writable_patches.samples[_id] for _id in ids]
    index.clear_view()
    index.add_to_index(_writable_patches.matrix(), np.array(owners), label_ids=np.array(ids))
    return _writable_patches


def assert_holds(indexed: Indexed, expected: dict[str, np.ndarray]) -> None:
    """The index holds these vectors and nothing else, however one asks."""
    index = indexed.index
    assert index.total_index_size == len(expected)
    embeddings, sample_ids, label_ids = index.get_embeddings()
    keys = sample_ids if label_ids is None else label_ids
    assert sorted(keys) == sorted(expected)
    for key, embedding in zip(keys, embeddings, strict=True):
        np.testing.assert_array_equal(embedding, expected[key])
    if expected:
        probe = next(iter(expected.values()))
        found, found_labels = index._kneighbors(query=probe, k=len(expected) + 10)
        found = found if label_ids is None else found_labels
        assert sorted(found) == sorted(expected)


# -- adding -------------------------------------------------------------------------------------


def test_adds_new_embeddings(images, spare):
    data = vectors(len(spare), seed=1)
    images.index.add_to_index(data, np.array(spare))
    assert_holds(images, {**images.vectors, **dict(zip(spare, data, strict=True))})


def test_takes_lists_and_float64(images, spare):
    data = vectors(3, seed=1).astype(np.float64)
    images.index.add_to_index(data.tolist(), spare[:3])
    got, _, _ = images.index.get_embeddings(sample_ids=spare[:3])
    np.testing.assert_array_equal(got, data.astype(np.float32))


def test_adding_again_replaces(images):
    ids = images.ids[:7]
    data = vectors(7, seed=2)
    images.index.add_to_index(data, np.array(ids))
    assert_holds(images, {**images.vectors, **dict(zip(ids, data, strict=True))})


def test_a_mix_of_known_and_new_ids(images, spare):
    ids = images.ids[:3] + spare[:3]
    data = vectors(6, seed=3)
    images.index.add_to_index(data, np.array(ids))
    assert_holds(images, {**images.vectors, **dict(zip(ids, data, strict=True))})


def test_adding_the_same_twice_changes_nothing(images):
    images.index.add_to_index(images.matrix(), np.array(images.ids))
    images.index.add_to_index(images.matrix(), np.array(images.ids))
    assert_holds(images, images.vectors)


def test_without_overwrite_known_ids_keep_their_embedding(images, spare):
    ids = images.ids[:3] + spare[:2]
    data = vectors(5, seed=4)
    images.index.add_to_index(data, np.array(ids), overwrite=False)
    assert_holds(images, {**images.vectors, **dict(zip(spare[:2], data[3:], strict=True))})


def test_existing_ids_can_be_forbidden(images, spare):
    ids = [spare[0], images.ids[5], spare[1]]
    with pytest.raises(ValueError, match=images.ids[5]) as error:
        images.index.add_to_index(
            vectors(3, seed=5), np.array(ids), overwrite=False, allow_existing=False
        )
    one_line(error.value)
    assert_holds(images, images.vectors)


def test_existing_ids_can_be_warned_about(images, spare, caplog):
    ids = images.ids[:2] + spare[:1]
    with caplog.at_level(logging.WARNING, logger="fiftyone_milvus"):
        images.index.add_to_index(
            vectors(3, seed=6), np.array(ids), overwrite=False, warn_existing=True
        )
    assert any("2" in message for message in caplog.messages), caplog.messages


def test_nothing_is_warned_about_unasked(images, caplog):
    with caplog.at_level(logging.WARNING):
        images.index.add_to_index(images.matrix(), np.array(images.ids), overwrite=False)
        images.index.remove_from_index(sample_ids=[unknown_id()])
        images.index.get_embeddings(sample_ids=[unknown_id()])
    assert not caplog.records, caplog.messages


def test_ids_may_not_repeat_within_a_call(images, spare):
    ids = [spare[0], spare[1], spare[0]]
    with pytest.raises(ValueError, match=spare[0]) as error:
        images.index.add_to_index(vectors(3, seed=7), np.array(ids))
    one_line(error.value)
    assert_holds(images, images.vectors)


def test_adding_nothing_is_fine(images):
    images.index.add_to_index(np.empty((0, DIM), dtype=np.float32), np.array([], dtype=str))
    assert_holds(images, images.vectors)


# -- removing -----------------------------------------------------------------------------------


def test_removes_samples(images):
    gone = set(images.ids[3:9])
    images.index.remove_from_index(sample_ids=list(gone))
    assert_holds(images, {k: v for k, v in images.vectors.items() if k not in gone})


def test_removes_from_an_array_too(images):
    images.index.remove_from_index(sample_ids=np.array(images.ids[:2]))
    assert images.index.total_index_size == COUNT - 2


def test_removing_and_adding_again_and_again_counts_right(images, spare):
    held = dict(images.vectors)
    for turn in range(4):
        gone = list(held)[turn : turn + 5]
        images.index.remove_from_index(sample_ids=gone)
        for _id in gone:
            del held[_id]
        data = vectors(3, seed=10 + turn)
        new = spare[3 * turn : 3 * turn + 3]
        images.index.add_to_index(data, np.array(new))
        held.update(zip(new, data, strict=True))
        assert images.index.total_index_size == len(held)
    assert_holds(images, held)


def test_a_removed_id_can_come_back(images):
    _id = images.ids[0]
    images.index.remove_from_index(sample_ids=[_id])
    data = vectors(1, seed=20)
    images.index.add_to_index(data, np.array([_id]))
    assert_holds(images, {**images.vectors, _id: data[0]})


def test_removing_everything_leaves_an_empty_index_that_works(images):
    images.index.remove_from_index(sample_ids=images.ids)
    assert images.index.total_index_size == 0
    assert images.index.index_size == 0
    assert list(images.index.sample_ids) == []
    embeddings, sample_ids, label_ids = images.index.get_embeddings()
    assert (len(embeddings), len(sample_ids), label_ids) == (0, 0, None)
    found, _ = images.index._kneighbors(query=vectors(1)[0], k=5)
    assert list(found) == []
    assert len(images.index.sort_by_similarity(vectors(1)[0], k=5)) == 0
    images.index.add_to_index(images.matrix(), np.array(images.ids))
    assert_holds(images, images.vectors)


def test_missing_ids_are_ignored_when_removing(images):
    images.index.remove_from_index(sample_ids=[unknown_id(), images.ids[0]])
    assert images.index.total_index_size == COUNT - 1


def test_missing_ids_can_be_forbidden_when_removing(images):
    missing = unknown_id()
    with pytest.raises(ValueError, match=missing) as error:
        images.index.remove_from_index(sample_ids=[images.ids[0], missing], allow_missing=False)
    one_line(error.value)
    assert_holds(images, images.vectors)


def test_missing_ids_can_be_warned_about_when_removing(images, caplog):
    with caplog.at_level(logging.WARNING, logger="fiftyone_milvus"):
        images.index.remove_from_index(
            sample_ids=[unknown_id(), unknown_id(), images.ids[0]], warn_missing=True
        )
    assert any("2" in message for message in caplog.messages), caplog.messages
    assert images.index.total_index_size == COUNT - 1


# -- reading back -------------------------------------------------------------------------------


def test_everything_comes_back(images):
    assert_holds(images, images.vectors)
    embeddings, sample_ids, _ = images.index.get_embeddings()
    assert isinstance(embeddings, np.ndarray)
    assert isinstance(sample_ids, np.ndarray)
    assert embeddings.shape == (COUNT, DIM)
    assert embeddings.dtype == np.float32


def test_embeddings_come_in_the_asked_order(images):
    ids = images.ids[10:20][::-1] + images.ids[:5]
    embeddings, sample_ids, label_ids = images.index.get_embeddings(sample_ids=ids)
    assert list(sample_ids) == ids
    assert label_ids is None
    np.testing.assert_array_equal(embeddings, images.matrix(ids))


def test_one_id_may_be_a_string(images):
    embeddings, sample_ids, _ = images.index.get_embeddings(sample_ids=images.ids[4])
    assert list(sample_ids) == [images.ids[4]]
    np.testing.assert_array_equal(embeddings, images.matrix([images.ids[4]]))


def test_missing_embeddings_are_left_out(images):
    ids = [images.ids[1], unknown_id(), images.ids[0]]
    embeddings, sample_ids, _ = images.index.get_embeddings(sample_ids=ids)
    assert list(sample_ids) == [ids[0], ids[2]]
    np.testing.assert_array_equal(embeddings, images.matrix([ids[0], ids[2]]))


def test_only_missing_embeddings_give_an_empty_array(images):
    embeddings, sample_ids, label_ids = images.index.get_embeddings(sample_ids=[unknown_id()])
    assert (len(embeddings), len(sample_ids), label_ids) == (0, 0, None)
    embeddings, sample_ids, _ = images.index.get_embeddings(sample_ids=[])
    assert (len(embeddings), len(sample_ids)) == (0, 0)


def test_missing_embeddings_can_be_forbidden(images):
    missing = unknown_id()
    with pytest.raises(ValueError, match=missing):
        images.index.get_embeddings(sample_ids=[images.ids[0], missing], allow_missing=False)


def test_missing_embeddings_can_be_warned_about(images, caplog):
    with caplog.at_level(logging.WARNING, logger="fiftyone_milvus"):
        images.index.get_embeddings(sample_ids=[unknown_id(), images.ids[0]], warn_missing=True)
    assert any("1" in message for message in caplog.messages), caplog.messages


# -- sizes and IDs ------------------------------------------------------------------------------


def test_the_index_knows_its_ids(images):
    index = images.index
    assert sorted(index.sample_ids) == sorted(images.ids)
    assert index.label_ids is None
    assert index.total_index_size == index.index_size == COUNT
    assert sorted(index.current_sample_ids) == sorted(images.ids)
    assert index.current_label_ids is None
    assert index.is_external
    assert index.has_view is False


def test_a_view_restricts_sizes_and_ids(images):
    indexed, missing = images.ids[30:], images.dataset.values("id")[COUNT : COUNT + 6]
    view = images.dataset.select(indexed + missing)
    with images.index.use_view(view):
        assert images.index.has_view
        assert images.index.total_index_size == COUNT
        assert images.index.index_size == len(indexed)
        assert images.index.missing_size == len(missing)
        assert sorted(images.index.current_sample_ids) == sorted(indexed)
        assert images.index.values("number") == list(range(30, 40))
    assert images.index.index_size == COUNT
    images.index.use_view(view)
    assert images.index.index_size == len(indexed)
    images.index.clear_view()
    assert images.index.index_size == COUNT


def test_a_view_of_indexed_samples_misses_nothing(images):
    with images.index.use_view(images.dataset.select(images.ids[:5])):
        assert images.index.missing_size is None
        assert images.index.index_size == 5


def test_a_view_may_be_required_to_be_indexed(images):
    images.index.use_view(images.dataset.limit(COUNT + 5), allow_missing=False)
    with pytest.raises(ValueError, match="not present"):
        _ = images.index.index_size


def test_ids_are_current_after_each_write(images, spare):
    view = images.dataset.select(images.ids[:10] + spare[:2])
    images.index.use_view(view)
    assert images.index.index_size == 10
    images.index.add_to_index(vectors(2, seed=8), np.array(spare[:2]))
    assert images.index.index_size == 12
    assert images.index.missing_size is None
    images.index.remove_from_index(sample_ids=images.ids[:3])
    assert images.index.index_size == 9
    assert images.index.missing_size == 3
    assert images.index.view == view


def test_reload_follows_the_view(images):
    dataset, index = images.dataset, images.index
    dataset.select(images.ids[:4]).tag_samples("picked")
    try:
        index.use_view(dataset.match_tags("picked"))
        assert index.index_size == 4
        dataset.select(images.ids[4:6]).tag_samples("picked")
        index.reload()
        assert index.index_size == 6
    finally:
        dataset.untag_samples("picked")


def test_a_write_need_not_reload(images, spare):
    images.index.use_view(images.dataset.view())
    assert images.index.index_size == COUNT
    images.index.add_to_index(vectors(2, seed=8), np.array(spare[:2]), reload=False)
    images.index.remove_from_index(sample_ids=images.ids[:1], reload=False)
    assert images.index.total_index_size == COUNT + 1
    images.index.reload()
    assert images.index.index_size == COUNT + 1


# -- read your writes ---------------------------------------------------------------------------


def test_writes_are_seen_by_the_very_next_search(images, spare):
    """At the default consistency level, and without any pause."""
    for turn in range(10):
        _id = spare[turn]
        data = vectors(1, seed=100 + turn)
        images.index.add_to_index(data, np.array([_id]))
        found, _, dists = images.index._kneighbors(query=data[0], k=1, return_dists=True)
        assert found == [_id]
        np.testing.assert_allclose(dists, [0], atol=1e-3)
        images.index.remove_from_index(sample_ids=[_id])
        found, _ = images.index._kneighbors(query=data[0], k=COUNT + SPARE)
        assert _id not in found
        assert len(found) == COUNT
        embeddings, _, _ = images.index.get_embeddings(sample_ids=[_id])
        assert len(embeddings) == 0


def test_a_replaced_embedding_is_not_found_where_it_was(images):
    _id = images.ids[0]
    for turn in range(5):
        data = vectors(1, seed=200 + turn)
        images.index.add_to_index(data, np.array([_id]))
        now = {**images.vectors, _id: data[0]}
        true = oracle.distances("euclidean", images.vectors[_id], np.stack(list(now.values())))
        found, _, dists = images.index._kneighbors(
            query=images.vectors[_id], k=5, return_dists=True
        )
        oracle.check_ranking(
            found, dict(zip(now, true[0], strict=True)), 5, reported=dists, atol=1e-3
        )


# -- patches ------------------------------------------------------------------------------------


def test_patches_have_sample_and_label_ids(patches):
    index = patches.index
    assert_holds(patches, patches.vectors)
    assert index.total_index_size == index.index_size == len(patches.ids)
    assert sorted(index.label_ids) == sorted(patches.ids)
    owners = dict(zip(index.label_ids, index.sample_ids, strict=True))
    assert owners == patches.samples
    current = dict(zip(index.current_label_ids, index.current_sample_ids, strict=True))
    assert current == patches.samples
    embeddings, sample_ids, label_ids = index.get_embeddings()
    assert dict(zip(label_ids, sample_ids, strict=True)) == patches.samples
    assert embeddings.shape == (len(patches.ids), DIM)


def test_patches_are_removed_by_label(patches):
    gone = patches.ids[2:6]
    patches.index.remove_from_index(label_ids=gone)
    assert_holds(patches, {k: v for k, v in patches.vectors.items() if k not in gone})


def test_patches_are_removed_by_sample(patches):
    gone = sorted({patches.samples[_id] for _id in patches.ids})[:3]
    patches.index.remove_from_index(sample_ids=gone)
    left = {k: v for k, v in patches.vectors.items() if patches.samples[k] not in gone}
    assert len(left) < len(patches.vectors)
    assert_holds(patches, left)


def test_patch_embeddings_by_label_in_the_asked_order(patches):
    ids = patches.ids[5:12][::-1]
    embeddings, sample_ids, label_ids = patches.index.get_embeddings(label_ids=ids)
    assert list(label_ids) == ids
    assert list(sample_ids) == [patches.samples[_id] for _id in ids]
    np.testing.assert_array_equal(embeddings, patches.matrix(ids))


def test_patch_embeddings_by_sample_in_the_asked_order(patches):
    asked = list(dict.fromkeys(patches.samples.values()))[:4][::-1]
    embeddings, sample_ids, label_ids = patches.index.get_embeddings(sample_ids=asked)
    assert list(dict.fromkeys(sample_ids)) == asked
    expected = {_id for _id in patches.ids if patches.samples[_id] in asked}
    assert set(label_ids) == expected
    assert len(label_ids) == len(expected)
    assert list(sample_ids) == [patches.samples[_id] for _id in label_ids]
    np.testing.assert_array_equal(embeddings, patches.matrix(label_ids))


def test_missing_patches_can_be_forbidden(patches):
    missing = unknown_id()
    with pytest.raises(ValueError, match=missing):
        patches.index.remove_from_index(label_ids=[patches.ids[0], missing], allow_missing=False)
    with pytest.raises(ValueError, match=missing):
        patches.index.get_embeddings(label_ids=[missing], allow_missing=False)
    without = patches.dataset.first().id
    assert without not in patches.samples.values()
    with pytest.raises(ValueError, match=without):
        patches.index.remove_from_index(sample_ids=[without], allow_missing=False)
    assert_holds(patches, patches.vectors)


def test_patches_replace_by_label(patches):
    ids = patches.ids[:3]
    data = vectors(3, seed=9)
    owners = np.array([patches.samples[_id] for _id in ids])
    patches.index.add_to_index(data, owners, label_ids=np.array(ids))
    assert_holds(patches, {**patches.vectors, **dict(zip(ids, data, strict=True))})
    patches.index.add_to_index(
        patches.matrix(ids), owners, label_ids=np.array(ids), overwrite=False
    )
    assert_holds(patches, {**patches.vectors, **dict(zip(ids, data, strict=True))})


def test_patches_follow_views_of_all_kinds(patches):
    dataset, index = patches.dataset, patches.index
    half = dataset.match({"number": {"$lt": 12}})
    expected = set(half.values("ground_truth.detections.id", unwind=True))
    for view in (half, half.to_patches("ground_truth")):
        with index.use_view(view):
            assert index.index_size == len(expected)
            assert set(index.current_label_ids) == expected
    labels = dataset.filter_labels("ground_truth", F("label") == "b")
    wanted = set(labels.values("ground_truth.detections.id", unwind=True))
    assert 0 < len(wanted) < len(patches.ids)
    with index.use_view(labels):
        assert set(index.current_label_ids) == wanted


def test_two_that_make_one_collection_at_the_same_time(engine, datasets):
    """Both find none, and one of them makes it; neither loses or doubles a row."""
    dataset = datasets(COUNT)
    fob.compute_similarity(
        dataset, embeddings=False, brain_key=KEY, backend="milvus", **engine.kwargs
    )
    ids, data = dataset.values("id"), vectors(COUNT)
    halves = [slice(0, 25), slice(15, COUNT)]
    indexes = [dataset.load_brain_results(KEY, cache=False, **engine.kwargs) for _ in halves]
    line = threading.Barrier(len(halves))

    def add(index: Any, half: slice) -> None:
        line.wait(30)
        index.add_to_index(data[half], ids[half])

    with ThreadPoolExecutor(len(halves)) as pool:
        list(pool.map(add, indexes, halves))
    index = indexes[0]
    indexed = Indexed(dataset, index, "cosine", {}, dict(engine.kwargs))
    assert_holds(indexed, dict(zip(ids, data, strict=True)))
    index.cleanup()
