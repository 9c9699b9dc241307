"""Reading ahead: the next item is fetched while the last is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yields items, the next of which a thread is fetching meanwhile.

    Ends the thread when it is exhausted, closed or fails; at most two items exist at a time.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="fiftyone-milvus") as pool:
        waiting = pool.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, items, None)
            yield item
            del item
