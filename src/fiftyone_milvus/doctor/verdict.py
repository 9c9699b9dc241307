"""What a check found."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

# What our errors tell to do, where it stands after a colon
_ADVICE = re.compile(r": (?=(?:check|create|pass|run|see|use) )")

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
    """Returns the problem that an error is, what it says to do apart."""
    return Verdict(name, "problem", *advice(error))


def advice(error: Exception | str) -> tuple[str, str]:
    """Returns what an error says is wrong, and what it says to do, or ``""``."""
    text = " ".join(str(error).split())
    if not text or not isinstance(error, (str, ValueError)):
        # Not one of those that say by themselves what they are about
        text = f"{type(error).__name__}: {text}".removesuffix(": ")
    found, _, remedy = text.partition("; ")
    if not remedy and (colon := _ADVICE.search(text)) is not None:
        found, remedy = text[: colon.start()], text[colon.end() :]
    return found, remedy
