"""How long a call that fails for a reason that passes is repeated, and who is told."""

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

PATIENCE = 4.0
"""Seconds for which a call is repeated while Milvus is away, unless the caller says otherwise."""

_ATTEMPTS = 3


@dataclass(frozen=True)
class Patience:
    """For how long a call is repeated.

    Attributes:
        seconds: after which a failure that would pass is final
        on_wait: is called before each pause with what is the matter, in a few words
        given_up: ends the repeating, and the pause, when it is set
    """

    seconds: float = PATIENCE
    on_wait: Callable[[str], None] | None = None
    given_up: threading.Event | None = None

    def repeating(
        self,
        worth_repeating: Callable[[BaseException], bool],
        prepare: Callable[[], None],
        describe: Callable[[BaseException], str],
    ) -> Retrying:
        """Returns what calls a function until it succeeds or this patience is at its end.

        Args:
            worth_repeating: whether what was raised may not be raised again
            prepare: is called before each attempt
            describe: says in a few words what was raised
        """
        given_up = self.given_up or threading.Event()

        def before_sleep(state: RetryCallState) -> None:
            if self.on_wait is not None and state.outcome is not None:
                problem = state.outcome.exception()
                if problem is not None:
                    self.on_wait(describe(problem))

        return Retrying(
            retry=retry_if_exception(worth_repeating),
            wait=wait_exponential(multiplier=0.05, max=max(0.5, self.seconds / 30))
            + wait_random(0, 0.05),
            stop=stop_when_event_set(given_up)
            | (stop_after_delay(self.seconds) & stop_after_attempt(_ATTEMPTS)),
            sleep=sleep_using_event(given_up),
            before=lambda _: prepare(),
            before_sleep=before_sleep,
            reraise=True,
        )
