"""Metadata fields: Milvus has the values of FiftyOne's database."""

from __future__ import annotations

import functools
import json
import logging
import math
from collections.abc import Callable, Iterator
from datetime import date, datetime, timezone
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from fiftyone import ViewField as F

from fiftyone_milvus.errors import CollectionMismatchError, InvalidInputError
from fiftyone_milvus.fields.store import FieldsReport
from fiftyone_milvus.schema.columns import NEUTRAL
from tests.conftest import Engine
from tests.support.indexes import KEY, Indexed, copy_of, one_line, unique, vectors
from tests.support.once import one_engine

TEXTS = ["plain", 'quo"ted', "back\\slash", "it's", "new\nline", "tab\t", "ünï 日本 🙂", "", None]
PATHS = [
    "split",
    "number",
    "score",
    "flag",
    "day",
    "moment",
    "tags",
    "metadata.width",
    "one.label",
    "ground_truth.detections.label",
]
PATCH_PATHS = ["ground_truth.label", "ground_truth.detections.size", "ground_truth.tags", "split"]


@functools.cache
def first_dataset(count: int) -> fo.Dataset:
    """Returns the dataset that :func:`make_dataset` makes copies of, which is much faster."""
    dataset = fo.Dataset(unique("fields"))
    samples = []
    for i in range(count):
        objects = [
            fo.Detection(
                label=None if i == 3 else f"label {(i + j) % 5}",
                tags=[f"tag {j}"] * j,
                size=i * 1.5 + j if j else None,
                bounding_box=[0.1, 0.1, 0.2, 0.2],
            )
            for j in range(i % 4)
        ]
        sample = fo.Sample(
            filepath=f"image-{i:06d}.jpg",
            tags=[t for t in TEXTS[i % 9 : i % 9 + 2] if t],
            split=TEXTS[i % 9],
            number=[i, -i, None, 2**40 + i][i % 4],
            score=[i / 7, -0.0, math.nan, None][i % 4],
            flag=[True, False, None][i % 3],
            day=date(1960 + i, 2, 28) if i % 5 else None,
            moment=datetime(2020, 1, 1, 12, 30, i, 123000) if i % 6 else None,
            one=fo.Classification(label=f"class {i % 3}") if i % 7 else None,
            ground_truth=fo.Detections(detections=objects) if i % 8 else None,
        )
        if i % 2:
            sample.metadata = fo.ImageMetadata(width=i)
        samples.append(sample)
    dataset.add_samples(samples, dynamic=True)
    return dataset


def make_dataset(count: int = 40) -> fo.Dataset:
    """Returns a dataset with a field of every kind, each missing here and there."""
    return copy_of(first_dataset(count))


def encoded(value: Any) -> Any:
    """Returns what Milvus must hold for a value that FiftyOne returns; None if nothing."""
    if isinstance(value, datetime):
        return round(value.replace(tzinfo=timezone.utc).timestamp() * 1000)
    if isinstance(value, date):
        return (value - date(1970, 1, 1)).days * 86_400_000
    if isinstance(value, list):
        return list(dict.fromkeys(v for v in value if v is not None))
    if isinstance(value, float) and math.isnan(value):
        return -math.inf
    return value


def expected(dataset: fo.Dataset, paths: list[str]) -> dict[str, dict[str, Any]]:
    """Returns the values of every sample, or of every patch, as FiftyOne itself reads them."""
    table: dict[str, dict[str, Any]] = {}
    if paths is PATCH_PATHS:
        for sample in dataset:
            for label in sample.ground_truth.detections if sample.ground_truth else []:
                values = [label.label, label.get_attribute_value("size", None), label.tags]
                table[label.id] = dict(zip(paths, map(encoded, [*values, sample.split])))
        return table
    columns = dataset.values(["id", *paths])
    for _id, *values in zip(*columns):
        table[_id] = dict(zip(paths, map(encoded, values)))
    return table


def stored(index: Any) -> dict[str, dict[str, Any]]:
    """Returns the values of every row, None where they are unset, as bare pymilvus reads them."""
    rows = index.client.query(
        index.config.collection_name,
        filter='pk not in [""]',
        output_fields=["*"],
        consistency_level="Strong",
    )
    columns = index._synced_fields.columns
    table = {}
    for row in rows:
        values = {}
        for column in columns:
            value = row[column.name]
            value = list(value) if isinstance(NEUTRAL[column.kind], list) else value
            if not row[column.presence]:
                assert value == NEUTRAL[column.kind]
                value = None
            values[column.path] = value
        table[row["pk"]] = values
    return table


