from collections.abc import Iterator
from typing import Any

import pytest

from tests.moving.adopted import taking
from tests.search import test_views
from tests.support.indexes import Indexed, index_images

POOR = "the built-in's graph has half of the links"

globals().update(taking.of(test_views, but={"test_recall_without_a_view": POOR}))


@pytest.fixture(scope="module")
def large(engine: Any, _adopted: None) -> Iterator[Indexed]:
    """2,000 vectors under the built-in's index, which has no other."""
    indexed = index_images(engine, test_views.COUNT, "cosine", dim=32)
    yield indexed
    indexed.drop()
