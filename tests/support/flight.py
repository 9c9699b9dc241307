"""Counts the rows of a sync that were planned, and are not written yet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from fiftyone_milvus.syncing import upload
from fiftyone_milvus.writing.writer import Writer


class Flight:
    """What a sync holds in memory, in rows: from its planner to Milvus' acknowledgement.

    Attributes:
        now: how many rows are on the way
        most: how many were at most
    """

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def add(self, rows: int) -> None:
        with self._lock:
            self.now += rows
            self.most = max(self.most, self.now)


@contextmanager
def counted() -> Iterator[Flight]:
    """Counts the rows of every sync of this process within it."""
    flight = Flight()
    parts, send = upload._parts, Writer._send

    def planned(*args: Any) -> Iterator[Any]:
        for part in parts(*args):
            flight.add(len(part))
            yield part

    def sent(self: Writer, *args: Any) -> int:
        rows = send(self, *args)
        flight.add(-rows)
        return rows

    with mock.patch.object(upload, "_parts", planned), mock.patch.object(Writer, "_send", sent):
        yield flight
