"""Waiting for a state, not for a time: a green run does not depend on an idle machine."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 240.0
"""Seconds for what takes a few, where others use the cores. What goes well waits no longer."""


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Waits until a condition is true; fails after some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
