"""What the App is working on, as its panel shows it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Job:
    """Work on an index that has begun and not ended.

    Attributes:
        dataset: the dataset's name
        key: the brain key
        title: what is being done, as ``"Syncing"``
        progress: how much of it is done, in [0, 1], or None where that is not known
        label: what is being done now
        started: when it began, as seconds of :func:`time.time`
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
    """Lists a job as long as it runs."""
    with _lock:
        _jobs.append(job)
    try:
        yield job
    finally:
        with _lock:
            _jobs.remove(job)


def jobs(dataset: str) -> list[Job]:
    """Returns what this process is doing for a dataset."""
    with _lock:
        return [job for job in _jobs if job.dataset == dataset]
