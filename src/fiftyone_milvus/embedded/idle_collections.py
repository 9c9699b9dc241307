"""Closes collections without a request for a while, so that a service gives back their memory.

The next request opens one again, as it was: loaded, if it was loaded. That takes what a start of
the service takes for it.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator

from fiftyone_milvus.embedded.database import Database
from fiftyone_milvus.embedded.locks import Call, Collection, Locks, WaitError
from fiftyone_milvus.embedded.storage.flush import release_memory

logger = logging.getLogger(__name__)


class IdleCollections:
    """Which collections are used, and when each was used last.

    Args:
        database: where they are open
        locks: the locks of its collections
    """

    def __init__(self, database: Database, locks: Locks) -> None:
        self._database, self._locks = database, locks
        self._guard = threading.Lock()
        self._last: dict[Collection, float] = {}
        self._running: Counter[Collection] = Counter()

    @contextlib.contextmanager
    def used(self, collections: Iterable[Collection]) -> Iterator[None]:
        """Keeps collections open while a request uses them, and for a while after it."""
        held = list(collections)
        with self._guard:
            self._running.update(held)
        try:
            yield
        finally:
            with self._guard:
                self._running.subtract(held)
                self._last.update(dict.fromkeys(held, time.monotonic()))

    def close(self, seconds: float) -> None:
        """Closes those that were not used for so long, but for those whose index is still made.

        Args:
            seconds: 0 or less for none
        """
        closed = False
        for key in self._database.opened() if seconds > 0 else ():
            if not self._is_idle(key, seconds):
                continue
            with contextlib.suppress(WaitError), self._locks.writing([key], _at_once()):
                if self._is_idle(key, seconds) and self._database.close_collection(*key):
                    logger.info("'%s' was not used for %g s: closed", key[1], seconds)
                    closed = True
            self._last[key] = time.monotonic()
        if closed:
            # Milvus Lite's collection and its parts refer to each other
            gc.collect()
            release_memory()

    def _is_idle(self, key: Collection, seconds: float) -> bool:
        with self._guard:
            since = self._last.setdefault(key, time.monotonic())
            return not self._running[key] and time.monotonic() - since >= seconds


def _at_once() -> Call:
    return Call("Close", time.monotonic())
