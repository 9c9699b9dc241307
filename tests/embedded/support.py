"""What the tests ask the system."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil


def gone(pid: int) -> bool:
    """Whether a process has ended, with all its threads, reaped or not."""
    try:
        ended = psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        return ended and len(list(Path(f"/proc/{pid}/task").iterdir())) <= 1
    except (psutil.NoSuchProcess, FileNotFoundError):
        return True


def service_pids(path: Path) -> list[int]:
    """The processes that serve a directory, as the system knows them."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if "--announce" in command and str(path) in command:
                found.append(process.pid)
    return found
