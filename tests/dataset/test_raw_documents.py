"""IDs read as bytes, against what pymongo reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiftyone as fo
import pytest
from bson import ObjectId
from pymongo import ReadPreference
from pymongo.errors import OperationFailure

from fiftyone_milvus.dataset import object_ids, raw_documents
from tests.support.indexes import unique

ROWS = 1_234


@pytest.fixture(scope="module")
def dataset() -> Iterator[fo.Dataset]:
    dataset = fo.Dataset(unique("raw"))
    documents = [{"_id": ObjectId()} for _ in range(ROWS)]
    # An ID that looks like the field that holds a batch
    documents[0]["_id"] = ObjectId(b"\x04firstBatch\x00")
    dataset._sample_collection.insert_many(documents)
    yield dataset
    dataset.delete()


def truth(dataset: fo.Dataset, stages: list[Any]) -> list[str]:
    return [str(doc["_id"]) for doc in dataset._sample_collection.aggregate(stages)]


@pytest.mark.parametrize("batch", [1, 9, 10, 11, 1_000, 1 << 18])
def test_batches_of_any_size(
    dataset: fo.Dataset, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_documents, "_BATCH", batch)
    for rows in (1, 9, 10, 11, 100, 101, ROWS):
        view = dataset.limit(rows)
        assert object_ids.sample_ids(view) == truth(dataset, [{"$limit": rows}])
    assert object_ids.sample_ids(dataset.match({"filepath": "none"})) == []


def test_other_servers_than_the_primary(dataset: fo.Dataset) -> None:
    """Where a cursor may be on any of several servers, pymongo's own one is used."""
    other = ReadPreference.SECONDARY_PREFERRED
    collection = dataset._sample_collection.with_options(read_preference=other)
    stages: list[Any] = [{"$sort": {"_id": -1}}, {"$project": {"_id": True}}]
    found = raw_documents.aggregate(collection, stages, 22, slice(9, 21))
    assert object_ids.to_strings(found.view("S12").ravel()) == truth(dataset, stages)


def test_a_pipeline_that_mongodb_refuses(dataset: fo.Dataset) -> None:
    with pytest.raises(OperationFailure, match="Unrecognized pipeline stage"):
        raw_documents.aggregate(dataset._sample_collection, [{"$no": 1}], 22, slice(9, 21))
