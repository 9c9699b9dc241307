"""What the disk holds even if the power fails now: files and directories, synced."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
from collections.abc import Iterable

try:
    import fcntl

    # Where it exists, on macOS, fsync() leaves the bytes in the memory of the disk.
    _FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None)
except ImportError:
    _FULL_SYNC = None

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]

_CAN_NOT = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}


def fsync(descriptor: int) -> None:
    """Writes what an open file or directory holds to the disk.

    Where the file system has no such thing, as some in the network, it says so in the log once.

    Args:
        descriptor: of the open file

    Raises:
        OSError: if the disk refused it; what was written since the last success is then lost
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CAN_NOT:
            raise
        _warn(error.strerror or str(error))
        return
    if _FULL_SYNC is not None:
        # Not every file system has it.
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, _FULL_SYNC)


def fsync_file(path: PathLike) -> None:
    """Writes a file to the disk, whoever wrote it.

    Its name is a matter of its directory: see :func:`fsync_directory`.

    Raises:
        OSError: if there is no such file, or the disk refused it
    """
    # Windows syncs only what is open for writing.
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_directory(path: PathLike) -> None:
    """Writes the names in a directory to the disk: what was created, renamed or deleted there.

    Does nothing on Windows, which can't, and in a directory that this user may not read.

    Raises:
        OSError: if there is no such directory, or the disk refused it
    """
    if os.name == "nt":
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_directories(paths: Iterable[PathLike]) -> None:
    """Writes the names in each directory to the disk, the deepest first, each once."""
    for path in sorted({os.fspath(path) for path in paths}, key=len, reverse=True):
        fsync_directory(path)


@functools.cache
def _warn(reason: str) -> None:
    logger.warning(
        "the file system can't sync (%s): a power loss may take what was written", reason
    )
