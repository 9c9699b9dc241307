"""Reads FiftyOne's log while it embeds.

Only the log says why a sample could not be embedded: ``Sample: ID, Error: ...``, or for a whole
batch ``Batch: ID - ID``.
"""

from __future__ import annotations

import logging
from typing import TypeVar

F = TypeVar("F", bound="_LogFilter")

_MODELS = logging.getLogger("fiftyone.core.models")
_BRAIN = logging.getLogger("fiftyone.brain.internal.core.utils")


class _LogFilter(logging.Filter):
    """A context manager that filters some loggers."""

    loggers: tuple[logging.Logger, ...]

    def __enter__(self: F) -> F:
        for logger in self.loggers:
            logger.addFilter(self)
        return self

    def __exit__(self, *_: object) -> None:
        for logger in self.loggers:
            logger.removeFilter(self)


class Failures(_LogFilter):
    """Collects FiftyOne's messages about failed samples, which are then not logged.

    Attributes:
        reasons: by the ID of a sample, or of the first one of a batch
        batches: whether a whole batch failed, maybe because of one sample
    """

    loggers = (_MODELS,)

    def __init__(self) -> None:
        super().__init__()
        self.reasons: dict[str, str] = {}
        self.batches = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether to log a message; collects it if it is about a failure."""
        message, args = str(record.msg), record.args
        if not isinstance(args, tuple) or len(args) < 2 or "Error: %s" not in message:
            return True
        first, last, error = str(args[0]), str(args[-2]), args[-1]
        self.batches |= first != last
        self.reasons[first] = reason(error)
        return False


class Announcements(_LogFilter):
    """Logs what FiftyOne says about each part only once.

    Leaves out that it starts computing, as there is a progress bar.
    """

    loggers = (_MODELS, _BRAIN)

    def __init__(self) -> None:
        super().__init__()
        self._logged: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether to log a message."""
        message = record.getMessage()
        if message in self._logged or message.startswith("Computing "):
            return False
        self._logged.add(message)
        return True


def reason(error: object) -> str:
    """Returns an exception in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, BaseException):
        kind = type(error).__name__
        return f"{kind}: {text}" if text else kind
    return text
