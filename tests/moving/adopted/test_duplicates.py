"""Neighborhoods: the vectors are read from a collection that the built-in made."""

from tests.moving.adopted import taking
from tests.neighborhoods import test_duplicates

globals().update(
    taking.of(
        test_duplicates,
        "test_the_whole_index_within_a_radius",
        "test_vectors_within_a_radius",
        "test_ids_within_a_radius",
        "test_patches_within_a_radius",
        "test_find_duplicates_by_threshold",
        "test_compute_uniqueness",
    )
)
