"""The result of a check."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec

from fiftyone_milvus.errors import one_line

P = ParamSpec("P")

# Before the remedy in an error text, if no semicolon is there
_REMEDY = re.compile(r": (?=(?:check|create|pass|run|see|use) )")


@dataclass(frozen=True)
class Verdict:
    """The result of a check.

    Attributes:
        check: what was checked
        level: ``"ok"``, ``"warning"`` or ``"problem"``
        found: one line
        remedy: one line that says what to do, or ``""``
    """

    check: str
    level: str
    found: str
    remedy: str = ""


def checked(name: str) -> Callable[[Callable[P, tuple[str, ...]]], Callable[P, Verdict]]:
    """Makes a check of a function that returns a level, a finding and perhaps a remedy.

    An exception becomes a problem, so that the other checks still run.
    """

    def decorate(check: Callable[P, tuple[str, ...]]) -> Callable[P, Verdict]:
        @functools.wraps(check)
        def run(*args: P.args, **kwargs: P.kwargs) -> Verdict:
            try:
                return Verdict(name, *check(*args, **kwargs))
            except Exception as error:
                return failed(name, error)

        return run

    return decorate


def failed(name: str, error: Exception) -> Verdict:
    """Returns the verdict for an error of a check."""
    return Verdict(name, "problem", *advice(error))


def advice(error: Exception | str) -> tuple[str, str]:
    """Splits an error text into what is wrong and what to do, or ``""``."""
    text = " ".join(error.split()) if isinstance(error, str) else one_line(error)
    found, _, remedy = text.partition("; ")
    if not remedy and (colon := _REMEDY.search(text)) is not None:
        found, remedy = text[: colon.start()], text[colon.end() :]
    return found, remedy