def build(
    engine: Engine, dataset: fo.Dataset, fields: list[str] | None = PATHS, **kwargs: Any
) -> Indexed:
    """Returns an index of a dataset's samples with metadata fields."""
    data = vectors(len(dataset))
    kwargs = {"brain_key": KEY, **kwargs}
    index = fob.compute_similarity(
        dataset,
        embeddings=data,
        backend="milvus",
        metric="cosine",
        fields=fields,
        **engine.kwargs,
        **kwargs,
    )
    ids = dataset.values("id")
    return Indexed(dataset, index, "cosine", dict(zip(ids, data)), dict(engine.kwargs))


@pytest.fixture
def make(engine: Engine) -> Iterator[Callable[..., Indexed]]:
    """Makes indexes with fields of a new or given dataset."""
    made: list[Indexed] = []

    def get(dataset: fo.Dataset | None = None, **kwargs: Any) -> Indexed:
        made.append(build(engine, dataset or make_dataset(), **kwargs))
        return made[-1]

    yield get
    for indexed in reversed(made):
        indexed.drop()


@pytest.fixture
def patch_index(engine: Engine) -> Iterator[Any]:
    """An index of the detections of a new dataset, with fields."""
    dataset = make_dataset()
    index = fob.compute_similarity(
        dataset,
        patches_field="ground_truth",
        embeddings=False,
        brain_key=KEY,
        backend="milvus",
        metric="cosine",
        fields=PATCH_PATHS,
        **engine.kwargs,
    )
    patches = dataset.to_patches("ground_truth")
    sample_ids, label_ids = patches.values(["sample_id", "id"])
    index.add_to_index(vectors(len(label_ids)), sample_ids, label_ids=label_ids)
    yield index
    index.cleanup()
    dataset.delete()


def test_every_kind_is_stored_as_fiftyone_reads_it(make: Callable[..., Indexed]) -> None:
    indexed = make()
    assert indexed.index.fields == tuple(PATHS)
    assert indexed.index._synced_fields.fresh()
    found, true = stored(indexed.index), expected(indexed.dataset, PATHS)
    assert found.keys() == true.keys()
    assert all(found[i] == true[i] for i in true), next(
        (found[i], true[i]) for i in true if found[i] != true[i]
    )


def test_any_text_is_found_again(make: Callable[..., Indexed]) -> None:
    indexed = make()
    asked = []
    for text in filter(None, TEXTS):
        literal = json.dumps(text, ensure_ascii=False)
        asked.append((f"split == {literal}", F("split") == text))
        asked.append((f"array_contains(tags, {literal})", F("tags").contains(text)))
    for expression, path in asked:
        rows = indexed.index.client.query(
            indexed.index.config.collection_name,
            filter=expression,
            output_fields=["pk"],
            consistency_level="Strong",
        )
        true = indexed.dataset.match(path).values("id")
        assert true
        assert {row["pk"] for row in rows} == set(true)


def test_patches_have_their_labels_and_their_samples_fields(patch_index: Any) -> None:
    dataset = patch_index._samples._root_dataset
    assert stored(patch_index) == expected(dataset, PATCH_PATHS)
    assert [c.on_label for c in patch_index._synced_fields.columns] == [True, True, True, False]


def test_patches_are_brought_up_to_date(patch_index: Any) -> None:
    dataset = patch_index._samples._root_dataset
    dataset.filter_labels("ground_truth", F("label") == "label 1").tag_labels("reviewed")
    dataset.limit(9).set_field("split", F("filepath")).save()
    gone = dataset.skip(10).first()
    before = stored(patch_index)
    true = expected(dataset, PATCH_PATHS)
    assert not patch_index._synced_fields.fresh()
    report = patch_index.sync_fields(progress=False)
    assert report.updated == sum(before[i] != true[i] for i in true) > 0
    assert stored(patch_index) == true

    lost = [d.id for d in gone.ground_truth.detections]
    dataset.delete_labels(ids=lost)
    assert patch_index.sync_fields().updated == 0
    assert stored(patch_index) == true  # rows of deleted labels keep their values
    assert set(expected(dataset, PATCH_PATHS)) == set(true) - set(lost)


def _save(dataset: fo.Dataset) -> None:
    sample = dataset.first()
    sample["split"] = "saved"
    sample.save()


def _edit_label(dataset: fo.Dataset) -> None:
    sample = dataset.skip(1).first()
    sample.ground_truth.detections[0].label = "edited"
    sample.save()


