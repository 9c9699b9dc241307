"""Says which Milvus does not answer, while a call waits. One thread watches all calls."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import Any

from fiftyone_milvus import embedded
from fiftyone_milvus.connection.target import Target
from fiftyone_milvus.watcher import Watcher

logger = logging.getLogger(__name__)

WARN_SECONDS = 5.0
"""After so long, a warning says who has not answered yet."""

_AGAIN_SECONDS = 30.0


class Call:
    """A call that runs.

    Args:
        target: the Milvus that is called
        operation: what is called; its ``method``, if it has one, is the name in the warning
    """

    __slots__ = ("began", "operation", "target", "warned")

    def __init__(self, target: Target, operation: Any) -> None:
        self.target, self.operation = target, operation
        self.began, self.warned = time.monotonic(), False


def message(call: Call) -> str:
    """Returns what to say about a call that waits, in one line."""
    seconds = time.monotonic() - call.began
    operation = call.operation
    what = str(getattr(operation, "method", "") or getattr(operation, "__name__", "<>"))
    waits = f"has not answered for {seconds:.0f} s" + ("" if what.startswith("<") else f" ({what})")
    target = call.target
    if target.path is None:
        return f"Milvus at {target.address} {waits}; still waiting"
    return f"The service of {target.address} {waits}; {embedded.holder(target.path)}"


_warned: dict[str, float] = {}
"""When a warning named an address."""


def _look(calls: Collection[Call]) -> None:
    for call in calls:
        if not call.warned and time.monotonic() - call.began >= WARN_SECONDS:
            call.warned = True
            _warn(call)


def _warn(call: Call) -> None:
    address, now = call.target.address, time.monotonic()
    if now - _warned.get(address, -_AGAIN_SECONDS) < _AGAIN_SECONDS:
        return  # one line for many threads that wait for the same Milvus
    _warned[address] = now
    try:
        logger.warning("%s", message(call))
    except Exception:  # such as a service file that can't be read: the call itself will tell
        logger.debug("can't say who does not answer", exc_info=True)


_watcher = Watcher("fiftyone-milvus-slow-calls", _look)


def begin(target: Target, operation: Any) -> Call:
    """Watches a call until :func:`end`."""
    call = Call(target, operation)
    _watcher.begin(call)
    return call


def end(call: Call) -> None:
    """Ends the watch of a call."""
    _watcher.end(call)
