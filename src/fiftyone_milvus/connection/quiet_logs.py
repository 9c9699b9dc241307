"""Silences pymilvus' log during calls of this package."""

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
    """Adds the filter to each of pymilvus' loggers, which exist once it is imported.

    A filter of a logger does not see the messages of its children.
    """
    for name in list(logging.root.manager.loggerDict):
        if name == "pymilvus" or name.startswith("pymilvus."):
            logger = logging.getLogger(name)
            if _FILTER not in logger.filters:
                logger.addFilter(_FILTER)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops what pymilvus logs inside the block: it logs a traceback for each failed call."""
    token = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(token)
