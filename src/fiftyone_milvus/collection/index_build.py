"""Waits for the vector index to be built."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from fiftyone_milvus.collection.reads import Reads
from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.errors import EngineError, PermissionDeniedError

EXACT = ("FLAT", "BRUTE_FORCE", "GPU_BRUTE_FORCE")
"""Index types that compare every row."""

INDEXED_FROM = 1_024
"""The rows of a segment from which on a server builds an index for it
(``indexCoord.segment.minSegmentNumRowsToEnableIndex``)."""

SCANNED_BYTES = 48 << 20
"""Up to so many bytes of vectors, AUTOINDEX of the embedded engine compares every row."""

_SHOW_FROM = 20_000
_POLL = 0.1
_REFRESH = 1.0
_STALLED = 600.0


class IndexBuild(Reads):
    """Waits until searches use the vector index."""

    def wait_until_built(self, *, progress: Any = None) -> bool:
        """Seals all rows, and waits until every segment that is large enough has its index.

        Until then a server scans rows, or searches an interim index that ignores all parameters.

        Args:
            progress (None): whether to show a progress bar, or a callable, as in FiftyOne

        Returns:
            whether the index is used for any row; False if all are scanned, which is exact

        Raises:
            EngineError: if the build makes no progress for ten minutes
            FiftyOneMilvusError: if Milvus can't be reached or refuses
        """
        self.wait_until_loaded()
        self.flush()
        rows = self.count(strong=True)
        if self.is_scanned(rows):
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
                        f"The index of the {self.where} is built for {done} of {rows} rows, and "
                        f"for no more since {_STALLED:.0f} s; see the server's log, and try again "
                        "later"
                    )
                time.sleep(_POLL)
        sealed = self._server_segments()
        return sealed is None or any(indexed for _, indexed in sealed)

    def is_scanned(self, rows: int) -> bool:
        """Returns whether every search compares all of so many rows, by the index type alone."""
        layout = self.layout
        if self.connection.engine.lite and layout.index_type == "AUTOINDEX":
            return 4 * rows * layout.dimension < SCANNED_BYTES
        return layout.index_type in EXACT or not rows

    def _progress(self, rows: int) -> tuple[int, bool]:
        """Returns the number of rows that are indexed, and whether searches use the index."""
        found = self.built().rows
        built = rows if found is None else min(rows, found)
        sealed = self._server_segments()
        if sealed is None:
            return built, True
        waiting = any(n >= INDEXED_FROM and not indexed for n, indexed in sealed)
        loaded = not waiting and sum(n for n, _ in sealed) >= rows
        return built, loaded and self.count(sealed_only=True) >= rows

    def _server_segments(self) -> list[tuple[int, bool]] | None:
        return None if self.connection.engine.lite else self.sealed_segments()

    def _refresh(self) -> None:
        """Makes a server load the index it has just built; it would wait some ten seconds."""
        with suppress(EngineError, PermissionDeniedError):
            self._call(self._request("refresh_load"))
        self._session.changed()
