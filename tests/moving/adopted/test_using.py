"""What a user does with an index goes on with one that was adopted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fiftyone_milvus import moving, search_everywhere
from fiftyone_milvus.errors import InvalidInputError
from tests.support import oracle
from tests.support.indexes import KEY, Indexed, holds, index_images, one_line

COUNT = 1_200


@pytest.fixture(scope="module")
def indexed(engine: Any, _adopted: None) -> Any:
    """Enough for a server to build a graph."""
    indexed = index_images(engine, COUNT, "cosine")
    indexed.index.client.flush(indexed.index.config.collection_name)
    yield indexed
    indexed.drop()


def test_it_is_measured_and_tuned(indexed: Indexed) -> None:
    index = indexed.index
    assert index._collection.wait_until_built()
    found = index.tune(recall=0.95, k=5, queries=100)
    assert found.reached
    stored = indexed.dataset.get_brain_info(KEY).config.search_params
    assert (stored or {}) == found.params
    assert index.evaluate(queries=100, k=5).recall >= 0.9


def test_it_moves_and_is_exported(indexed: Indexed, tmp_path: Path) -> None:
    dataset, name = indexed.dataset, "moved"
    done = moving.migrate(dataset, KEY, name, **indexed.kwargs)
    assert done.vectors == COUNT
    assert done.compared > 0
    holds(dataset, name, "cosine", indexed.vectors)
    path = tmp_path / "adopted.parquet"
    assert moving.export_index(dataset, KEY, path).vectors == COUNT
    table = pq.read_table(path)
    rows = dict(zip(table["pk"].to_pylist(), table["vector"].to_numpy(), strict=True))
    assert sorted(rows) == sorted(indexed.ids)
    np.testing.assert_array_equal(np.stack([rows[i] for i in indexed.ids]), indexed.matrix())
    dataset.load_brain_results(name).cleanup()
    dataset.delete_brain_run(name)


def test_it_is_searched_everywhere_and_by_another_name(indexed: Indexed) -> None:
    dataset, query = indexed.dataset, indexed.vectors[indexed.ids[7]]
    dataset.rename_brain_run(KEY, "renamed")
    try:
        found = search_everywhere(query, 9, datasets=dataset.name)
        ids = [r.sample_id for r in found]
        # The built-in's graph, which a server may be loading yet, does not find all the nearest
        true = indexed.true(query[np.newaxis])
        np.testing.assert_allclose([r.distance for r in found], [true[i] for i in ids], atol=1e-5)
        assert oracle.recall(ids, true, 9) >= 0.5
    finally:
        dataset.rename_brain_run("renamed", KEY)


def test_fields_need_an_index_that_was_made_with_them(indexed: Indexed) -> None:
    with pytest.raises(InvalidInputError, match="fields") as error:
        indexed.index.sync_fields()
    one_line(error.value)
