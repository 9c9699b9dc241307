"""FiftyOne's own search, on a vector index that the built-in made."""

from tests.moving.adopted import taking
from tests.search import test_neighbors

globals().update(
    taking.of(
        test_neighbors,
        "test_a_vector",
        "test_an_id_finds_itself_too",
        "test_an_array_of_vectors_gives_a_list_of_lists",
        "test_neighbors_of_the_whole_index",
        "test_neighbors_within_a_view",
        "test_every_neighbor_of_every_vector",
        "test_true_distances_are_stored_on_samples",
    )
)
