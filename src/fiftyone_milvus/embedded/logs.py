"""The service's log: one file of bounded size in the data directory."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from fiftyone_milvus.embedded import files, paths
from fiftyone_milvus.errors import EmbeddedServiceError

_MAX_BYTES = 1 << 20
_FORMAT = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"


def configure() -> None:
    """Logs to standard error: this package's messages, and the warnings of others."""
    logging.basicConfig(format=_FORMAT, level=logging.WARNING)
    logging.getLogger("fiftyone_milvus").setLevel(logging.INFO)


def redirect(path: Path) -> None:
    """Sends standard error to a data directory's log.

    It redirects the descriptor, because gRPC and Faiss write there too.
    """
    descriptor = files.open_own(path / paths.LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def silence_stdout() -> None:
    """Sends standard output to standard error, which closes the pipe to the starter."""
    os.dup2(2, 1)


def bound(path: Path) -> None:
    """Begins a new log file if this one has grown too big, and keeps the previous one."""
    file = path / paths.LOG
    try:
        if file.stat().st_size > _MAX_BYTES:
            file.replace(file.with_name(file.name + ".1"))
            redirect(path)
            silence_stdout()
    except (OSError, EmbeddedServiceError):
        pass  # Windows renames no open file; a log is no reason to fail


def last_line(path: Path) -> str:
    """The last line of a data directory's log, or an empty string."""
    try:
        lines = files.read(path / paths.LOG).splitlines()
    except (OSError, EmbeddedServiceError):
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
