"""What can break in the middle of a sync, and of everything else."""

import pytest

pytest.register_assert_rewrite("tests.faults.chaos", "tests.faults.support")
