"""Writes checked rows to a collection, in the background, with retries."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import TracebackType

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.connection import Retry, default_retry
from fiftyone_milvus.dataset.progress import ProgressBar
from fiftyone_milvus.errors import CollectionMismatchError
from fiftyone_milvus.writing.batching import Requests, request_rows, to_rows
from fiftyone_milvus.writing.validation import Batch

logger = logging.getLogger(__name__)

UPLOAD_RETRY_SECONDS = 60.0
"""For how long a request is retried while Milvus does not answer or limits the rate."""

FLUSH_ROWS = 5_000
"""An upload of at least this many rows ends with one flush.

A server searches unsealed rows through an interim index that ignores the search parameters. Sealing
a few rows at a time would cost 0.5-2.6 s each.
"""

_SENDERS = 2
_PENDING = 4
_GRACE = 5.0


class Writer:
    """Writes batches to a collection in the background.

    Batches of any size become requests of about the same size. Only a few requests are pending at
    a time, and :meth:`add` waits if there are more, so memory is bounded. After a transient error
    a request is retried for :data:`UPLOAD_RETRY_SECONDS`; no row is written twice.

    Example::

        with Writer(collection, replace=True) as writer:
            for batch in batches:
                writer.add(batch)
        print(writer.written)

    At the end of the block it sends the rest and waits for all requests. After an exception it
    sends nothing more, and :attr:`written` is what Milvus has acknowledged.

    Args:
        collection: an existing collection
        replace: whether keys may exist already, or be written by others at the same time. Without
            it, a server stores an existing key twice
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
        self._requests = Requests(request_rows(layout.dimension))
        self._pool = ThreadPoolExecutor(_SENDERS, thread_name_prefix="fiftyone-milvus")
        self._pending: dict[Future[int], None] = {}
        self._failure: BaseException | None = None
        self._written = 0
        self._cancelled = threading.Event()
        self._retry_log = _RetryLog()

    @property
    def written(self) -> int:
        """How many rows Milvus has acknowledged."""
        return self._written

    def add(self, batch: Batch) -> None:
        """Takes rows to write; returns before they are written.

        Args:
            batch: the rows, whose vectors must not change any more

        Raises:
            FiftyOneMilvusError: the error of an earlier request
        """
        self._collect(_PENDING)
        for parts in self._requests.add(batch):
            self._collect(_PENDING - 1)
            self._submit(parts)

    def send(self) -> None:
        """Sends what has been added so far, so that a crash can't lose it; does not wait.

        Raises:
            FiftyOneMilvusError: the error of an earlier request
        """
        if rest := self._requests.rest():
            self._collect(_PENDING - 1)
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
                if rest := self._requests.rest():
                    self._submit(rest)
                self._collect(0)
        finally:
            self._cancelled.set()
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._count_late()

    def _submit(self, parts: Sequence[Batch]) -> None:
        self._pending[self._pool.submit(self._send, parts)] = None

    def _send(self, parts: Sequence[Batch]) -> int:
        rows = to_rows(parts, self._layout)
        retry = Retry(UPLOAD_RETRY_SECONDS, self._retry_log.begin, self._cancelled)
        self._collection.write(rows, replace=self._replace, retry=retry)
        self._retry_log.end()
        return len(rows)

    def _collect(self, limit: int) -> None:
        """Waits until at most ``limit`` requests are pending; raises the error of a failed one."""
        while self._failure is None:
            for future in [f for f in self._pending if f.done()]:
                del self._pending[future]
                try:
                    count = future.result()
                except BaseException as error:
                    self._failure = self._failure or error
                else:
                    self._written += count
                    if self._on_written is not None:
                        self._on_written(count)
            if self._failure is None:
                if len(self._pending) <= limit:
                    return
                wait(self._pending, return_when=FIRST_COMPLETED)
        raise self._failure

    def _count_late(self) -> None:
        """Waits a moment for requests that are being sent, and counts what they wrote."""
        done, _ = wait([f for f in self._pending if not f.cancelled()], timeout=_GRACE)
        self._written += sum(future.result() for future in done if future.exception() is None)
        self._pending.clear()


@contextmanager
def retried_as_uploads() -> Iterator[None]:
    """Within it, this thread waits for Milvus as long as a :class:`Writer` does, and says so."""
    log = _RetryLog()
    with default_retry(Retry(UPLOAD_RETRY_SECONDS, log.begin)):
        yield
    log.end("Milvus answers again")


def upload(collection: MilvusCollection, batch: Batch, *, replace: bool) -> None:
    """Writes rows, with a progress bar, and flushes if there are many.

    Args:
        collection: an existing collection
        batch: the rows
        replace: whether keys may exist already
    """
    show = len(batch) > request_rows(collection.layout.dimension)
    with (
        ProgressBar(len(batch), "Uploading embeddings to Milvus", show=show) as bar,
        Writer(collection, replace=replace, on_written=bar.update) as writer,
    ):
        writer.add(batch)
    flush_if_due(collection, len(batch))


def flush_if_due(collection: MilvusCollection, rows: int, *, wait: bool = True) -> None:
    """Seals written rows if there are enough of them to be worth the time.

    Args:
        collection: an existing collection
        rows: how many were written since the last flush
        wait: whether to wait until they are sealed, which takes a server seconds, however few the
            rows; they are acknowledged and found before. The embedded engine is always waited for
    """
    lite = collection.connection.engine.lite
    if rows < FLUSH_ROWS and not (lite and rows >= request_rows(collection.layout.dimension)):
        return
    if wait or lite:
        collection.flush(retry=Retry(UPLOAD_RETRY_SECONDS, _RetryLog().begin))
    else:
        threading.Thread(target=_flush, args=(collection,), daemon=True).start()


def _flush(collection: MilvusCollection) -> None:
    try:
        collection.flush()
    except Exception as error:
        # The collection may have been dropped; a server seals rows by itself in time
        logger.debug("The %s was not flushed: %s", collection.where, error)


class _RetryLog:
    """Logs once that requests are being retried, and once that they succeed again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._retrying = False

    def _set(self, retrying: bool) -> bool:
        """Returns whether this changes the state."""
        with self._lock:
            before, self._retrying = self._retrying, retrying
        return before != retrying

    def begin(self, problem: str) -> None:
        if self._set(True):
            logger.warning("%s; trying again for %d s", problem, UPLOAD_RETRY_SECONDS)

    def end(self, message: str = "Milvus takes rows again") -> None:
        if self._set(False):
            logger.info(message)
