"""Groups of near-duplicates: of which every two are within a distance, as numpy and scipy say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from fiftyone_milvus.curation import grouping
from fiftyone_milvus.curation import linkage as ours
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.neighborhoods import Vectors
from fiftyone_milvus.plugin import review
from tests.support import oracle
from tests.support.indexes import Indexed, index_images, index_patches, one_line, vectors
from tests.support.once import one_engine


def check_promise(square: np.ndarray, thresh: float, groups: list[list[int]]) -> None:
    """Every two of a group are within the distance, and nothing could be added or joined."""
    inside = [i for group in groups for i in group]
    assert len(inside) == len(set(inside))
    units = [*groups, *([i] for i in range(len(square)) if i not in set(inside))]
    far = square > thresh
    np.fill_diagonal(far, False)
    for at, group in enumerate(units):
        assert not far[np.ix_(group, group)].any()
        assert all(far[np.ix_(group, other)].any() for other in units[:at])


def pairs_of(square: np.ndarray, thresh: float) -> tuple[np.ndarray, ...]:
    later, earlier = np.nonzero(np.tril(square <= thresh, -1))
    return later, earlier, square[later, earlier]


@settings(max_examples=60)
@given(st.integers(2, 40), st.integers(0, 2**32 - 1), st.floats(0.05, 1.5))
def test_linkage_is_that_of_scipy(count: int, seed: int, thresh: float) -> None:
    points = np.random.default_rng(seed).normal(size=(count, 2))
    square = np.linalg.norm(points[:, None] - points, axis=-1)
    found = ours.complete_linkage(count, pairs_of(square, thresh))
    assert {frozenset(group.tolist()) for group in found} == oracle.partition(square, thresh)
    assert [group[0] for group in found] == sorted(group[0] for group in found)


@settings(max_examples=60)
@given(st.integers(2, 40), st.integers(0, 2**32 - 1), st.integers(0, 4), st.booleans())
def test_ties_keep_the_promise(count: int, seed: int, thresh: int, joined: bool) -> None:
    """Of points on a grid, most distances are equal; some are joined first."""
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 6, size=(count, 2))
    square = np.abs(points[:, None] - points).sum(axis=-1).astype(float)
    same = [np.sort(rng.choice(count, 2, replace=False))] * 2 if joined else []
    found = ours.complete_linkage(count, pairs_of(square, thresh), same)
    again = ours.complete_linkage(count, pairs_of(square, thresh), same)
    assert [group.tolist() for group in found] == [group.tolist() for group in again]
    if joined:
        # As if the two were one, which is as far as its farther half
        a, b = same[0]
        assert any({a, b} <= {*group.tolist()} for group in found)
        square[[a, b]] = np.maximum(square[a], square[b])
        square[:, [a, b]] = square[[a, b]].T
        square[np.ix_([a, b], [a, b])] = 0
    check_promise(square, thresh, [group.tolist() for group in found])


def test_a_chain_is_no_group() -> None:
    line = np.arange(9.0)[:, None] * [1.0, 0.0]
    with Vectors.of(line, "euclidean") as points:
        groups = grouping.grouped(points, 1.0)
    assert [group.tolist() for group in groups] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_equal_vectors_make_no_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "MAX_PAIRS", 10)
    data = vectors(40)
    data[5:] = data[5]
    data[7] = data[0]
    with Vectors.of(data, "cosine") as points:
        groups = grouping.grouped(points, 1e-6)
        assert sorted(map(len, groups)) == [2, 34]
        with pytest.raises(InvalidInputError, match="More than 10 pairs") as error:
            grouping.grouped(points, 3.0)
    one_line(error.value)
    # By inner product, equal vectors are as far from each other as they are short
    with Vectors.of(np.full((3, 4), 0.1, np.float32), "dotproduct") as short:
        assert grouping.grouped(short, 0.5) == []


def check_groups(indexed: Indexed, groups: Any, thresh: float, order: list[str]) -> None:
    square = oracle.neighbors(indexed.metric, indexed.matrix(order))
    at = {i: place for place, i in enumerate(order)}
    members = [[at[i] for i in groups.members(n)] for n in range(1, len(groups) + 1)]
    assert {frozenset(group) for group in members} == oracle.partition(square, thresh)
    closest = []
    for number, group in enumerate(members, 1):
        inside = square[np.ix_(group, group)].copy()
        np.fill_diagonal(inside, 0)
        mean = inside.sum(axis=1) / (len(group) - 1)
        assert (np.diff(mean) >= -1e-6).all(), "the most central one is kept"
        rows = groups.groups == number
        np.testing.assert_allclose(groups.distances[rows], inside[0], atol=1e-5)
        assert groups.ranks[rows].tolist() == list(range(len(group)))
        closest.append(inside[0][1:].min())
    assert (np.diff(closest) >= -1e-6).all()
    assert groups.sizes.tolist() == [len(group) for group in members]
    assert groups.compared == len(order)
    assert set(groups.kept_ids) | set(groups.duplicate_ids) == set(groups.ids)


def test_groups_of_an_index(images: Indexed) -> None:
    order = list(images.index.current_sample_ids)
    thresh = oracle.clear_thresh(images.metric, images.matrix(order), 0.05)
    check_groups(images, images.index.find_groups(thresh), thresh, order)
    view = images.dataset.match(fo.ViewField("number") % 3 == 0)
    with images.index.use_view(view):
        order = list(images.index.current_sample_ids)
        groups = images.index.find_groups(thresh, "first")
    assert {*groups.ids} <= {*view.values("id")}
    firsts = [min(groups.members(n), key=order.index) for n in range(1, len(groups) + 1)]
    assert groups.kept_ids == firsts


def test_groups_of_patches(patches: Indexed) -> None:
    order = list(patches.index.current_label_ids)
    thresh = oracle.clear_thresh(patches.metric, patches.matrix(order), 0.05)
    groups = patches.index.find_groups(thresh)
    check_groups(patches, groups, thresh, order)
    assert groups.view(1).values("id") == groups.members(1)
    with pytest.raises(InvalidInputError, match="Patches in 'ground_truth'"):
        patches.index.find_groups(thresh, files=True)


def test_leaks_are_the_pairs_of_numpy(images: Indexed) -> None:
    dataset, index = images.dataset, images.index
    first = dataset.match(fo.ViewField("number") < 60)
    other = dataset.match(fo.ViewField("number") >= 200)
    square = oracle.distances(
        images.metric, images.matrix(first.values("id")), images.matrix(other.values("id"))
    )
    thresh = float(np.sort(square.ravel())[[40, 41]].mean())
    true = {
        (a, b): square[i, j]
        for i, a in enumerate(first.values("id"))
        for j, b in enumerate(other.values("id"))
        if square[i, j] <= thresh
    }
    leaks = index.find_leaks(first, other, thresh)
    assert {*zip(leaks.ids, leaks.other_ids, strict=True)} == {*true}
    expected = [true[pair] for pair in zip(leaks.ids, leaks.other_ids, strict=True)]
    np.testing.assert_allclose(leaks.distances, expected, atol=1e-5)
    assert (np.diff(leaks.distances) >= 0).all()
    assert leaks.compared == (60, 100)
    assert leaks.view().values("id") == list(dict.fromkeys(leaks.ids))
    assert leaks.other_view().values("id") == list(dict.fromkeys(leaks.other_ids))
    with pytest.raises(InvalidInputError, match="60 of the samples") as error:
        index.find_leaks(first, dataset, thresh)
    one_line(error.value)


# -- what is kept, files, the field: nothing of an engine ------------------------------------------


@pytest.fixture
def photos(tmp_path: Path, engine: Any, dropped: list[Indexed]) -> Iterator[fo.Dataset]:
    """Two groups of three photos, and one alone; the first two of each group are the same file."""
    rng = np.random.default_rng(5)
    dataset = fo.Dataset()
    data = vectors(3, clusters=3)
    rows, samples = [], []
    for scene in range(3):
        image = Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8))
        small = image.resize((30, 20)).filter(ImageFilter.GaussianBlur(2))
        for copy, picture in enumerate((small, small, image) if scene < 2 else (image,)):
            exif = Image.Exif()
            if copy == 2:
                exif[0x0132] = "2001:02:03 04:05:06"
            path = tmp_path / f"{scene}-{copy}.png"
            picture.save(path, exif=exif)
            samples.append(
                fo.Sample(filepath=str(path), year=[2020, 1999, None][copy], scene=scene)
            )
            # The embeddings of a file's copies differ, but not those of the large photo and one
            rows.append(data[scene] + np.float32([0.0, 0.03, 0.001][copy]))
    dataset.add_samples(samples)
    dataset.limit(2).skip(1).tag_samples("gold")
    index = fob.compute_similarity(
        dataset, embeddings=np.stack(rows), brain_key="sim", backend="milvus",
        metric="euclidean", **engine.kwargs,
    )  # fmt: skip
    yield dataset
    index.cleanup()
    dataset.delete()


@one_engine
def test_copies_of_files_are_in_one_group(photos: fo.Dataset) -> None:
    index, ids = photos.load_brain_results("sim"), photos.values("id")
    apart = index.find_groups(0.01)
    assert {frozenset(apart.members(n)) for n in (1, 2)} == {
        frozenset([ids[0], ids[2]]), frozenset([ids[3], ids[5]]),
    }  # fmt: skip
    # The large photo is near one copy, and not near the other: it can't join both
    files = index.find_groups(0.01, files=True)
    assert {frozenset(files.members(n)) for n in (1, 2)} == {
        frozenset(ids[:2]), frozenset(ids[3:5]),
    }  # fmt: skip
    assert files.distances.tolist() == [0.0] * 4
    assert files.unread_files == 0
    both = index.find_groups(20.0, files=True)
    assert set(both.members(1)) == set(ids), "all within a large distance"
    Path(photos.last().filepath).unlink()
    missing = index.find_groups(0.01, files=True)
    assert missing.unread_files == 1
    assert "1 files could not be read" in str(missing)


@one_engine
@pytest.mark.parametrize(
    ("keep", "kept", "unknown"),
    [
        ("first", 0, 0), ("central", 2, 0), ("sharpest", 2, 0), ("largest", 2, 0),
        ("oldest", 2, 4), ("oldest:year", 1, 2), ("tag:gold", 1, 0),
    ],
)  # fmt: skip
def test_what_is_kept(photos: fo.Dataset, keep: str, kept: int, unknown: int) -> None:
    index, ids = photos.load_brain_results("sim"), photos.values("id")
    scene = photos.match(fo.ViewField("scene") < 2)
    with index.use_view(scene):
        # Every photo of a scene is within this distance, and the scenes are farther apart
        groups = index.find_groups(0.2, keep)
    assert len(groups) == 2
    first = next(n for n in (1, 2) if ids[0] in groups.members(n))
    second = 3 - first
    assert groups.members(first)[0] == ids[kept]
    assert groups.unknown == unknown
    if keep not in ("tag:gold",):
        assert groups.members(second)[0] == ids[3 + kept]
    assert (f"keep='{keep}' knows nothing of {unknown}" in str(groups)) == (unknown > 0)


@one_engine
def test_the_review_shows_what_is_saved(engine: Any, dropped: list[Indexed]) -> None:
    indexed = index_images(engine, 80, "cosine")
    dropped.append(indexed)
    dataset, index = indexed.dataset, indexed.index
    before = dataset.values("last_modified_at")
    thresh = oracle.clear_thresh("cosine", indexed.matrix(), 0.05)
    groups = index.find_groups(thresh)
    assert groups.save() == "duplicates"
    assert dataset.values("last_modified_at") == before, "a note of ours is no edit"
    stored = dict(zip(*dataset.exists("duplicates").values(["id", "duplicates"]), strict=True))
    assert {*stored} == {*groups.ids}
    kept = groups.kept_ids
    for i, group, rank in zip(groups.ids, groups.groups, groups.ranks, strict=True):
        own = stored[i]
        assert (own.group, own.rank, own.keep) == (group, rank, rank == 0)
        assert own.duplicate_of == (kept[group - 1] if rank else None)
    grouped = dataset.exists("duplicates").group_by("duplicates.group", order_by="duplicates.rank")
    assert len(grouped) == len(groups)

    found = review.load(dataset, index.key, again=True)
    assert found is not None
    assert found.ids[found.members(1)[0]] == groups.members(1)[0]
    assert found.thresh == thresh
    found.decide(found.duplicates, review.DELETE)
    assert len(dataset.match_tags(review.DELETE)) == len(groups.duplicate_ids)

    # Others, and their decisions, are replaced
    fewer = index.find_groups(float(np.sort(groups.distances[groups.distances > 0])[3]))
    fewer.save()
    assert {*dataset.exists("duplicates").values("id")} == {*fewer.ids} < {*groups.ids}
    assert len(dataset.match_tags(review.DELETE)) == 0

    # A new one is compared with the groups that are there
    one = fewer.members(1)[0]
    arrival = index.check_new(indexed.vectors[one], thresh)
    assert arrival.ids[0] == one
    assert not arrival.is_new
    near = {i for i, d in indexed.true(one).items() if d <= thresh}
    assert {*arrival.ids} == near
    joins = [n for n in range(1, len(fewer) + 1) if {*fewer.members(n)} <= near]
    assert arrival.groups == joins
    assert 1 in joins
    assert arrival.view().first().id == one
    assert index.check_new(-indexed.vectors[one], 0.01).is_new

    dataset.add_sample_field("other", fo.StringField)
    dataset.rename_sample_field("duplicates", "mine")
    dataset.add_sample_field("duplicates", fo.StringField)
    with pytest.raises(InvalidInputError, match="a field 'duplicates' that is not"):
        groups.save()


@one_engine
def test_groups_of_patches_are_attributes(engine: Any, dropped: list[Indexed]) -> None:
    indexed = index_patches(engine, 30, "euclidean")
    dropped.append(indexed)
    thresh = oracle.clear_thresh("euclidean", indexed.matrix(), 0.05)
    groups = indexed.index.find_groups(thresh, "largest")
    assert groups.save() == "ground_truth.detections.duplicates"
    found = review.load(indexed.dataset, indexed.index.key, again=True)
    assert found is not None
    assert [found.ids[i] for i in found.members(2)] == groups.members(2)
    arrival = indexed.index.check_new(indexed.vectors[groups.kept_ids[0]], thresh)
    assert 1 in arrival.groups


@one_engine
def test_leaks_into_another_index(engine: Any, dropped: list[Indexed]) -> None:
    one, two = index_images(engine, 50, "cosine"), index_images(engine, 40, "cosine")
    third = index_images(engine, 5, "euclidean")
    dropped += [one, two, third]
    square = oracle.distances("cosine", one.matrix(), two.matrix())
    thresh = float(np.sort(square.ravel())[[20, 21]].mean())
    leaks = one.index.find_leaks(one.dataset, two.index, thresh)
    true = {(one.ids[i], two.ids[j]) for i, j in zip(*np.nonzero(square <= thresh), strict=True)}
    assert {*zip(leaks.ids, leaks.other_ids, strict=True)} == true
    assert {*leaks.other_view().values("id")} == {other for _, other in true}
    with pytest.raises(InvalidInputError, match=r"The metric of index .* is 'euclidean'"):
        one.index.find_leaks(one.dataset, third.index, 0.1)


@one_engine
@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda i: i.find_groups("near"), "Invalid thresh 'near'"),
        (lambda i: i.find_groups(0.1, "best"), "Unknown keep 'best'"),
        (lambda i: i.find_groups(0.1, "oldest:nothing"), "no field 'nothing'"),
        (lambda i: i.find_groups(0.1, files="yes"), "Invalid files"),
        (lambda i: i.find_groups(0.1).members(0), "Unknown group 0"),
        (lambda i: i.check_new(np.ones((2, 16)), 0.1), "Got 2 queries"),
        (lambda i: i.find_leaks("train", "test", 0.1), "Invalid samples 'train'"),
    ],
)
def test_what_is_refused(cosine_images: Indexed, ask: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as error:
        ask(cosine_images.index)
    one_line(error.value)


@one_engine
@pytest.mark.parametrize("make", [index_images, index_patches])
def test_deleted_samples_are_left_out(
    engine: Any, dropped: list[Indexed], make: Callable[..., Indexed]
) -> None:
    indexed = make(engine, 30, "cosine")
    dropped.append(indexed)
    dataset, index = indexed.dataset, indexed.index
    assert len(index.find_groups(-1.0)) == 0
    before = index.find_groups(0.1)
    gone = before.members(1)[0]
    sample = indexed.samples[gone]
    lost = {i for i, owner in indexed.samples.items() if owner == sample}
    dataset.delete_samples(sample)
    groups = index.find_groups(0.1, "oldest")
    assert groups.stale == len(lost)
    assert groups.compared == len(indexed.ids) - len(lost)
    assert not lost & {*groups.ids}
    assert "rows of deleted samples were left out" in str(groups)
    groups.save()
    rest = dataset.limit(10)
    leaks = index.find_leaks(rest, dataset.skip(10), 0.1)
    assert not lost & {*leaks.ids, *leaks.other_ids}
    if make is index_patches:
        assert index.find_label_errors("label").stale == len(lost)
    index.remove_from_index(**{"label_ids" if make is index_patches else "sample_ids": indexed.ids},
                            allow_missing=True)  # fmt: skip
    assert len(index.find_groups(0.1)) == 0
