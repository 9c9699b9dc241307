"""Writing: rows replace and leave a collection in which the built-in may have repeated keys."""

from tests.index import test_writes
from tests.moving.adopted import taking

globals().update(
    taking.of(
        test_writes,
        "test_adds_new_embeddings",
        "test_a_mix_of_known_and_new_ids",
        "test_without_overwrite_known_ids_keep_their_embedding",
        "test_removing_and_adding_again_and_again_counts_right",
        "test_a_removed_id_can_come_back",
        "test_removing_everything_leaves_an_empty_index_that_works",
        "test_embeddings_come_in_the_asked_order",
        "test_writes_are_seen_by_the_very_next_search",
        "test_a_replaced_embedding_is_not_found_where_it_was",
        "test_patches_have_sample_and_label_ids",
        "test_patches_are_removed_by_sample",
        "test_patches_replace_by_label",
    )
)
