"""A client of an embedded engine that is as it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fiftyone_milvus import embedded
from tests.embedded.child import connect


@pytest.fixture
def engine_client(tmp_path: Path) -> Iterator[Any]:
    client = connect(tmp_path / "data.db")
    yield client
    client.close()
    embedded.stop(tmp_path / "data.db")
