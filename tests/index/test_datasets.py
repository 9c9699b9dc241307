"""Datasets of every name and kind that FiftyOne can index at all."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from fiftyone import ViewField as F
from fiftyone.core.patches import PatchesView

from tests.support import oracle
from tests.support.indexes import Indexed, collections, image_dataset, unique, vectors

NAMES = {
    "cjk": "猫と犬の写真 cats",
    "spaces": "my holiday pictures  2",
    "digits": "12 angry men",
    "long": "x" * 110,
    "long-cjk": "長" * 100 + " a",
    "emoji": "🦊🌈 fox",
    "punctuation": "a-b.c/d (e) 'f' \"g\"",
    "accents": "été à la plage",
    "leading-underscore": "_hidden",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_any_name_makes_a_collection(engine, name, dropped):
    name = f"{name} {unique('n')[-6:]}"
    dataset = image_dataset(6, name)
    index = fob.compute_similarity(
        dataset, embeddings=vectors(6), brain_key="sim", backend="milvus", **engine.kwargs
    )
    dropped.append(Indexed(dataset, index, "cosine", {}, {}))
    collection = index.config.collection_name
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", collection), collection
    assert collection in collections(index)
    assert len(dataset.sort_by_similarity(dataset.first().id, k=3, brain_key="sim")) == 3


def test_a_collection_that_was_left_behind_is_not_taken_up(engine, dropped):
    """A dataset that is made again under its name starts with an index of its own."""
    name = unique("again")
    for count in (5, 3):
        dataset = image_dataset(count, name)
        index = fob.compute_similarity(
            dataset, embeddings=vectors(count), brain_key="sim", backend="milvus", **engine.kwargs
        )
        dropped.append(Indexed(dataset, index, "cosine", {}, {}))
        assert index.total_index_size == count
        dataset.delete()
    first, second = (indexed.index.config.collection_name for indexed in dropped)
    assert first != second


# -- groups -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def groups(engine: Any) -> Iterator[Indexed]:
    """30 groups of a left and a right image, both slices indexed."""
    dataset = fo.Dataset(unique("groups"))
    dataset.add_group_field("group", default="left")
    samples = []
    for i in range(30):
        group = fo.Group()
        samples += [
            fo.Sample(filepath=f"{side}-{i}.jpg", group=group.element(side), number=i)
            for side in ("left", "right")
        ]
    dataset.add_samples(samples)
    both = dataset.select_group_slices(["left", "right"])
    data = vectors(60)
    index = fob.compute_similarity(
        both,
        embeddings=data,
        brain_key="sim",
        backend="milvus",
        metric="euclidean",
        **engine.kwargs,
    )
    ids = both.values("id")
    indexed = Indexed(
        dataset, index, "euclidean", dict(zip(ids, data, strict=True)), dict(engine.kwargs)
    )
    yield indexed
    indexed.drop()


def test_all_slices_of_a_group_dataset(groups):
    assert groups.index.total_index_size == 60
    both = groups.dataset.select_group_slices(["left", "right"])
    query = groups.ids[7]
    view = both.sort_by_similarity(query, k=20, brain_key="sim")
    oracle.check_ranking(view.values("id"), groups.true(query), 20)
    assert set(view.values("group.name")) == {"left", "right"}
    with groups.index.use_view(both):
        assert groups.index.index_size == 60


@pytest.mark.parametrize("side", ["left", "right"])
def test_one_slice_of_a_group_dataset(groups, side):
    view = groups.dataset.select_group_slices(side)
    inside = view.values("id")
    for query in (inside[0], next(i for i in groups.ids if i not in inside)):
        got = view.sort_by_similarity(query, k=20, brain_key="sim").values("id")
        oracle.check_ranking(got, groups.true(query, among=inside), 20)


def test_the_active_slice_of_a_group_dataset(groups):
    """A grouped collection shows its active slice, so k of that slice are the answer."""
    dataset = groups.dataset
    query = groups.ids[0]
    for side in ("left", "right"):
        dataset.group_slice = side
        try:
            for samples in (dataset.match(F("number") < 25), dataset):
                inside = samples.values("id")
                got = samples.sort_by_similarity(query, k=10, brain_key="sim")
                assert set(got.values("group.name")) == {side}
                oracle.check_ranking(got.values("id"), groups.true(query, among=inside), 10)
        finally:
            dataset.group_slice = "left"


def test_one_slice_can_be_indexed_alone(groups, engine):
    right = groups.dataset.select_group_slices("right")
    index = fob.compute_similarity(
        right, embeddings=vectors(30), brain_key="right", backend="milvus", **engine.kwargs
    )
    assert index.total_index_size == 30
    got = right.sort_by_similarity(right.first().id, k=5, brain_key="right")
    assert len(got) == 5
    index.cleanup()
    groups.dataset.delete_brain_run("right")


# -- what FiftyOne's own backend takes, ours takes ----------------------------------------------


def _video_dataset() -> fo.Dataset:
    dataset = fo.Dataset(unique("videos"))
    samples = []
    for v in range(4):
        metadata = fo.VideoMetadata(
            total_frame_count=6, frame_rate=6.0, duration=1.0, frame_width=9, frame_height=9
        )
        events = [
            fo.TemporalDetection(label=name, support=[i, i + 2]) for i, name in ((1, "a"), (3, "b"))
        ]
        sample = fo.Sample(
            filepath=f"video-{v}.mp4",
            metadata=metadata,
            events=fo.TemporalDetections(detections=events),
        )
        for n in range(1, 7):
            box = fo.Detection(label="x", bounding_box=[0.1, 0.1, 0.5, 0.5])
            sample.frames[n] = fo.Frame(
                filepath=f"video-{v}-{n}.jpg", things=fo.Detections(detections=[box])
            )
        samples.append(sample)
    dataset.add_samples(samples)
    return dataset


def _labelled_dataset() -> fo.Dataset:
    dataset = fo.Dataset(unique("labels"))
    dataset.add_samples(
        [
            fo.Sample(
                filepath=f"image-{i}.jpg",
                number=i,
                things=fo.Detections(
                    detections=[
                        fo.Detection(label="a", bounding_box=[0.1, 0.1, 0.2, 0.2]) for _ in range(2)
                    ]
                ),
                shapes=fo.Polylines(
                    polylines=[fo.Polyline(points=[[(0.1, 0.1), (0.3, 0.3), (0.1, 0.3)]])]
                ),
                single=fo.Detection(label="z", bounding_box=[0, 0, 1, 1]),
            )
            for i in range(12)
        ]
    )
    return dataset


def _of_each_sample(samples: Any, patches_field: str) -> dict[str, np.ndarray]:
    """Returns embeddings of the labels of each sample, as ``compute_similarity`` takes them."""
    _, path = samples._get_label_field_path(patches_field, "id")
    labels = samples.values(path)
    counts = [len(ids) if isinstance(ids, list) else 1 for ids in labels]
    rows = iter(np.split(vectors(sum(counts)), np.cumsum(counts)[:-1]))
    return dict(zip(samples.values("id"), rows, strict=True))


def _samples(samples: Any) -> dict[str, Any]:
    return {"samples": samples, "embeddings": vectors(len(samples))}


def _patches(samples: Any, field: str) -> dict[str, Any]:
    return {
        "samples": samples,
        "patches_field": field,
        "embeddings": _of_each_sample(samples, field),
    }


KINDS: dict[str, tuple[Callable[[], fo.Dataset], Callable[[Any], dict[str, Any]]]] = {
    "videos": (_video_dataset, _samples),
    "frames": (_video_dataset, lambda d: _samples(d.to_frames(sample_frames=False))),
    "some frames": (
        _video_dataset,
        lambda d: _samples(d.to_frames(sample_frames=False).match(F("frame_number") > 2)),
    ),
    "frame patches": (
        _video_dataset,
        lambda d: _patches(d.to_frames(sample_frames=False), "things"),
    ),
    "clips": (_video_dataset, lambda d: _samples(d.to_clips("events"))),
    "detections": (_labelled_dataset, lambda d: _patches(d, "things")),
    "polylines": (_labelled_dataset, lambda d: _patches(d, "shapes")),
    "one detection": (_labelled_dataset, lambda d: _patches(d, "single")),
    "a view": (_labelled_dataset, lambda d: _samples(d.skip(4))),
    "detections of a view": (_labelled_dataset, lambda d: _patches(d.skip(4), "things")),
    "regions of interest": (
        _labelled_dataset,
        lambda d: {
            "samples": d,
            "roi_field": "things",
            "embeddings": _of_each_sample(d, "things"),
        },
    ),
}


@pytest.mark.parametrize("kind", KINDS.keys())
def test_kinds_of_collections(engine, kind):
    """FiftyOne's scikit-learn backend says what is possible; ours does it, and the same."""
    make, arguments = KINDS[kind]
    dataset = make()
    try:
        given = arguments(dataset)
        samples, field = given["samples"], given.get("patches_field")
        theirs = fob.compute_similarity(
            **given, brain_key="theirs", backend="sklearn", metric="euclidean"
        )
        ours = fob.compute_similarity(
            **given, brain_key="ours", backend="milvus", metric="euclidean", **engine.kwargs
        )
        try:
            _compare(samples, field, ours, theirs)
        finally:
            ours.cleanup()
    finally:
        dataset.delete()


