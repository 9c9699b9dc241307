"""The work that the App's server does now, for the panel."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Job:
    """Work on an index.

    Attributes:
        dataset: the dataset's name
        key: the brain key, or None
        title: such as ``"Syncing"``
        progress: the share that is done, in [0, 1], or None if unknown
        label: the current step
        started: the start, in seconds of :func:`time.time`
    """

    dataset: str
    key: str | None
    title: str
    progress: float | None = None
    label: str = ""
    started: float = field(default_factory=time.time)


_jobs: list[Job] = []
_lock = threading.Lock()


@contextmanager
def running(job: Job) -> Iterator[Job]:
    """Lists a job while it runs."""
    with _lock:
        _jobs.append(job)
    try:
        yield job
    finally:
        with _lock:
            _jobs.remove(job)


def jobs(dataset: str) -> list[Job]:
    """Returns the jobs of this process for a dataset."""
    with _lock:
        return [job for job in _jobs if job.dataset == dataset]