def _add_again(dataset: fo.Dataset) -> None:
    dataset.delete_sample_field("split")
    dataset.add_sample_field("split", fo.StringField)


def _swap(dataset: fo.Dataset) -> None:
    dataset.add_sample_field("other", fo.StringField)
    dataset.rename_sample_field("split", "tmp")
    dataset.rename_sample_field("other", "split")


EDITS: dict[str, Callable[[fo.Dataset], Any]] = {
    "save": _save,
    "label": _edit_label,
    "set_values": lambda d: d.set_values("number", [7] * len(d)),
    "set_field": lambda d: d.set_field("split", F("filepath")).save(),
    "tag_samples": lambda d: d.limit(3).tag_samples("tagged"),
    "untag_samples": lambda d: d.untag_samples(["plain"]),
    "tag_labels": lambda d: d.limit(3).tag_labels("tagged"),
    "map_labels": lambda d: d.map_labels("ground_truth", {"label 1": "label 2"}).save(),
    "clear_sample_field": lambda d: d.clear_sample_field("split"),
    "clear_view": lambda d: d.limit(4).clear_sample_field("one"),
    "delete_labels": lambda d: d.delete_labels(view=d.limit(6), fields="ground_truth"),
    "delete_field_and_add_again": _add_again,
    "rename_field_into_place": _swap,
    "merge_samples": lambda d: d.merge_samples([fo.Sample(filepath=d.first().filepath, number=5)]),
    "set_label_values": lambda d: d.set_label_values(
        "one.label", {d.skip(1).first().one.id: "other"}
    ),
}


# Whether there was one is asked of MongoDB; what differs is how rows are changed in Milvus
@pytest.mark.parametrize(
    ("engine", "edit"),
    [
        *(("embedded", edit) for edit in EDITS),
        *(("server", edit) for edit in ("save", "set_values", "tag_samples", "delete_labels")),
    ],
    indirect=["engine"],
)
def test_no_edit_goes_unnoticed(make: Callable[..., Indexed], edit: str) -> None:
    indexed = make()
    fields = indexed.index._synced_fields
    before = stored(indexed.index)
    assert fields.fresh()
    EDITS[edit](indexed.dataset)
    true = expected(indexed.dataset, PATHS)
    differ = sum(before[i] != true[i] for i in true)
    assert not fields.fresh()
    report = indexed.index.sync_fields(progress=False)
    assert isinstance(report, FieldsReport)
    assert report.updated == differ <= report.checked <= len(true)
    assert fields.fresh()
    assert stored(indexed.index) == true
    assert indexed.index.sync_fields().checked == 0
    np.testing.assert_array_equal(indexed.index.get_embeddings(indexed.ids)[0], indexed.matrix())


def test_deleted_samples_keep_the_fields_fresh(make: Callable[..., Indexed]) -> None:
    indexed = make()
    before = stored(indexed.index)
    indexed.dataset.delete_samples(indexed.dataset.limit(3))
    assert indexed.index._synced_fields.fresh()
    assert indexed.index.sync_fields().updated == 0
    assert stored(indexed.index) == before


def test_only_what_changed_is_read(make: Callable[..., Indexed]) -> None:
    indexed = make()
    indexed.dataset.limit(3).tag_samples("tagged")
    assert indexed.index.sync_fields().checked == 3
    # A whole read finds nothing that a partial one left behind
    fields = indexed.index._synced_fields
    fields._set_watermark(fields.record, None)
    assert not fields.fresh()
    report = indexed.index.sync_fields()
    assert (report.checked, report.updated) == (len(indexed.dataset), 0)
    assert fields.fresh()


def test_new_samples_are_stale_until_they_are_added(make: Callable[..., Indexed]) -> None:
    indexed = make()
    fields = indexed.index._synced_fields
    new = fo.Sample(filepath="new.jpg", split="new", tags=["a"])
    (new_id,) = indexed.dataset.add_samples([new])
    assert not fields.fresh()
    indexed.index.add_to_index(vectors(1, seed=9), [new_id])
    assert fields.fresh()
    assert stored(indexed.index) == expected(indexed.dataset, PATHS)


def test_adding_some_does_not_hide_edits_of_others(make: Callable[..., Indexed]) -> None:
    indexed = make()
    fields = indexed.index._synced_fields
    indexed.dataset.skip(5).limit(1).tag_samples("tagged")
    (new_id,) = indexed.dataset.add_samples([fo.Sample(filepath="new.jpg", split="new")])
    indexed.index.add_to_index(vectors(1, seed=9), [new_id])
    assert stored(indexed.index)[new_id]["split"] == "new"
    assert not fields.fresh()
    indexed.index.sync_fields()
    assert fields.fresh()
    assert stored(indexed.index) == expected(indexed.dataset, PATHS)


