"""``index.search()``, without fields, which the built-in does not have."""

from tests.search.test_index_search import (  # noqa: F401
    test_a_view_of_samples,
    test_queries_of_every_kind,
    test_samples,
    test_the_distance_itself_is_within,
)
