"""``sync()``, without what the built-in does not record: when embeddings were computed, fields."""

from tests.moving.adopted import taking
from tests.syncing import conftest, test_sync

globals().update(taking.of(conftest))
globals().update(
    taking.of(
        test_sync,
        "test_an_index_follows_its_dataset",
        "test_a_later_session_goes_on",
        "test_a_view_is_added_and_nothing_else_is_touched",
        "test_what_is_gone_stays_unless_pruned",
        "test_patches",
        "test_a_view_of_patches",
        "test_embeddings_of_a_field",
        "test_interrupted_in_the_middle",
        "test_keys_that_are_not_fiftyones_stay",
    )
)
