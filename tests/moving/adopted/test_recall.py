"""Recall: of the vector index that the built-in made."""

from tests.measuring import test_recall
from tests.moving.adopted import taking

globals().update(
    taking.of(
        test_recall,
        "test_what_is_searched_exactly_has_full_recall",
        "test_patches",
        "test_the_nearest_other_of_every_vector",
        "test_the_nearest_others_of_a_sample",
    )
)
