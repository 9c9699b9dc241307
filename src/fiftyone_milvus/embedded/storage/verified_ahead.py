"""Vectors that are in memory anyway are verified before a search needs them.

The first searches after a start would verify what they read, which takes longer than the rest of
them. A thread does it meanwhile, a little at a time. It reads nothing from the disk.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Any

from fiftyone_milvus.embedded.storage.segments import MappedSegment
from fiftyone_milvus.embedded.storage.verification import DamagedError

#: With fewer bytes of vectors, the first searches take hardly longer than others.
MIN_BYTES = 512 << 20
#: Seconds until it begins, so that the first answer need not share the processors with it.
_DELAY = 0.5
#: Seconds between runs of blocks, twice as long as one takes: others come first. A lower priority
#: would not do: where other programs use all cores, this thread would rarely run, and then keep
#: Python's lock from searches.
_PAUSE = 2e-4


class VerifiedAhead:
    """A part of a collection: verifies in the background what a search would verify first."""

    def load(self: Any) -> None:
        """Loads the collection."""
        is_new = self.load_state != "loaded"
        super().load()  # type: ignore[misc]
        segments = [seg for seg in self._segments_snapshot() if isinstance(seg, MappedSegment)]
        size = sum(seg.vector_bytes for seg in segments)
        if is_new and size >= MIN_BYTES:
            work = threading.Thread(
                target=self._verify_ahead, args=(segments,), name="verify-ahead", daemon=True
            )
            work.start()

    def _verify_ahead(self: Any, segments: Sequence[MappedSegment]) -> None:
        def is_needed() -> bool:
            time.sleep(_PAUSE)
            return not self._bg_closed

        time.sleep(_DELAY)
        with contextlib.suppress(DamagedError):  # it is logged, and each search raises it again
            for checksums in (one for seg in segments for one in seg.checksums.values()):
                checksums.verify_cached(is_needed)
