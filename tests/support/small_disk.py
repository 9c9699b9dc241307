"""Runs a function on a disk of a few megabytes, which is gone with the process.

The disk is a tmpfs in a mount namespace of the process' own: no privileges beyond ``unshare``.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18
_NOT_ALLOWED = 77
_ROOT = Path(__file__).parents[2]


class SmallDisk:
    """A folder on a disk of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    @property
    def free(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Takes all room but ``leave`` bytes, as another program would."""
        self.make_room()
        if self.free > leave:
            with open(self._ballast, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, self.free - leave)

    def make_room(self) -> None:
        self._ballast.unlink(missing_ok=True)


def on_small_disk(
    scenario: Callable[[SmallDisk], None], folder: Path, megabytes: int, timeout: float = 120
) -> None:
    """Calls a function of a module in a process that sees a small disk at ``folder``.

    Raises:
        AssertionError: with its error output, if it fails
    """
    folder.mkdir(exist_ok=True)
    name = f"{scenario.__module__}:{scenario.__name__}"
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(folder), str(megabytes), name],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode == _NOT_ALLOWED:
        pytest.skip("no mount namespaces here, so no small disk")
    assert done.returncode == 0, done.stdout + done.stderr


def _mount(folder: Path, megabytes: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWNS) != 0:
        if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS) != 0:
            return False
        with contextlib.suppress(OSError):
            Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    if libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) != 0:
        return False
    options = f"size={megabytes}m".encode()
    return bool(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options) == 0)


def main(folder: str, megabytes: str, name: str) -> int:
    if not _mount(Path(folder), int(megabytes)):
        return _NOT_ALLOWED
    module, _, function = name.partition(":")
    getattr(importlib.import_module(module), function)(SmallDisk(Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
