from .. import test_inventory
from . import taking

FIELDS = "the built-in has no fields beside the vectors"

globals().update(
    taking.of(
        test_inventory,
        but={
            "test_an_index_in_step": "its index type is the built-in's",
            "test_fields_that_are_older_than_the_dataset": FIELDS,
            "test_rows_of_another_dataset_are_not_stale": "the built-in shares no collection",
            "test_an_index_that_holds_nothing_yet": "without a collection, nothing is adopted",
            "test_a_collection_whose_run_is_gone": "no other process is making it",
        },
    )
)
