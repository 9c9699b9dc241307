"""The work that the App's server does now, for the panel, and how it ended."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fiftyone_milvus.dataset import availability
from fiftyone_milvus.plugin.one_line import one_line

logger = logging.getLogger(__name__)

_KEPT = 32
"""Outcomes that are kept for panels that don't ask for them, such as those that were closed."""


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

    def report(self, progress: float | None, label: str) -> None:
        """Takes the share that is done, and what is being done."""
        self.progress, self.label = progress, label


@dataclass(frozen=True)
class Outcome:
    """How work ended that a panel started.

    Attributes:
        text: one line for the user, or an empty one
        variant: ``"success"``, ``"info"``, ``"warning"`` or ``"error"``
        state: changes of the panel's state
        data: changes of the panel's data
        follow_up: makes the App show the result, with the context of an event
    """

    text: str = ""
    variant: str = "success"
    state: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    follow_up: Callable[[Any], object] | None = None


_jobs: list[Job] = []
_outcomes: list[tuple[str, Outcome]] = []
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


def start(
    panel_id: str,
    job: Job,
    work: Callable[[Job], Outcome],
    *,
    seconds: float = 0,
    again: tuple[str, dict[str, Any]] | None = None,
) -> None:
    """Works in a thread, which goes on if the browser is closed.

    Args:
        panel_id: the panel that gets the outcome
        job: what the panels list meanwhile
        work: does it, reports to the job, and returns the outcome; its error becomes one
        seconds (0): how long to wait for it, as most work is short
        again (None): the operator and the parameters whose form is offered again after an error
    """

    def run() -> None:
        try:
            with availability.answering():
                outcome = work(job)
        except Exception as error:
            logger.debug("%s failed", job.title, exc_info=True)
            outcome = Outcome(str(one_line(error)), "error", state={"again": again})
        # At once: a panel that sees neither job nor outcome would look no more
        with _lock:
            _outcomes.append((panel_id, outcome))
            del _outcomes[:-_KEPT]
            _jobs.remove(job)

    with _lock:
        _jobs.append(job)
    thread = threading.Thread(target=run, name=job.title, daemon=True)
    thread.start()
    thread.join(seconds)


def outcomes(panel_id: str) -> list[Outcome]:
    """Returns how the work of a panel ended, in that order; each outcome once."""
    with _lock:
        found = [outcome for owner, outcome in _outcomes if owner == panel_id]
        _outcomes[:] = [one for one in _outcomes if one[0] != panel_id]
    return found
