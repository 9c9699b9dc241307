"""The vector index is built, after the rows were written."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from fiftyone_milvus.collection.reads import Reads
from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.errors import EngineError, PermissionDeniedError

EXACT = ("FLAT", "BRUTE_FORCE", "GPU_BRUTE_FORCE")
"""Index types that scan."""

INDEXED_FROM = 1_024
"""Rows: smaller segments of a server get no index
(``indexCoord.segment.minSegmentNumRowsToEnableIndex``)."""

_SHOW_FROM = 20_000
_POLL = 0.1
_REFRESH = 1.0
_STALLED = 600.0


class Building(Reads):
    """Knows what of the collection its vector index answers for."""

    def wait_until_built(self, *, progress: Any = None) -> bool:
        """Seals what was written, and waits until all that an index is built for has it.

        Until then rows are scanned, or searched through an interim index that no parameter reaches.

        Args:
            progress (None): as FiftyOne's progress bars take it

        Returns:
            whether the index answers for any row; False if all are scanned, which is exact

        Raises:
            EngineError: if nothing more is built for ten minutes
        """
        self.wait_until_loaded()
        self.flush()
        rows = self.count(strong=True)
        if self.layout.index_type in EXACT or not rows:
            return False
        show = rows >= _SHOW_FROM
        with ProgressBar(rows, "Building the index", show=show, progress=progress) as bar:
            done, since, refreshed = 0, time.monotonic(), 0.0
            while True:
                built, loaded = self._progress(rows)
                if built > done:
                    bar.update(built - done)
                    done, since = built, time.monotonic()
                if built == rows:
                    if loaded:
                        break
                    if time.monotonic() - refreshed > _REFRESH:
                        self._refresh()
                        refreshed = time.monotonic()
                if time.monotonic() - since > _STALLED:
                    raise EngineError(
                        f"The {self.where} has its index built for {done} of {rows} rows, and no "
                        f"more for {_STALLED:.0f} s; see the server's log, and try again later"
                    )
                time.sleep(_POLL)
        segments = None if self.connection.engine.lite else self.sealed_segments()
        return segments is None or any(indexed for _, indexed in segments)

    def _progress(self, rows: int) -> tuple[int, bool]:
        """Returns for how many rows the index is built, and whether searches use it."""
        found = self.built().rows
        built = rows if found is None else min(rows, found)
        segments = None if self.connection.engine.lite else self.sealed_segments()
        if segments is None:
            return built, True
        waiting = any(n >= INDEXED_FROM and not indexed for n, indexed in segments)
        if waiting or sum(n for n, _ in segments) < rows:
            return built, False
        return built, self.count(sealed_only=True) >= rows

    def _refresh(self) -> None:
        """Has a server load what it has just built, which it would do in some ten seconds."""
        with suppress(EngineError, PermissionDeniedError):
            self._call(lambda c: c.refresh_load(self.name, timeout=self.timeout))
