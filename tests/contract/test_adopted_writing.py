"""Writes to runs that the built-in backend made, once they are adopted, are those of any index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fiftyone_milvus import moving

from .support import Indexed, built_in, image_dataset, vectors

# ruff: noqa: F401
from .test_writing import (
    COUNT,
    SPARE,
    images,
    spare,
    test_a_mix_of_known_and_new_ids,
    test_a_view_restricts_sizes_and_ids,
    test_removing_and_adding_again_and_again_counts_right,
    test_removing_everything_leaves_an_empty_index_that_works,
    test_without_overwrite_known_ids_keep_their_embedding,
)


@pytest.fixture(scope="module")
def _writable(engine: Any) -> Iterator[Indexed]:
    dataset = image_dataset(COUNT + SPARE)
    index = built_in(engine, dataset, metric="euclidean")
    index.add_to_index(vectors(COUNT)[::-1], dataset.values("id")[:COUNT])
    moving.adopt(dataset, "sim")
    index = dataset.load_brain_results("sim")
    indexed = Indexed(dataset, index, "euclidean", {}, dict(engine.kwargs))
    yield indexed
    indexed.drop()
