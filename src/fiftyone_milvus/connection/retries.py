"""Retries of calls after transient errors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_attempt,
    stop_after_delay,
    stop_when_event_set,
    wait_exponential,
    wait_random,
)

RETRY_SECONDS = 4.0
"""For how long a call is retried by default while Milvus does not answer."""

_ATTEMPTS = 3


@dataclass(frozen=True)
class Retry:
    """For how long a call is retried.

    Attributes:
        seconds: after this time, a transient error is raised
        on_wait: is called before each pause with a short description of the error
        cancelled: when it is set, there are no more retries, and a pause ends
    """

    seconds: float = RETRY_SECONDS
    on_wait: Callable[[str], None] | None = None
    cancelled: threading.Event | None = None

    def retrying(
        self,
        transient: Callable[[BaseException], bool],
        prepare: Callable[[], None],
        describe: Callable[[BaseException], str],
    ) -> Retrying:
        """Returns what calls a function until it succeeds, or the time is over.

        Args:
            transient: returns whether an error is worth a retry
            prepare: is called before each attempt
            describe: describes an error in a few words
        """
        cancelled = self.cancelled or threading.Event()

        def before_sleep(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome is not None else None
            if self.on_wait is not None and error is not None:
                self.on_wait(describe(error))

        return Retrying(
            retry=retry_if_exception(transient),
            wait=wait_exponential(multiplier=0.05, max=max(0.5, self.seconds / 30))
            + wait_random(0, 0.05),
            stop=stop_when_event_set(cancelled)
            | (stop_after_delay(self.seconds) & stop_after_attempt(_ATTEMPTS)),
            sleep=sleep_using_event(cancelled),
            before=lambda _: prepare(),
            before_sleep=before_sleep,
            reraise=True,
        )
