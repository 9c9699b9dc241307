"""Forked services of the embedded engine, for tests: as good as new ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fiftyone_milvus import embedded
from fiftyone_milvus.embedded import launch, processes
from fiftyone_milvus.errors import EmbeddedServiceError
from tests.support.processes import alive
from tests.support.services import ForkedServices


def test_they_serve_and_fail_as_others_do(embedded_path: Path) -> None:
    command = launch._MAIN
    forks = ForkedServices(embedded_path.parent)
    with forks.used():
        pid = embedded.ensure(embedded_path).pid
        (embedded_path.parent / "file").write_text("")
        with pytest.raises(EmbeddedServiceError, match="file' is a regular file"):
            embedded.ensure(embedded_path.parent / "file")
    assert command == launch._MAIN
    forks.stop()
    assert alive(pid)
    assert processes.is_service(pid)
    assert os.getsid(pid) != os.getsid(0)
    status = embedded.status(embedded_path)
    assert status is not None
    assert (status.pid, status.mode) == (pid, "fast")
