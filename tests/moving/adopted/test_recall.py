from tests.measuring import test_recall
from tests.moving.adopted import taking

PARAMETERS = "the built-in has no parameters of an index"

globals().update(
    taking.of(
        test_recall,
        but={
            "test_the_recall_of_a_poor_index_is_what_it_finds": PARAMETERS,
            "test_the_recall_does_not_depend_on_the_unit": PARAMETERS,
        },
    )
)
