from tests.index import test_embeddings
from tests.moving.adopted import taking

OTHERS = "a collection of others is no run of the built-in"

globals().update(
    taking.of(
        test_embeddings,
        but={
            "test_keys_of_any_kind": OTHERS,
            "test_rows_that_are_there_twice_come_once": OTHERS,
            "test_visualizing_takes_the_array_and_little_beside": "the same reads, in a process",
        },
    )
)
