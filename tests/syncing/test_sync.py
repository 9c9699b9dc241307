"""sync() brings an index up to date with its dataset."""

from __future__ import annotations

import logging
import time

import fiftyone as fo
import numpy as np
import pytest
from fiftyone import ViewField as F
from PIL import Image

from fiftyone_milvus.errors import DimensionMismatchError, InvalidInputError
from tests.support.indexes import KEY, unique
from tests.syncing.shades import (
    DIM,
    Shade,
    content,
    counts,
    expected,
    one_engine,
    patches,
    sample,
    truth,
)


def test_an_index_follows_its_dataset(make, dataset, files):
    index = make(dataset)
    assert index.total_index_size == 0
    model = Shade()
    report = index.sync(model=model, batch_size=8)
    assert counts(report) == (30, 0, 0, 0, 0)
    assert report.seconds > report.comparing > 0
    assert report.rate > 0
    assert model.images == 30
    assert content(index) == expected(dataset)

    assert counts(index.sync(model=model)) == (0, 0, 0, 30, 0)
    assert model.images == 30, "an index that is up to date embeds nothing"

    dataset.add_samples([sample(path) for path in files[30:]])
    dataset.delete_samples(dataset[3:8].values("id"))
    report = index.sync(model=model)
    assert counts(report) == (10, 0, 5, 25, 0)
    assert model.images == 40
    assert content(index) == expected(dataset)
    assert "10 added, 5 removed, 25 unchanged in" in str(report)

    # The index serves as any other
    first = dataset.first()
    found = dataset.sort_by_similarity(first.id, k=3, brain_key=KEY).first()
    assert truth(found.number) @ truth(first.number) == max(
        truth(n) @ truth(first.number) for n in dataset.values("number")
    )


def test_a_later_session_goes_on(make, dataset, engine):
    index = make(dataset)
    index.sync(dataset.limit(12), model=Shade())
    dataset.clear_cache()
    later = dataset.load_brain_results(KEY, cache=False, **engine.kwargs)
    model = Shade()
    assert counts(later.sync(model=model)) == (18, 0, 0, 12, 0)
    assert model.images == 18
    assert content(later) == expected(dataset)


def test_a_view_is_added_and_nothing_else_is_touched(make, dataset):
    index = make(dataset)
    index.sync(dataset.match(F("number") < 10), model=Shade())
    assert content(index) == expected(dataset.match(F("number") < 10))
    report = index.sync(dataset.match(F("number") >= 20).sort_by("number"), model=Shade())
    assert counts(report) == (10, 0, 0, 0, 0)
    assert set(content(index)) == set(expected(dataset)) - set(dataset[10:20].values("id"))


def test_what_is_gone_stays_unless_pruned(make, dataset):
    index = make(dataset)
    index.sync(model=Shade())
    gone = dataset[:7].values("id")
    dataset.delete_samples(gone)
    assert counts(index.sync(model=Shade(), prune=False)) == (0, 0, 0, 23, 0)
    assert set(gone) < set(content(index))
    assert counts(index.sync(dataset.limit(1), model=Shade())) == (0, 0, 7, 1, 0)
    assert content(index) == expected(dataset)


# -- patches ---------------------------------------------------------------------------------


def test_patches(make, pages):
    index = make(pages, patches_field="objects")
    model = Shade()
    report = index.sync(pages.filter_labels("objects", F("label") == "b"), model=model)
    assert content(index) == patches(pages, "b")
    assert counts(report) == (len(patches(pages, "b")), 0, 0, 0, 0)
    assert model.images == report.added, "patches that were not asked for are not embedded"

    report = index.sync(model=model)
    assert content(index) == patches(pages)
    assert model.images == len(patches(pages)), "patches that were there are not embedded"
    _, sample_ids, label_ids = index.get_embeddings()
    owners = {d.id: s.id for s in pages for d in (s.objects.detections if s.objects else [])}
    assert dict(zip(label_ids, sample_ids)) == owners

    for s in pages.match(F("number") > 20):
        if s.objects is not None and s.objects.detections:
            s.objects.detections = [*s.objects.detections[1:], fo.Detection(label="c")]
            s.objects.detections[-1].bounding_box = [0.1, 0.1, 0.5, 0.5]
            s.save()
    changed = len(pages.match((F("number") > 20) & (F("objects.detections").length() > 0)))
    report = index.sync(model=model)
    assert (report.added, report.removed) == (changed, changed)
    assert content(index) == patches(pages)


