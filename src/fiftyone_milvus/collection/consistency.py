"""What this process did to a collection, and what it last heard of the collection's segments.

At consistency level ``Session``, a process sees its own inserts. It may not see its deletes: Milvus
2.3 answers a delete without the timestamp that later reads would wait for. So the first read after
a delete is ``Strong``, and so is every read of the next second, as another replica may answer it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

Key = tuple[str, "str | None", str]
"""The address, database and name of a collection."""

_STRONG_SECONDS = 1.0
_SEGMENTS_SECONDS = 2.0


class SegmentState(NamedTuple):
    """The loaded segments of a collection on a server.

    Attributes:
        growing: the number of rows that are not sealed yet, and of those that this process may have
            deleted among them: Milvus searches these too. 0 if none is left
        sealed: the rows of each sealed segment, deleted ones included, and whether it is indexed;
            None where Milvus does not tell
    """

    growing: int
    sealed: list[tuple[int, bool]] | None


class Session:
    """What this process knows of one collection, for all of its objects and threads."""

    def __init__(self) -> None:
        self._changed = self._deleted = float("-inf")
        self._confirmed = True
        self._segments: tuple[float, SegmentState] | None = None
        self._hidden = self._sealed = 0
        self._dead: int | None = None

    def changed(self, *, deleted: bool = False, rows: int = 0) -> None:
        """Notes that this process wrote or deleted rows, or had segments loaded.

        Args:
            deleted (False): whether rows were deleted or replaced
            rows (0): how many were deleted, at most; not those that were replaced
        """
        self._changed = time.monotonic()
        self._hidden += rows
        if deleted:
            self._deleted, self._confirmed = self._changed, False

    def sealed(self) -> None:
        """Notes that this process had all rows sealed."""
        self._sealed = self._hidden
        self.changed()

    def stored(self, growing: int, dead: int) -> int:
        """Returns how many rows growing segments may hold, with those deleted by this process.

        Args:
            growing: how many there are, without deleted ones
            dead: how many deleted rows sealed segments hold

        Returns:
            0 if ``growing`` is 0
        """
        # Fewer than before were removed by a compaction
        found = max(0, dead - (dead if self._dead is None else self._dead))
        self._hidden, self._sealed = max(0, self._hidden - found), max(0, self._sealed - found)
        self._dead = dead
        if not growing:
            self._hidden, self._sealed = max(0, self._hidden - self._sealed), 0
            return 0
        return growing + self._hidden

    def read_level(self, level: str) -> str:
        """Returns the consistency level at which to read.

        Args:
            level: the level of the collection, such as ``"Session"``

        Returns:
            ``"Strong"`` if ``level`` is ``"Session"`` and the read may miss a delete by this
            process, else ``level``
        """
        recent = time.monotonic() - self._deleted < _STRONG_SECONDS
        return "Strong" if level == "Session" and (recent or not self._confirmed) else level

    def read(self, level: str) -> None:
        """Notes that a read has returned.

        Args:
            level: the consistency level at which it was read
        """
        self._confirmed |= level == "Strong"

    def segments(self, ask: Callable[[], SegmentState]) -> SegmentState:
        """Returns the state of the segments, asked for at most every two seconds.

        It is asked for again as soon as this process has changed the collection. Changes by other
        processes, and by the server itself, may go unnoticed for these seconds.

        Args:
            ask: returns the state from Milvus; what it raises is raised

        Returns:
            a :class:`SegmentState`
        """
        now, known = time.monotonic(), self._segments
        if known is None or not self.knows_segments:
            self._segments = known = (now, ask())
        return known[1]

    @property
    def knows_segments(self) -> bool:
        """Whether :meth:`segments` would not ask."""
        if self._segments is None:
            return False
        asked = self._segments[0]
        return asked > self._changed and time.monotonic() - asked <= _SEGMENTS_SECONDS


_sessions: dict[Key, Session] = {}


def session(key: Key) -> Session:
    """Returns what this process knows of a collection.

    Args:
        key: the address, database and name of the collection

    Returns:
        the same :class:`Session` for every call with this key, until :func:`forget`
    """
    return _sessions.setdefault(key, Session())


def forget(key: Key) -> None:
    """Forgets a collection that was dropped.

    Args:
        key: the address, database and name of the collection, which need not be known
    """
    _sessions.pop(key, None)
