"""What FiftyOne logs while it embeds.

Why it could not embed a sample it says there only: ``Sample: ID, Error: ...`` or, of a whole batch,
``Batch: ID - ID``.
"""

from __future__ import annotations

import logging
from typing import TypeVar

L = TypeVar("L", bound="_Listening")

_MODELS = logging.getLogger("fiftyone.core.models")
_BRAIN = logging.getLogger("fiftyone.brain.internal.core.utils")


class _Listening(logging.Filter):
    """A filter of some loggers, while it is entered."""

    loggers: tuple[logging.Logger, ...]

    def __enter__(self: L) -> L:
        for logger in self.loggers:
            logger.addFilter(self)
        return self

    def __exit__(self, *_: object) -> None:
        for logger in self.loggers:
            logger.removeFilter(self)


class Failures(_Listening):
    """Takes FiftyOne's messages about failed samples while it is entered; others pass.

    Attributes:
        reasons: by the ID of a sample, or of the first one of a batch
        batches: whether a whole batch failed, where maybe one sample of it is to blame
    """

    loggers = (_MODELS,)

    def __init__(self) -> None:
        super().__init__()
        self.reasons: dict[str, str] = {}
        self.batches = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Keeps a message to itself if it is about a failure."""
        message, args = str(record.msg), record.args
        if not isinstance(args, tuple) or len(args) < 2 or "Error: %s" not in message:
            return True
        first, last, error = str(args[0]), str(args[-2]), args[-1]
        self.batches |= first != last
        self.reasons[first] = reason(error)
        return False


class Announcements(_Listening):
    """Lets what FiftyOne says of each part pass only once, while it is entered.

    Not at all what it says of the start: there is a progress bar already.
    """

    loggers = (_MODELS, _BRAIN)

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a message is news."""
        message = record.getMessage()
        if message in self._said or message.startswith("Computing "):
            return False
        self._said.add(message)
        return True


def reason(error: object) -> str:
    """Returns what an exception says, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, BaseException):
        kind = type(error).__name__
        return f"{kind}: {text}" if text else kind
    return text