def test_a_view_of_patches(make, pages):
    index = make(pages, patches_field="objects")
    view = pages.to_patches("objects").match(F("objects.label") == "a")
    assert index.sync(view, model=Shade()).added == len(view)
    assert content(index) == patches(pages, "a")


# -- where embeddings come from --------------------------------------------------------------


@one_engine
def test_embeddings_of_a_field(make, dataset):
    for s in dataset:
        s["vector"] = truth(s.number) if s.number != 4 else None
        s.save()
    index = make(dataset, model=None)
    report = index.sync(embeddings="vector")
    missing = dataset.match(F("number") == 4).first().id
    assert dict(report.failed) == {missing: "field 'vector' has no embedding"}
    assert content(index) == expected(dataset.match(F("number") != 4))


@one_engine
def test_embeddings_of_an_array_or_a_dict(make, dataset):
    index = make(dataset, model=None)
    view = dataset.sort_by("number", reverse=True)
    array = np.array([truth(n) for n in view.values("number")])
    index.sync(view.limit(10), embeddings=array[:10].astype(np.float64))
    assert index.sync(view, embeddings=array).added == 20
    assert content(index) == expected(dataset)

    with pytest.raises(InvalidInputError, match="29 embeddings but 30 samples"):
        index.sync(embeddings=array[1:])

    other = make(dataset, model=None, brain_key="other")
    some = {s.id: truth(s.number) for s in dataset.limit(9)}
    report = other.sync(embeddings=some)
    assert (report.added, len(report.failed)) == (9, 21)
    assert content(other) == expected(dataset.limit(9))


@one_engine
def test_patch_embeddings_of_a_dict_or_a_list(make, pages):
    index = make(pages, model=None, patches_field="objects")
    per_sample = [
        np.array([truth(s.number)] * len(s.objects.detections))
        if s.objects is not None and s.objects.detections
        else None
        for s in pages
    ]
    index.sync(
        pages.filter_labels("objects", F("label") == "a"),
        embeddings=dict(zip(pages.values("id"), per_sample)),
    )
    assert content(index) == patches(pages, "a")
    index.sync(embeddings=per_sample)
    assert content(index) == patches(pages)


@one_engine
def test_the_model_that_the_index_was_made_with(make, colours):
    index = make(colours, model="contract-colours", metric="cosine")
    assert index.sync().added == 30
    red = colours.sort_by_similarity("something red", k=10, brain_key=KEY)
    assert red.values("colour") == ["red"] * 10


@one_engine
def test_one_model_per_group_slice(make, files):
    dataset = fo.Dataset(unique("sync_groups"))
    dataset.add_group_field("group", default="left")
    for left, right in zip(files[:6], files[6:12]):
        group = fo.Group()
        dataset.add_samples(
            [
                sample(left, group=group.element("left")),
                sample(right, group=group.element("right")),
            ]
        )
    index = make(dataset)
    right = dataset.select_group_slices("right")
    assert counts(index.sync(right, model=Shade())) == (6, 0, 0, 0, 0)
    assert counts(index.sync(dataset.select_group_slices("left"), model=Shade())) == (6, 0, 0, 0, 0)
    assert content(index) == expected(dataset.select_group_slices(["left", "right"]))
    dataset.delete()


# -- failures --------------------------------------------------------------------------------


@one_engine
@pytest.mark.parametrize("batch_size", [None, 8])
def test_a_bad_image_costs_only_itself(make, dataset, caplog, batch_size):
    index = make(dataset)
    bad = {s.id: s for s in dataset.match(F("number").is_in([5, 17]))}
    model = Shade(bad={15, 51})
    with caplog.at_level(logging.WARNING, logger="fiftyone"):
        report = index.sync(model=model, batch_size=batch_size)
    assert dict(report.failed) == {
        _id: f"RuntimeError: red {3 * s.number} is not for me" for _id, s in bad.items()
    }
    warned = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    warned = [line for line in warned if line.startswith("No embedding of")]
    assert len(warned) == 2
    assert all(any(_id in line for line in warned) for _id in bad)
    assert content(index) == expected(dataset.exclude(list(bad)))

    again = Shade()
    assert counts(index.sync(model=again)) == (2, 0, 0, 28, 0)
    assert again.images == 2, "only what failed is tried again"
    assert content(index) == expected(dataset)


