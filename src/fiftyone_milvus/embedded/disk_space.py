"""The free space on the disk, and the errors where there is too little."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

RESERVE_BYTES = 16 << 20
"""The bytes that writes leave free: for deletes, and for FiftyOne's own database."""

_FULL = tuple(f"[Errno {code}]" for code in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)))


def free_bytes(path: str | os.PathLike[str]) -> int:
    """The bytes that this user can still write where ``path`` is."""
    return shutil.disk_usage(path).free


def shortage(path: Path, sent: int, unflushed: int) -> str | None:
    """Checks whether a write fits on the disk.

    Args:
        path: the data directory
        sent: the bytes of the write
        unflushed: the bytes of the collection's log, which a flush writes once more

    Returns:
        None if it fits, else one line that says why not
    """
    need, free = 2 * sent + unflushed + RESERVE_BYTES, free_bytes(path)
    if free >= need:
        return None
    return f"{full(path)}: a write needs {need / 1e6:.0f} MB, {free / 1e6:.0f} MB are free"


def full(path: Path) -> str:
    """The error where the disk is full."""
    return f"No space left on device at '{path}'"


def is_full(reason: str) -> bool:
    """Whether a reason that Milvus Lite gives is a full disk or an exceeded quota."""
    return any(code in reason for code in _FULL)
