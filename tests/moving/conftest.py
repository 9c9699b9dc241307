"""The built-in backend opens Milvus Lite itself: each of its indexes ends a service of ours."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.services import ForkedServices


@pytest.fixture(scope="session")
def _forks() -> Iterator[ForkedServices]:
    folder = Path(tempfile.mkdtemp(prefix="fom-"))
    forks = ForkedServices(folder)
    yield forks
    forks.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="package", autouse=True)
def _forked_services(_forks: ForkedServices) -> Iterator[None]:
    with _forks.used():
        yield
