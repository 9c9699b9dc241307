"""Reads the next item while the last one is in use."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(items: Iterator[T]) -> Iterator[T]:
    """Yields the items of an iterator, while a thread reads the next one.

    At most two items exist at a time. The thread ends when the iterator ends, fails or is closed.

    Args:
        items: an iterator; None ends it

    Yields:
        the items, in their order; what the iterator raises is raised
    """
    with ThreadPoolExecutor(1, thread_name_prefix="fiftyone-milvus") as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item
            del item
