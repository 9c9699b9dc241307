"""The least similar: found by the engine, so that few rows are returned, and exactly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fiftyone import ViewField as F
from pymilvus import DataType, MilvusClient, MilvusException

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.embedded.markers import FARTHEST
from fiftyone_milvus.errors import EngineError
from tests.support import oracle
from tests.support.indexes import Indexed, index_images, unknown_id, vectors

COUNT, K = 1500, 12


@pytest.fixture(scope="module")
def one(engine: Any, metric: str) -> Iterator[Indexed]:
    indexed = index_images(engine, COUNT, metric, fields=["number"])
    # Rows of which some are deleted, replaced, and not in a segment yet
    gone = indexed.ids[5::97]
    indexed.index.remove_from_index(gone)
    replaced = indexed.ids[3::89]
    data = vectors(len(replaced), seed=3) * np.float32(2.5)
    indexed.index.add_to_index(data, np.array(replaced))
    indexed.vectors |= dict(zip(replaced, data, strict=True))
    for _id in set(gone) - set(replaced):
        del indexed.vectors[_id]
    yield indexed
    indexed.drop()


@pytest.fixture
def returned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were returned by each search."""
    counts: list[int] = []
    search = MilvusCollection.search

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = search(self, *args, **kwargs)
        counts.append(sum(len(hits.ids) for hits in found))
        return found

    monkeypatch.setattr(MilvusCollection, "search", spy)
    return counts


def views(indexed: Indexed) -> dict[str, Any]:
    dataset = indexed.dataset
    return {
        "all": None,
        "condition": dataset.match(F("number") < 700),
        "IDs": dataset.match(F("filepath").ends_with("7.jpg")),
        "few": dataset.select(indexed.ids[:5]),
        "none": dataset.select(unknown_id()),
    }


@pytest.mark.parametrize("what", ["all", "condition", "IDs", "few", "none"])
def test_what_is_farthest(one, engine, metric, what, returned):
    view = views(one)[what]
    inside = None if view is None else view.values("id")
    queries = vectors(3, seed=8)
    with one.index.use_view(one.dataset if view is None else view):
        ids, _, dists = one.index._kneighbors(queries, k=K, reverse=True, return_dists=True)
    for query, found, reported in zip(queries, ids, dists, strict=True):
        true = one.true(query[np.newaxis], among=inside)
        oracle.check_ranking(found, true, K, reverse=True, reported=reported)
    if engine.name == "embedded" or metric != "euclidean":
        assert max(returned, default=0) <= K * len(queries), "the engine can find them"


@pytest.mark.parametrize("metric", ["euclidean"], indirect=True)
@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_an_engine_that_can_not_find_them_ranks_all(one, monkeypatch):
    search = MilvusCollection.search

    def refused(self: Any, *args: Any, expression: str = "", **kwargs: Any) -> Any:
        # As any other Milvus reads it: a field that does not exist
        if expression.startswith(FARTHEST):
            expression = "no_such_field and " + expression.removeprefix(FARTHEST)
        return search(self, *args, expression=expression, **kwargs)

    monkeypatch.setattr(MilvusCollection, "search", refused)
    query = vectors(1, seed=8)[0]
    found = one.index.search(query, k=K, reverse=True)
    oracle.check_ranking(found.ids, one.true(query[np.newaxis]), K, reverse=True)


@pytest.mark.parametrize("metric", ["cosine"], indirect=True)
def test_engines_refuse_the_marker_under_other_metrics(one):
    expression = FARTHEST + 'pk not in [""]'
    with pytest.raises(EngineError):
        one.index._collection.search(vectors(1), K, params={}, expression=expression)


def test_plain_milvus_lite_refuses_the_marker(tmp_path: Path):
    client = MilvusClient(str(tmp_path / "plain.db"))
    try:
        schema = client.create_schema()
        schema.add_field("pk", DataType.VARCHAR, max_length=64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
        index = client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="L2")
        client.create_collection("c", schema=schema, index_params=index)
        client.insert("c", [{"pk": "a", "vector": [1, 0, 0, 0]}])
        with pytest.raises(MilvusException, match="fiftyone_milvus_farthest"):
            client.search("c", [[1, 0, 0, 0]], filter=FARTHEST + 'pk not in [""]', limit=1)
    finally:
        client.close()
