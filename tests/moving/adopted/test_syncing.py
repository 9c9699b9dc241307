from tests.moving.adopted import taking
from tests.syncing import test_sync

OWED = "when embeddings were computed is not known of a run of the built-in: all are, once"
FIELDS = "the built-in has no fields beside the vectors"
COLLECTION = "without a collection, nothing is adopted"

globals().update(
    taking.of(
        test_sync,
        but={
            "test_refresh": OWED,
            "test_refresh_of_patches": OWED,
            "test_a_refresh_that_fails_is_owed": OWED,
            "test_fields_follow_too": FIELDS,
            "test_vectors_of_others_stay": "the built-in shares no collection",
            "test_bad_arguments": COLLECTION,
            "test_the_model_that_the_index_was_made_with": COLLECTION,
        },
    )
)
