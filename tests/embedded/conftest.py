"""Real services on private directories; whatever a test starts, it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fiftyone_milvus import embedded
from fiftyone_milvus.errors import EmbeddedServiceError
from tests.embedded.served import Served
from tests.embedded.support import service_pids

CHILD = Path(__file__).with_name("child.py")


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory of the test's own, short enough for the address of a socket."""
    directory = Path(tempfile.mkdtemp(prefix="fm-"))
    monkeypatch.setenv("FIFTYONE_MILVUS_RUNTIME_DIR", str(directory))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def data(tmp_path: Path, runtime: Path) -> Iterator[Path]:
    """A data directory that does not exist yet."""
    path = tmp_path / "data.db"
    yield path
    for pid in service_pids(path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    with contextlib.suppress(EmbeddedServiceError):
        embedded.stop(path)
    for pid in service_pids(path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def child() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts ``child.py`` with a command and arguments, as a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(CHILD), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,  # type: ignore[call-overload]
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path / "data.db", fast=True)
    yield served
    served.close()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path / "data.db", fast=False)
    yield served
    served.close()