def test_a_sync_by_another_process_is_noticed(make: Callable[..., Indexed]) -> None:
    indexed = make()
    other = _loaded_again(indexed)
    assert other._synced_fields.fresh()
    indexed.dataset.limit(2).tag_samples("tagged")
    assert not other._synced_fields.fresh()
    indexed.index.sync_fields()
    assert other._synced_fields.fresh()


def _loaded_again(indexed: Indexed) -> Any:
    indexed.dataset.clear_cache()
    index = indexed.dataset.load_brain_results(KEY, cache=False, **indexed.kwargs)
    assert index is not indexed.index
    return index


def test_staleness_is_said_once(
    make: Callable[..., Indexed], caplog: pytest.LogCaptureFixture
) -> None:
    indexed = make()
    indexed.dataset.limit(2).tag_samples("tagged")
    logger = logging.getLogger("fiftyone_milvus.fields.store")
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO):
            assert not indexed.index._synced_fields.fresh()
            assert not indexed.index._synced_fields.fresh()
    finally:
        logger.removeHandler(caplog.handler)
    said = {id(r): r.getMessage() for r in caplog.records if "not up to date" in r.getMessage()}
    assert len(said) == 1
    assert "index.sync_fields()" in next(iter(said.values()))


def test_a_field_that_is_gone_is_not_used(make: Callable[..., Indexed]) -> None:
    indexed = make()
    indexed.dataset.delete_sample_field("score")
    assert not indexed.index._synced_fields.fresh()
    with pytest.raises(InvalidInputError) as error:
        indexed.index.sync_fields()
    assert "'score'" in one_line(error.value)
    indexed.dataset.add_sample_field("score", fo.StringField)
    with pytest.raises(InvalidInputError) as error:
        indexed.index.sync_fields()
    assert "'score' is now a string" in one_line(error.value)


def test_a_string_that_is_too_long_is_refused_before_anything_is_written(engine: Engine) -> None:
    dataset = make_dataset(6)
    sample = dataset.last()
    for value in ("é" * 32_768, "ok"):
        sample["split"] = value
        sample.save()
        if value == "ok":
            indexed = build(engine, dataset, ["split"])
            break
        with pytest.raises(InvalidInputError) as error:
            build(engine, dataset, ["split"])
        message = one_line(error.value)
        assert "'split'" in message
        assert sample.id in message
        assert "65535 bytes" in message
        assert not dataset.list_brain_runs()

    # The longest that fits, and the longest list
    sample["split"] = "é" * 32_767 + "a"
    sample["tags"] = [f"tag {i}" for i in range(4_096)]
    sample.save()
    indexed.index.sync_fields()
    assert stored(indexed.index)[sample.id]["split"] == sample["split"]
    indexed.drop()


def test_a_list_that_is_too_long_is_refused(engine: Engine) -> None:
    dataset = make_dataset(6)
    sample = dataset.last()
    sample.tags = [f"tag {i}" for i in range(4_096)]
    sample.save()
    indexed = build(engine, dataset, ["tags"])
    assert stored(indexed.index)[sample.id]["tags"] == sample.tags
    sample.tags.append("one more")
    sample.save()
    with pytest.raises(InvalidInputError, match="4097 strings"):
        indexed.index.sync_fields()
    assert not indexed.index._synced_fields.fresh()
    indexed.drop()


@one_engine
@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ("split", "expected a list"),
        (["split", "split"], "twice"),
        ([""], "field name"),
        (["nowhere"], "'nowhere'"),
        (["one"], "'one'"),
        (["ground_truth.detections.bounding_box"], "list"),
        (["ground_truth.detections.size"], "list"),
        (["ground_truth.detections.tags"], "list"),
        (["frames.number"], "'frames.number'"),
        ([f"f{i}" for i in range(31)], "at most 30"),
    ],
)
def test_what_cannot_be_stored_is_refused_at_once(engine: Engine, fields: Any, what: str) -> None:
    dataset = make_dataset(4)
    with pytest.raises(InvalidInputError) as error:
        build(engine, dataset, fields)
    assert what in one_line(error.value)
    assert not dataset.list_brain_runs()
    dataset.delete()


