"""Says at once what a command waits for, on a terminal."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_FRAMES = "|/-\\"
_SECONDS = 0.15
_CLEAR = "\r\x1b[K"

_lock = threading.RLock()
_shown = False


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Shows a line with a spinner while something takes long, and removes it afterwards.

    On the standard error, and only if that is a terminal. What is written there meanwhile through
    :func:`clear` appears above it.

    Args:
        what: is done
    """
    if not sys.stderr.isatty():
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_spin, args=(what, ended), daemon=True)
    _draw(f"{what}...")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        clear()


def clear() -> None:
    """Removes the line, if there is one, until its next turn."""
    global _shown
    with _lock:
        if _shown:
            _shown = False
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()


def _spin(what: str, ended: threading.Event) -> None:
    for frame in itertools.cycle(_FRAMES):
        if ended.wait(_SECONDS):
            return
        _draw(f"{what} {frame}")


def _draw(line: str) -> None:
    global _shown
    with _lock:
        _shown = True
        sys.stderr.write(_CLEAR + line)
        sys.stderr.flush()
