"""Workers that are processes of this machine."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from typing import Any

import fiftyone as fo

from fiftyone_milvus.syncing.expected_rows import Expected
from fiftyone_milvus.syncing.pool import Lost, Pool, Worker
from fiftyone_milvus.syncing.sources import Found
from fiftyone_milvus.syncing.worker import Job

_SETTINGS = ("database_uri", "database_name", "database_dir", "model_zoo_dir", "default_batch_size")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

# Not multiprocessing: it would run the caller's script again, or fork beside the threads of gRPC
_START = (
    "import os, pickle, sys; channel = os.dup(1); os.dup2(2, 1); "
    "sys.path[:], environ = pickle.load(sys.stdin.buffer); os.environ.update(environ); "
    "from fiftyone_milvus.syncing.worker import main; main(channel)"
)


class ProcessPool(Pool):
    """Processes of this machine.

    Args:
        job: what they embed
        count: how many
    """

    def __init__(self, job: Job, count: int) -> None:
        self.count = count
        self._job = job

    def worker(self) -> Worker:
        """Starts another process."""
        return _Process(self._job)


class _Process(Worker):
    def __init__(self, job: Job) -> None:
        threads = str(job.processors)
        self._environ = {name: os.environ.get(name, threads) for name in _THREADS}
        for name in _SETTINGS:
            if (value := getattr(fo.config, name, None)) is not None:
                self._environ[f"FIFTYONE_{name.upper()}"] = str(value)
        self._job = job
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def start(self) -> None:
        self._ask((sys.path, self._environ), self._job)

    def embed(self, part: Expected) -> Found:
        found: Found = self._ask(part)
        return found

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _ask(self, *requests: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            for request in requests:
                pickle.dump(request, self._process.stdin, protocol=5)
                self._process.stdin.flush()
            answer = pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            raise Lost(self._end()) from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _end(self) -> str:
        """Returns how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self.kill()
        code = self._process.returncode
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"
