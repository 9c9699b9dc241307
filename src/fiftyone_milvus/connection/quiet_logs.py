"""Keeps pymilvus' own log quiet while we call it, and only then."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar

_QUIET: ContextVar[bool] = ContextVar("fiftyone_milvus_quiet", default=False)


class _Filter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not _QUIET.get()


_FILTER = _Filter()


def install() -> None:
    """Puts the filter on pymilvus' loggers, which exist once it is imported.

    A logger's filter sees only what is logged on it, never on its children, so each gets it.
    """
    for name in list(logging.root.manager.loggerDict):
        if name == "pymilvus" or name.startswith("pymilvus."):
            logger = logging.getLogger(name)
            if _FILTER not in logger.filters:
                logger.addFilter(_FILTER)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops what pymilvus logs inside the block: a traceback for every call that fails."""
    token = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(token)