def _compare(samples: Any, field: str | None, ours: Any, theirs: Any) -> None:
    assert ours.total_index_size == theirs.total_index_size > 0
    embeddings, sample_ids, label_ids = theirs.get_embeddings()
    if field:
        pairs = dict(zip(label_ids, sample_ids, strict=True))
        assert dict(zip(ours.label_ids, ours.sample_ids, strict=True)) == pairs
    ids = list(sample_ids if label_ids is None else label_ids)
    assert sorted(ours.label_ids if field else ours.sample_ids) == sorted(ids)

    # Their embeddings are centred, which changes no L2 distance
    query = ids[len(ids) // 2]
    row = oracle.distances("euclidean", embeddings[ids.index(query)], embeddings)[0]
    true = dict(zip(ids, row.tolist(), strict=True))
    views = [samples, samples.limit(3)]
    if field not in (None, "single"):
        views.append(samples.to_patches(field))
    for view, k, reverse in itertools.product(views, (4, None), (False, True)):
        sort = {"k": k, "reverse": reverse}
        expected = view.sort_by_similarity(query, **sort, brain_key="theirs")
        got = view.sort_by_similarity(query, **sort, brain_key="ours")
        path = "id"
        if field and not isinstance(view, PatchesView):
            _, path = view._get_label_field_path(field, "id")
        inside = {_id: true[_id] for _id in view.values(path, unwind=True) if _id in true}
        found = got.values(path, unwind=True)
        assert len(found) == len(expected.values(path, unwind=True))
        assert set(found) <= set(inside)
        wanted = len(inside) if k is None else k
        assert oracle.recall(found, inside, wanted, reverse=reverse) == 1.0
        if path == "id":
            oracle.check_ranking(found, inside, k, reverse=reverse, atol=2e-3)
