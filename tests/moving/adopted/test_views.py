"""Views: filters on the keys and sample IDs as the built-in stored them."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.moving.adopted import taking
from tests.search import test_views
from tests.support.indexes import Indexed, index_images

globals().update(
    taking.of(
        test_views,
        "test_recall_and_number_of_results",
        "test_a_far_corner",
        "test_samples_outside_the_index_never_come_back",
        "test_deleted_samples_leave_holes_not_short_results",
        "test_patches_from_a_patches_view",
        "test_patches_from_the_dataset",
        "test_patch_neighbors_carry_both_ids",
        "test_patches_that_were_removed_never_come_back",
    )
)


@pytest.fixture(scope="module")
def large(engine: Any, _adopted: None) -> Iterator[Indexed]:
    """2,000 vectors under the built-in's index, which has no other."""
    indexed = index_images(engine, test_views.COUNT, "cosine", dim=32)
    yield indexed
    indexed.drop()
