"""For tests that need not run on the other engine, or for each metric, as nothing can differ."""

import pytest

one_engine = pytest.mark.parametrize("engine", ["embedded"], indirect=True)
one_metric = pytest.mark.parametrize("metric", ["cosine"], indirect=True)
