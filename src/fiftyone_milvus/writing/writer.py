"""Checked rows → a collection: in the background, with back-pressure and patience."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.connection import Patience
from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.errors import CollectionMismatchError
from fiftyone_milvus.writing.batching import Cutter, batch_rows, to_rows
from fiftyone_milvus.writing.validation import Batch

logger = logging.getLogger(__name__)

WRITE_PATIENCE = 60.0
"""Seconds for which a request is repeated while Milvus is away or asks for less."""

FLUSH_ROWS = 5_000
"""From this many rows on, an upload ends with one flush.

A server searches what is not sealed through an interim index that no parameter reaches; sealing a
handful of rows each time would cost 0.5-2.6 s.
"""

_SENDERS = 2
_UNDER_WAY = 4
_GRACE = 5.0


class Writer:
    """Writes batches to a collection in the background.

    Batches of any size become requests of about the same size. A few requests are under way at a
    time; :meth:`add` waits while there are more, so memory stays bounded. What fails for a reason
    that passes is repeated for :data:`WRITE_PATIENCE`; no row is there twice for it.

    Example::

        with Writer(collection, replace=True) as writer:
            for batch in batches:
                writer.add(batch)
        print(writer.written)

    Leaving the block sends what is left and waits for everything. If it is left by an exception,
    what was not sent never is, and :attr:`written` says what Milvus has acknowledged.

    Args:
        collection: an existing collection
        replace: whether keys may exist already, or be written by others at the same time; without
            it, a key that exists would be there twice on a server
        on_written: is called with the number of rows of each acknowledged request, by the thread
            that calls :meth:`add`

    Raises:
        CollectionMismatchError: if the collection requires fields that FiftyOne does not fill
    """

    def __init__(
        self,
        collection: MilvusCollection,
        *,
        replace: bool,
        on_written: Callable[[int], None] | None = None,
    ) -> None:
        layout = collection.layout
        if layout.required:
            raise CollectionMismatchError(
                f"The {collection.where} requires the fields {list(layout.required)}, which "
                "FiftyOne does not fill; add rows with index.client, or make them nullable"
            )
        self._collection = collection
        self._layout = layout
        self._replace = replace
        self._on_written = on_written
        self._cutter = Cutter(batch_rows(layout.dimension))
        self._pool = ThreadPoolExecutor(_SENDERS, thread_name_prefix="fiftyone-milvus")
        self._under_way: dict[Future[int], None] = {}
        self._failure: BaseException | None = None
        self._written = 0
        self._given_up = threading.Event()
        self._waiting = _Waiting()

    @property
    def written(self) -> int:
        """How many rows Milvus has acknowledged."""
        return self._written

    def add(self, batch: Batch) -> None:
        """Takes rows to write; returns before they are written.

        Args:
            batch: the rows, whose vectors must not be changed any more

        Raises:
            FiftyOneMilvusError: what an earlier request failed with
        """
        self._collect(_UNDER_WAY)
        for parts in self._cutter.add(batch):
            self._collect(_UNDER_WAY - 1)
            self._submit(parts)

    def send(self) -> None:
        """Sends what waits for more rows, so that a crash can't lose it; waits for nothing.

        Raises:
            FiftyOneMilvusError: what an earlier request failed with
        """
        if rest := self._cutter.rest():
            self._collect(_UNDER_WAY - 1)
            self._submit(rest)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                if rest := self._cutter.rest():
                    self._submit(rest)
                self._collect(0)
        finally:
            self._given_up.set()
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._settle()

    def _submit(self, parts: Sequence[Batch]) -> None:
        self._under_way[self._pool.submit(self._send, parts)] = None

    def _send(self, parts: Sequence[Batch]) -> int:
        rows = to_rows(parts, self._layout)
        patience = Patience(WRITE_PATIENCE, self._waiting.begin, self._given_up)
        self._collection.write(rows, replace=self._replace, patience=patience)
        self._waiting.end()
        return len(rows)

    def _collect(self, limit: int) -> None:
        """Waits until no more than ``limit`` requests are under way; raises what one raised."""
        while self._failure is None:
            for future in [f for f in self._under_way if f.done()]:
                del self._under_way[future]
                try:
                    count = future.result()
                except BaseException as error:
                    self._failure = self._failure or error
                else:
                    self._written += count
                    if self._on_written is not None:
                        self._on_written(count)
            if self._failure is None:
                if len(self._under_way) <= limit:
                    return
                wait(self._under_way, return_when=FIRST_COMPLETED)
        raise self._failure

    def _settle(self) -> None:
        """Gives what is being sent a moment, and counts it if it was written."""
        done, _ = wait([f for f in self._under_way if not f.cancelled()], timeout=_GRACE)
        for future in done:
            if future.exception() is None:
                self._written += future.result()
        self._under_way.clear()


def upload(collection: MilvusCollection, batch: Batch, *, replace: bool) -> None:
    """Writes rows, with a progress bar, and seals them if they are many.

    Args:
        collection: an existing collection
        batch: the rows
        replace: whether keys may exist already
    """
    show = len(batch) > batch_rows(collection.layout.dimension)
    with (
        ProgressBar(len(batch), "Uploading embeddings to Milvus", show=show) as bar,
        Writer(collection, replace=replace, on_written=bar.update) as writer,
    ):
        writer.add(batch)
    flush_if_due(collection, len(batch))


def flush_if_due(collection: MilvusCollection, rows: int, *, wait: bool = True) -> None:
    """Seals what was written if that is worth its time.

    Args:
        collection: an existing collection
        rows: how many were written since it was last sealed
        wait: whether to return when it is sealed. A server takes seconds for that, however few the
            rows; they are acknowledged before, and found. The embedded engine is always waited for
    """
    lite = collection.connection.engine.lite
    if rows < FLUSH_ROWS and not (lite and rows >= batch_rows(collection.layout.dimension)):
        return
    if wait or lite:
        collection.flush(patience=Patience(WRITE_PATIENCE, _Waiting().begin))
    else:
        threading.Thread(target=_flush, args=(collection,), daemon=True).start()


def _flush(collection: MilvusCollection) -> None:
    try:
        collection.flush()
    except Exception as error:
        # Dropped meanwhile, perhaps; a server seals rows by itself in time
        logger.debug("The %s was not flushed: %s", collection.where, error)


class _Waiting:
    """Says once that requests are being repeated, and once that they need not be any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told = False

    def begin(self, problem: str) -> None:
        with self._lock:
            told, self._told = self._told, True
        if not told:
            logger.warning("%s; trying again for %d s", problem, WRITE_PATIENCE)

    def end(self) -> None:
        with self._lock:
            told, self._told = self._told, False
        if told:
            logger.info("Milvus takes rows again")