@one_engine
def test_an_unreadable_file_and_an_unusable_embedding(make, dataset, tmp_path):
    torn = tmp_path / "007.png"
    torn.write_bytes(b"no image")
    dataset.add_sample(sample(str(torn)))
    nan = dataset.match(F("number") == 9).first().id
    index = make(dataset)
    report = index.sync(model=Shade(nan={27}), batch_size=4)
    assert set(report.failed) == {dataset.last().id, nan}
    assert report.failed[nan] == "its embedding contains NaN or infinity"
    assert content(index) == expected(dataset[:30].exclude([nan]))


@one_engine
def test_failures_that_are_not_to_be_skipped(make, dataset):
    index = make(dataset)
    with pytest.raises(RuntimeError, match="red 15"):
        index.sync(model=Shade(bad={15}), skip_failures=False, batch_size=5)
    with pytest.raises(InvalidInputError, match="NaN or infinity"):
        index.sync(model=Shade(nan={27}), skip_failures=False, batch_size=5)
    assert counts(index.sync(model=Shade())) == (30, 0, 0, 0, 0)


def test_interrupted_in_the_middle(make, dataset, caplog):
    dataset.add_samples([sample(s.filepath) for s in dataset for _ in range(9)])
    index = make(dataset)
    model = Shade()
    model.stop_at = 200
    with pytest.raises(KeyboardInterrupt):
        index.sync(model=model, batch_size=16)
    before = content(index)
    assert 0 < len(before) < 300
    assert before.items() <= expected(dataset).items()
    model.stop_at, model.images = None, 0
    report = index.sync(model=model)
    assert report.unchanged == len(before)
    assert model.images == report.added == 300 - len(before)
    assert content(index) == expected(dataset)


def test_another_dimension(make, dataset):
    index = make(dataset)
    index.sync(dataset.limit(5), model=Shade())
    dataset.delete_samples(dataset.limit(1).values("id"))
    with pytest.raises(DimensionMismatchError, match="3 dimensions but the index has 5"):
        index.sync(embeddings=np.ones((29, 3)))
    assert index.total_index_size == 5, "nothing was removed either"


