from tests.inventory.test_inventory import (  # noqa: F401  (others make other collections)
    connection,
    mine,
    test_a_collection_of_an_index,
    test_an_orphan_is_cleaned_up,
    test_missing_and_stale_patches,
    test_missing_and_stale_samples,
    test_without_comparing,
)
