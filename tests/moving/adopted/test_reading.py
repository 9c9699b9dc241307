"""Reading: pages and streams of a collection that the built-in made."""

from tests.index import test_embeddings
from tests.moving.adopted import taking

globals().update(
    taking.of(
        test_embeddings,
        "test_every_id_comes_once",
        "test_ids_of_patches",
        "test_rows_that_stay_come_once_while_others_change",
        "test_what_another_client_wrote_is_seen",
        "test_embeddings_by_id_across_answers",
        "test_embeddings_of_the_whole_index",
        "test_every_bit_comes_back",
        "test_the_index_as_a_stream",
        "test_a_stream_of_patches",
        "test_a_stream_of_a_view_that_is_partly_indexed",
    )
)