def test_a_collection_with_the_fields_is_adopted(make: Callable[..., Indexed]) -> None:
    indexed = make()
    name = indexed.index.config.collection_name
    adopted = make(
        indexed.dataset, brain_key="again", collection_name=name, fields=["split", "number"]
    )
    assert adopted.index._synced_fields.fresh()
    assert stored(adopted.index) == expected(indexed.dataset, PATHS)


def test_a_collection_without_the_fields_is_refused(
    make: Callable[..., Indexed], engine: Engine
) -> None:
    plain = make(fields=None)
    name = plain.index.config.collection_name
    with pytest.raises(CollectionMismatchError) as error:
        build(engine, plain.dataset, ["split"], brain_key="again", collection_name=name)
    assert "'split'" in one_line(error.value)
    assert plain.dataset.list_brain_runs() == [KEY]


def test_a_run_without_fields_fills_those_of_its_collection(make: Callable[..., Indexed]) -> None:
    indexed = make()
    name = indexed.index.config.collection_name
    (new_id,) = indexed.dataset.add_samples([fo.Sample(filepath="new.jpg", split="new")])
    plain = make(indexed.dataset, brain_key="plain", collection_name=name, fields=None)
    assert plain.index.fields == ()
    assert plain.index._synced_fields is None
    assert stored(indexed.index) == expected(indexed.dataset, PATHS)
    assert stored(indexed.index)[new_id]["split"] == "new"
    assert indexed.index._synced_fields.fresh()
    with pytest.raises(InvalidInputError, match="no metadata fields"):
        plain.index.sync_fields()


def test_another_dataset_does_not_claim_the_fields(make: Callable[..., Indexed]) -> None:
    indexed = make()
    name = indexed.index.config.collection_name
    other = make(make_dataset(5), collection_name=name, fields=["split"])
    rows = stored(indexed.index)
    assert all(set(rows[i].values()) == {None} for i in other.dataset.values("id"))
    assert not other.index._synced_fields.fresh()
    with pytest.raises(InvalidInputError, match="another dataset"):
        other.index.sync_fields()
    assert not _loaded_again(indexed)._synced_fields.fresh()
    report = indexed.index.sync_fields()
    assert (report.checked, report.updated) == (len(indexed.dataset), 0)
    assert indexed.index._synced_fields.fresh()


def test_fields_survive_loading_and_renaming(make: Callable[..., Indexed]) -> None:
    indexed = make()
    indexed.dataset.rename_brain_run(KEY, "renamed")
    index = indexed.dataset.load_brain_results("renamed", cache=False, **indexed.kwargs)
    assert index.config.fields == PATHS
    assert index._synced_fields.fresh()
    assert stored(index) == expected(indexed.dataset, PATHS)


def test_every_slice_of_a_group_has_its_fields(engine: Engine) -> None:
    dataset = fo.Dataset(unique("groups"))
    dataset.add_group_field("group", default="left")
    samples = []
    for i in range(6):
        group = fo.Group()
        samples += [
            fo.Sample(filepath=f"{i}-{s}.jpg", split=f"{s} {i}", group=group.element(s))
            for s in ("left", "right")
        ]
    dataset.add_samples(samples)
    view = dataset.select_group_slices(["left", "right"])
    index = fob.compute_similarity(
        view,
        embeddings=vectors(12),
        brain_key=KEY,
        backend="milvus",
        fields=["split", "group.name"],
        **engine.kwargs,
    )
    values = dict(zip(view.values("id"), view.values("split")))
    assert {i: row["split"] for i, row in stored(index).items()} == values
    assert {row["group.name"] for row in stored(index).values()} == {"left", "right"}
    index.cleanup()
    dataset.delete()


def test_an_interrupted_sync_is_finished_by_the_next(
    make: Callable[..., Indexed], monkeypatch: pytest.MonkeyPatch
) -> None:
    indexed = make()
    indexed.dataset.set_values("number", list(range(len(indexed.dataset))))
    monkeypatch.setattr("fiftyone_milvus.fields.values.BATCH", 10)
    true_change, calls = indexed.index._collection.change, []

    def interrupted(values: Any) -> int:
        calls.append(len(values))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return true_change(values)

    monkeypatch.setattr(indexed.index._collection, "change", interrupted)
    with pytest.raises(KeyboardInterrupt):
        indexed.index.sync_fields()
    assert not indexed.index._synced_fields.fresh()
    monkeypatch.setattr(indexed.index._collection, "change", true_change)
    report = indexed.index.sync_fields()
    assert report.checked == len(indexed.dataset) > report.updated
    assert indexed.index._synced_fields.fresh()
    assert stored(indexed.index) == expected(indexed.dataset, PATHS)
