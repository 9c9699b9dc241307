"""Whether there is room on the disk, and what to say if there is not."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

RESERVE_BYTES = 16 << 20
"""What writes leave free on the disk: for deletes, and for FiftyOne's own database."""

_FULL = tuple(f"[Errno {code}]" for code in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)))


def free_bytes(path: str | os.PathLike[str]) -> int:
    """The bytes that this user can still write where ``path`` is."""
    return shutil.disk_usage(path).free


def shortage(path: Path, sent: int, unflushed: int) -> str | None:
    """Why a write would not fit.

    Args:
        path: the data directory
        sent: the bytes of the write
        unflushed: the bytes of the collection's log, which a flush writes once more

    Returns:
        one line, or None if it fits
    """
    need, free = 2 * sent + unflushed + RESERVE_BYTES, free_bytes(path)
    if free >= need:
        return None
    return f"{full(path)}: a write needs {need / 1e6:.0f} MB, {free / 1e6:.0f} MB are free"


def full(path: Path) -> str:
    """What to say where the disk is full."""
    return f"No space left on device at '{path}'"


def is_full(reason: str) -> bool:
    """Whether Milvus Lite gives a full disk, or an exceeded quota, as the reason of a failure."""
    return any(code in reason for code in _FULL)
