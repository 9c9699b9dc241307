from tests.search.test_index_search import (  # noqa: F401  (others search foreign ones)
    test_a_view_of_samples,
    test_prompts,
    test_queries_of_every_kind,
    test_results_cannot_be_reassigned,
    test_samples,
    test_the_distance_itself_is_within,
)
