"""Embeds with several workers at the same time, and replaces those that are lost."""

from __future__ import annotations

import logging
import pickle
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np

from fiftyone_milvus.errors import InvalidInputError, WorkerError
from fiftyone_milvus.syncing.embedding_errors import reason
from fiftyone_milvus.syncing.expected_rows import Expected
from fiftyone_milvus.syncing.pool import Lost, Pool, Worker
from fiftyone_milvus.syncing.sources import Found, ModelSource, Source

logger = logging.getLogger(__name__)

_ATTEMPTS = 3
"""How often a part is taken up, or a worker started, if the processes end."""

_EXAMPLES = 64
"""How many media are tried before anything is embedded."""


def packed(model: Any) -> bytes:
    """Returns a model as other processes can load it.

    Raises:
        InvalidInputError: if it can't be copied
    """
    remedy = "pass the name of a zoo model, or leave out workers and ray"
    if type(model).__module__ == "__main__":
        raise InvalidInputError(
            f"Other processes can't load the model {type(model).__name__}, as __main__ defines it; "
            f"move its class to a module, {remedy}"
        )
    try:
        return pickle.dumps(model)
    except Exception as error:
        raise InvalidInputError(
            f"The model {type(model).__name__} can't be copied to other processes "
            f"({reason(error)}); {remedy}"
        ) from error


class WorkersSource(Source):
    """A model in several workers, which start when there is something to embed.

    Each has one part at a time. No more parts are given out than the upload takes.

    Args:
        samples: as for :class:`Source`
        patches_field: likewise
        pool: where the workers run

    Attributes:
        lost: how many workers ended before they were told to
    """

    no_embedding = ModelSource.no_embedding

    def __init__(self, samples: Any, patches_field: str | None, pool: Pool) -> None:
        super().__init__(samples, patches_field)
        self.lost = 0
        self._pool = pool
        self._examples: Expected | None = None
        self._ready: list[Worker | None] = [None] * pool.count
        self._starting: list[Worker | None] = [None] * pool.count
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._lock = threading.Lock()

    def prepare(self, expected: Expected, missing: int) -> None:
        """Chooses some rows, over all that are expected, to try whether workers can read them."""
        super().prepare(expected, missing)
        count = min(len(expected), _EXAMPLES)
        self._examples = expected.take(np.linspace(0, len(expected) - 1, count).astype(np.intp))

    def embed(self, part: Expected) -> Found:
        """Embeds one part."""
        ((_, found, _),) = self.each(iter([part]))
        return found

    def each(self, parts: Iterator[Expected]) -> Iterator[tuple[Expected, Found, float]]:
        """Embeds parts at the same time; yields them as they are done."""
        if (first := next(parts, None)) is None:
            return
        if self._examples is not None:
            examples, self._examples = self._examples, None
            self._pool.open(self, examples)
        # Bounded, so that workers wait where the upload is slower
        done: queue.Queue[Any] = queue.Queue(self._pool.count)
        work = _Work(chain([first], parts))
        self._threads = [
            threading.Thread(target=self._run, args=(slot, work, done), daemon=True)
            for slot in range(self._pool.count)
        ]
        try:
            for thread in self._threads:
                thread.start()
            while (answer := done.get()) is not None:
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
        finally:
            work.end()
            self._kill(self._starting)

    def close(self) -> None:
        """Ends the workers."""
        with self._lock:
            self._closed = True
        self._kill(self._starting)
        self._kill(self._ready)
        for thread in self._threads:
            # Not for ever: FiftyOne's database may not answer it
            thread.join(5)
        self._pool.close()

    def _kill(self, workers: list[Worker | None]) -> None:
        with self._lock:
            found = [worker for worker in workers if worker is not None]
        for worker in found:
            worker.kill()

    def _run(self, slot: int, work: _Work, done: queue.Queue[Any]) -> None:
        def put(answer: Any) -> None:
            while not self._over(work):
                try:
                    done.put(answer, timeout=0.2)
                    break
                except queue.Full:
                    pass

        try:
            if self._ready[slot] is None and not work.reserve():
                return
            while (worker := self._worker(slot, work)) is not None:
                if (taken := work.take()) is None:
                    put(None)
                    return
                part, attempt = taken
                start = time.monotonic()
                try:
                    found = worker.embed(part)
                except Lost as lost:
                    self._ready[slot] = None
                    worker.kill()
                    if self._over(work):
                        return
                    what = f"{len(part)} vectors"
                    if attempt == _ATTEMPTS:
                        raise WorkerError(
                            f"The worker {lost.how}, {_ATTEMPTS} times with the same {what}; what "
                            "was embedded is kept: use fewer workers or a smaller batch_size if "
                            "memory is short, or none, to see which sample it is"
                        ) from None
                    self._count(f"Worker {slot} {lost.how}; another one embeds its {what}")
                    work.give_back(part, attempt + 1)
                else:
                    put((part, found, time.monotonic() - start))
                    work.done()
        except BaseException as error:
            put(error)

    def _worker(self, slot: int, work: _Work) -> Worker | None:
        """Returns the worker of a slot when it is ready; None if it is not needed any more."""
        if (worker := self._ready[slot]) is not None:
            return worker
        for attempt in range(1, _ATTEMPTS + 1):
            with self._lock:
                if self._over(work):
                    return None
                worker = self._starting[slot] = self._pool.worker()
            try:
                worker.start()
            except Lost as lost:
                if self._over(work):
                    return None
                if attempt == _ATTEMPTS:
                    raise WorkerError(
                        f"The worker {lost.how}, {_ATTEMPTS} times before it had loaded the model; "
                        "use fewer workers if memory is short, or none, to see why"
                    ) from None
                self._count(f"Worker {slot} {lost.how}; another one takes its place")
            else:
                with self._lock:
                    self._starting[slot] = None
                    if not self._over(work):
                        self._ready[slot] = worker
                        return worker
                worker.kill()
                return None
        return None

    def _over(self, work: _Work) -> bool:
        return self._closed or work.ended

    def _count(self, message: str) -> None:
        with self._lock:
            self.lost += 1
        logger.warning(message)


class _Work:
    """Parts, each of which is given out until it is embedded.

    Attributes:
        ended: whether they are not needed any more
    """

    def __init__(self, parts: Iterator[Expected]) -> None:
        self.ended = False
        self._parts = parts
        self._free: deque[tuple[Expected, int]] = deque()
        self._out = 0
        self._changed = threading.Condition()

    def reserve(self) -> bool:
        """Whether there is a part for one more worker, which anyone may take before it starts."""
        with self._changed:
            if (part := next(self._parts, None)) is None:
                return False
            self._free.append((part, 1))
            return True

    def take(self) -> tuple[Expected, int] | None:
        """Returns a part, and how often it was taken; None if all are done.

        While others embed the last ones, waits: a lost worker's part is given out again.
        """
        with self._changed:
            while not self.ended:
                if not self._free and (part := next(self._parts, None)) is not None:
                    self._free.append((part, 1))
                if self._free:
                    self._out += 1
                    return self._free.popleft()
                if not self._out:
                    break
                self._changed.wait()
            return None

    def done(self) -> None:
        """Is called when a part was embedded, and its embeddings are with the upload."""
        with self._changed:
            self._out -= 1
            self._changed.notify_all()

    def give_back(self, part: Expected, attempt: int) -> None:
        """Is called when a part's worker was lost."""
        with self._changed:
            self._out -= 1
            self._free.append((part, attempt))
            self._changed.notify_all()

    def end(self) -> None:
        """No part is needed any more."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()
