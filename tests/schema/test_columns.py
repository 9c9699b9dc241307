"""Names and kinds of the columns that hold FiftyOne fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiftyone as fo
import pytest

from fiftyone_milvus.backend import MilvusSimilarityConfig
from fiftyone_milvus.errors import InvalidInputError
from fiftyone_milvus.fields.values import as_milvus
from fiftyone_milvus.schema.columns import Column, Kind, label_attribute, resolve_columns
from fiftyone_milvus.schema.layout import PK, SAMPLE_ID, VECTOR
from fiftyone_milvus.schema.record import Record
from tests.support.indexes import unique


@pytest.fixture(scope="module")
def dataset() -> Iterator[fo.Dataset]:
    dataset = fo.Dataset(unique("columns"))
    for name in ("split", "split_set", "in", "Like", "pk", "vector", "json_x", "a b", "ünï"):
        dataset.add_sample_field(name, fo.StringField)
    dataset.add_sample_field("a_b", fo.StringField)
    dataset.add_sample_field(
        "ground_truth", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections
    )
    dataset.add_sample_field("box", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detection)
    dataset.add_sample_field("anything", fo.ListField)
    dataset.add_sample_field("numbers", fo.ListField, subfield=fo.IntField)
    yield dataset
    dataset.delete()


def test_names_are_the_paths(dataset: fo.Dataset) -> None:
    columns = resolve_columns(
        dataset, None, ["split", "metadata.size_bytes", "ground_truth.detections.label"]
    )
    assert [(c.name, c.presence) for c in columns] == [
        ("split", "split_set"),
        ("metadata_size_bytes", "metadata_size_bytes_set"),
        ("ground_truth_detections_label", "ground_truth_detections_label_set"),
    ]


def test_names_are_unique_and_milvus_takes_them(dataset: fo.Dataset) -> None:
    paths = ["split", "split_set", "in", "Like", "pk", "vector", "json_x", "a b", "a_b", "ünï"]
    columns = resolve_columns(dataset, None, paths)
    names = [name for column in columns for name in (column.name, column.presence)]
    assert len({name.lower() for name in names}) == len(names)
    assert not {PK, VECTOR, SAMPLE_ID, "in", "like"} & {name.lower() for name in names}
    assert all(name.isascii() and name.isidentifier() and name[0].isalpha() for name in names)
    assert resolve_columns(dataset, None, ["split_set", "split"])[1].name != "split"


@pytest.mark.parametrize("path", ["ground_truth.label", "ground_truth.detections.label"])
def test_a_patch_s_label_has_two_paths(dataset: fo.Dataset, path: str) -> None:
    (column,) = resolve_columns(dataset, "ground_truth", [path])
    assert (column.kind, column.on_label) == (Kind.STRING, True)
    assert label_attribute(dataset, "ground_truth", path) == "label"
    assert label_attribute(dataset, None, path) is None


def test_a_list_of_labels_is_a_list_of_strings(dataset: fo.Dataset) -> None:
    (column,) = resolve_columns(dataset, None, ["ground_truth.detections.label"])
    assert (column.kind, column.on_label) == (Kind.STRINGS, False)
    (column,) = resolve_columns(dataset, "box", ["box.label"])
    assert (column.kind, column.on_label) == (Kind.STRING, True)
    (column,) = resolve_columns(dataset, "box", ["ground_truth.detections.label"])
    assert (column.kind, column.on_label) == (Kind.STRINGS, False)


@pytest.mark.parametrize(
    "path", ["anything", "numbers", "ground_truth", "id", "ground_truth.label", "split.x", "."]
)
def test_other_fields_are_refused(dataset: fo.Dataset, path: str) -> None:
    with pytest.raises(InvalidInputError, match="'"):
        resolve_columns(dataset, None, [path])


def test_a_record_reads_back() -> None:
    columns = (Column("a.b", "a_b", Kind.STRINGS, True), Column("c", "c", Kind.DATETIME))
    record = Record(columns, "id", 12)
    assert Record.from_dict(record.to_dict()) == record
    assert Record.from_dict({}) is None
    assert as_milvus(columns, (None, 5)) == {"a_b": [], "a_b_set": False, "c": 5, "c_set": True}


@pytest.mark.parametrize("fields", [None, []])
def test_no_fields_is_none(fields: Any) -> None:
    assert MilvusSimilarityConfig(fields=fields).fields is None
