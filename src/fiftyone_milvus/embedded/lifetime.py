"""How long a service runs, and what counts as activity."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
import time

from fiftyone_milvus.errors import InvalidInputError

IDLE_VARIABLE = "FIFTYONE_MILVUS_IDLE_SECONDS"
GRACE_VARIABLE = "FIFTYONE_MILVUS_GRACE_SECONDS"
CLOSE_VARIABLE = "FIFTYONE_MILVUS_CLOSE_SECONDS"
IDLE_SECONDS = 600.0
GRACE_SECONDS = 5.0
CLOSE_SECONDS = 300.0

# A process that starts a service attaches to it within milliseconds. If it dies before, the
# service must not stay for the whole idle time.
FIRST_CLIENT_SECONDS = 15.0


@dataclasses.dataclass(frozen=True)
class Lifetime:
    """When a service ends itself, and closes a collection.

    Attributes:
        idle_seconds: after this long without a request; 0 for never
        grace_seconds: this long after its last client process has gone; a negative number for
            never
        close_seconds: closes a collection after this long without a request for it; 0 for never
    """

    idle_seconds: float = IDLE_SECONDS
    grace_seconds: float = GRACE_SECONDS
    close_seconds: float = CLOSE_SECONDS

    def __post_init__(self) -> None:
        for name in ("idle_seconds", "grace_seconds", "close_seconds"):
            if math.isnan(getattr(self, name)):
                raise InvalidInputError(f"{name} is NaN; expected a number of seconds")

    @staticmethod
    def from_environment() -> Lifetime:
        """What ``$FIFTYONE_MILVUS_IDLE_SECONDS`` and its like say, else the defaults.

        Raises:
            InvalidInputError: if one of them is not a number
        """
        return Lifetime(
            idle_seconds=_seconds(IDLE_VARIABLE, IDLE_SECONDS),
            grace_seconds=_seconds(GRACE_VARIABLE, GRACE_SECONDS),
            close_seconds=_seconds(CLOSE_VARIABLE, CLOSE_SECONDS),
        )


def _seconds(variable: str, default: float) -> float:
    value = os.environ.get(variable, "").strip()
    try:
        return float(value) if value else default
    except ValueError:
        raise InvalidInputError(
            f"environment variable {variable} is '{value}'; expected a number of seconds"
        ) from None


class Activity:
    """The number of attached clients and running requests, and when the last ones ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._clients = 0
        self._attached = False
        self._last_request = self._last_client = time.monotonic()

    def request_began(self) -> None:
        """Counts a request that begins."""
        with self._lock:
            self._running += 1

    def request_ended(self) -> None:
        """Counts a request that ended."""
        with self._lock:
            self._running -= 1
            self._last_request = time.monotonic()

    def client_came(self) -> None:
        """Counts a client process that attached."""
        with self._lock:
            self._clients += 1
            self._attached = True
            # A client that attaches is about to send a request.
            self._last_request = time.monotonic()

    def client_left(self) -> None:
        """Counts a client process that has gone."""
        with self._lock:
            self._clients -= 1
            self._last_client = time.monotonic()

    @property
    def clients(self) -> int:
        """The number of attached client processes."""
        return self._clients

    def idle_seconds(self) -> float:
        """Seconds since the last request ended, 0 while one runs."""
        with self._lock:
            return 0.0 if self._running else time.monotonic() - self._last_request

    def reason_to_end(self, lifetime: Lifetime) -> str | None:
        """Why a service with this lifetime should end now, or None if it should not."""
        with self._lock:
            now = time.monotonic()
            if self._running:
                return None
            if 0 < lifetime.idle_seconds <= now - self._last_request:
                return f"idle for {lifetime.idle_seconds:g} s"
            if lifetime.grace_seconds < 0 or self._clients:
                return None
            grace = lifetime.grace_seconds
            if not self._attached:
                grace = max(grace, FIRST_CLIENT_SECONDS)
            if now - self._last_client >= grace:
                return "no client process left"
            return None