@one_engine
def test_bad_arguments(make, dataset):
    index = make(dataset, model=None)
    other = fo.Dataset(unique("other"))
    for kwargs, message in [
        ({"samples": other}, "is not the one of this index"),
        ({"samples": ["id"]}, "expected the dataset or a view"),
        ({"batch_size": 0}, "Invalid batch_size 0"),
        ({"batch_size": "many"}, "Invalid batch_size 'many'"),
        ({"model": Shade(), "embeddings": np.ones((30, 5))}, "either model or embeddings"),
        ({"fields": True, "model": Shade()}, "has no metadata fields"),
        ({"fields": ["tags"], "model": Shade()}, "expected True or False"),
        ({"embeddings": "nothing"}, "There is no field 'nothing'"),
        ({"embeddings": 7}, "expected a field, an array or a dict"),
        ({"embeddings": np.ones((3, 5))}, "3 embeddings but 30"),
        ({}, "give model= or embeddings="),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            index.sync(**kwargs)
    assert not index.config.connect().client.has_collection(index.config.collection_name)
    other.delete()


# -- refresh, fields, others' collections ----------------------------------------------------


def test_refresh(make, dataset, files, tmp_path):
    own = tmp_path / "011.png"
    Image.open(files[11]).save(own)
    written = dataset.match(F("number") == 11).first()
    written.filepath = str(own)
    written.save()
    index = make(dataset)
    index.sync(model=Shade())

    edited = dataset.match(F("number") == 2).first()
    edited.filepath, edited["number"] = files[35], 35
    edited.save()
    time.sleep(0.01)
    Image.open(files[36]).save(own)
    assert counts(index.sync(model=Shade())) == (0, 0, 0, 30, 0), "unless asked to"

    model = Shade()
    report = index.sync(model=model, refresh=True)
    assert counts(report) == (0, 2, 0, 28, 0)
    assert model.images == 2
    truths = expected(dataset)
    truths[written.id] = truth(36).tolist()
    assert content(index) == truths
    assert counts(index.sync(model=model, refresh=True)) == (0, 0, 0, 30, 0)


@one_engine
def test_refresh_of_patches(make, pages, files):
    index = make(pages, patches_field="objects")
    index.sync(model=Shade())
    page = pages.match(F("number") == 3).first()
    page.filepath, page["number"] = files[30], 30
    page.save()
    assert index.sync(model=Shade(), refresh=True).updated == 3
    assert content(index) == patches(pages)


@one_engine
def test_a_refresh_that_fails_is_owed(make, dataset, files):
    index = make(dataset)
    index.sync(model=Shade())
    edited = dataset.match(F("number") == 2).first()
    edited.filepath, edited["number"] = files[35], 35
    edited.save()
    assert counts(index.sync(model=Shade(bad={105}), refresh=True)) == (0, 0, 0, 30, 1)
    assert counts(index.sync(model=Shade(), refresh=True)) == (0, 1, 0, 29, 0)
    assert content(index) == expected(dataset)


def test_fields_follow_too(make, dataset, files):
    index = make(dataset, fields=["number", "tags"])
    index.sync(model=Shade())
    view = dataset.match(F("number") < 5)
    query = truth(0)
    assert index.explain(query, k=3, view=view).plan == "condition"

    dataset.match(F("number") == 2).tag_samples("two")
    dataset.add_samples([sample(path) for path in files[30:33]])
    report = index.sync(model=Shade())
    assert report.fields.updated == 1
    tagged = dataset.match_tags("two")
    assert index.explain(query, k=3, view=tagged).plan == "condition"
    found = index.search(query, k=3, filter='array_contains(tags, "two")')
    assert [str(i) for i in found.ids] == tagged.values("id")

    dataset.match(F("number") == 3).tag_samples("two")
    assert index.sync(model=Shade(), fields=False).fields is None
    assert index.sync(model=Shade(), fields=True).fields.updated == 1


def test_vectors_of_others_stay(make, dataset, engine, caplog):
    first = make(dataset)
    first.sync(model=Shade())
    other = fo.Dataset(unique("guest"))
    other.add_samples([sample(s.filepath) for s in dataset.limit(4)])
    guest = make(other, collection_name=first.config.collection_name)
    with caplog.at_level(logging.WARNING, logger="fiftyone"):
        report = guest.sync(model=Shade())
    assert (report.added, report.removed, report.kept) == (4, 0, 30)
    assert "30 vectors that belong to no sample of this dataset" in caplog.text
    assert content(first) == {**expected(dataset), **expected(other)}
    # Its owner may remove what is not of its dataset, unless the guest's run uses it
    report = first.sync(model=Shade())
    assert (report.removed, report.shared) == (0, 4)
    other.delete_brain_run(guest.key)
    assert first.sync(model=Shade()).removed == 4
    assert content(first) == expected(dataset)
    other.delete()


def test_keys_that_are_not_fiftyones_stay(make, dataset):
    index = make(dataset)
    index.sync(model=Shade())
    upper = dataset.first().id.upper()
    rows = np.ones((3, DIM), dtype=np.float32)
    index.add_to_index(rows, ['it\'s "odd" ü', upper, "f" * 24])
    strays = 2 if upper != dataset.first().id else 1
    report = index.sync(model=Shade())
    assert (report.removed, report.foreign) == (1, strays)
    assert index.total_index_size == 30 + strays


@one_engine
def test_progress_is_told(make, dataset):
    index = make(dataset)
    seen: list[int] = []
    index.sync(model=Shade(), progress=lambda bar: seen.append(bar.iteration))
    assert seen == sorted(seen)
    assert seen[-1] == 30
