"""What holds of our indexes holds of runs that the built-in backend made, once they are adopted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fiftyone_milvus import moving

from .support import Indexed, built_in, image_dataset, patch_dataset, vectors

# ruff: noqa: F401
from .test_duplicates import (
    test_a_view_within_a_radius,
    test_duplicate_patches,
    test_patches_within_a_radius,
    test_the_whole_index_within_a_radius,
)
from .test_reading import test_a_stream_of_a_view, test_a_stream_of_patches
from .test_recall import test_what_is_searched_exactly_has_full_recall
from .test_searching import (
    queries,
    test_a_list_of_ids_gives_a_list_of_lists_in_their_order,
    test_a_query_of_another_dimension,
    test_a_vector,
    test_aggregations_of_vectors,
    test_an_unknown_id_is_named,
    test_every_neighbour_of_every_vector,
    test_neighbours_of_the_whole_index,
    test_neighbours_within_a_view,
    test_sorting_a_dataset,
    test_true_distances_are_stored_on_samples,
)
from .test_views import (
    test_an_empty_view,
    test_filtered_labels_restrict_the_search,
    test_patches_from_a_patches_view,
    test_patches_from_the_dataset,
    test_views_metrics_and_aggregations,
)

AGAIN = 25


@pytest.fixture(scope="module", params=["cosine"])
def metric(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def _shared(engine: Any) -> Iterator[Callable[[str, str], Indexed]]:
    made = {"images": _images(engine), "patches": _patches(engine)}
    for what, indexed in made.items():
        done = moving.adopt(indexed.dataset, "sim", **indexed.kwargs)
        assert (done.vectors, done.missing, done.stale) == (len(indexed.ids), 0, 0)
        # Milvus Lite replaces rows of a known key by itself
        again = AGAIN if engine.name == "server" and what == "images" else 0
        assert done.repeated == again
        indexed.index = indexed.dataset.load_brain_results("sim")
    yield lambda what, _: made[what]
    for indexed in made.values():
        indexed.drop()


def _images(engine: Any) -> Indexed:
    dataset, data = image_dataset(300), vectors(300)
    index = built_in(engine, dataset, data)
    ids = dataset.values("id")
    # What it appends to rows of the same keys
    index.add_to_index(data[:AGAIN], ids[:AGAIN])
    truth = dict(zip(ids, data, strict=True))
    own = dict(zip(ids, ids, strict=True))
    return Indexed(dataset, index, "cosine", truth, dict(engine.kwargs), own)


def _patches(engine: Any) -> Indexed:
    dataset = patch_dataset(80)
    sample_ids, label_ids = dataset.values(["id", "ground_truth.detections.id"])
    owner = {
        _id: sample for sample, ids in zip(sample_ids, label_ids, strict=True) for _id in ids or []
    }
    data = vectors(len(owner), seed=52)
    index = built_in(engine, dataset, patches_field="ground_truth")
    index.add_to_index(data, list(owner.values()), label_ids=list(owner))
    truth = dict(zip(owner, data, strict=True))
    return Indexed(dataset, index, "cosine", truth, dict(engine.kwargs), owner)
