"""What a check found."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

LEVELS = ("ok", "warning", "problem")


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes:
        check: what was looked at
        level: ``"ok"``, ``"warning"`` or ``"problem"``
        found: one line
        remedy: one line that says what to do, or ``""``
    """

    check: str
    level: str
    found: str
    remedy: str = ""


def checked(name: str) -> Callable[[Callable[[], Verdict]], Callable[[], Verdict]]:
    """Makes a problem of whatever a check raises: the others must still run."""

    def decorate(check: Callable[[], Verdict]) -> Callable[[], Verdict]:
        @functools.wraps(check)
        def run() -> Verdict:
            try:
                return check()
            except Exception as error:
                return failed(name, error)

        return run

    return decorate


def failed(name: str, error: Exception) -> Verdict:
    """Returns the problem that an error is: what it says before and after its semicolon."""
    text = " ".join(str(error).split()) or type(error).__name__
    found, _, remedy = text.partition("; ")
    return Verdict(name, "problem", found, remedy)
