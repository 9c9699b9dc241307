"""Reads images in threads, ahead of who takes them."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import cv2
import fiftyone.utils.image as foui
import numpy as np

_AHEAD_BYTES = 64 << 20
"""How many bytes of images may wait for the model before reading pauses."""

_CHUNK = 16
"""The most images that a thread reads in one turn, as handing over each of them costs time."""

_CHUNK_BYTES = 1 << 20
_MOST_CHUNKS = 32

_KEPT_BYTES = 31 << 20
"""The size up to which memory that is free is kept for the next image.

Half of the time of reading a large image can go into getting new memory from Linux. The C library
gives back what is larger than the largest array that was freed before, up to 32 MB.
"""


def read(path: Any) -> Any:
    """Reads an image as FiftyOne does, in half the time.

    FiftyOne has OpenCV read it into one array and copy it to another, and exchanges red and blue
    with an index, which takes long and lets no other thread run meanwhile.

    Args:
        path: the path or URL of an image

    Returns:
        the ``height x width x 3`` uint8 array that ``fiftyone.utils.image.read()`` returns, with
        each color in one piece of memory as there: sums of floats depend on it

    Raises:
        Exception: if it can't be read
    """
    try:
        # With an array to read into, even if there is none, nothing is copied
        image = cv2.imread(path, None, cv2.IMREAD_COLOR)
    except Exception:
        # An OpenCV that can't, or no path
        image = None
    if image is None:
        return foui.read(path)
    red, green, blue = planes = np.empty((3, *image.shape[:2]), np.uint8)
    cv2.split(image, [blue, green, red])
    return planes.transpose(1, 2, 0)


class Reader:
    """An iterator over images in the order of their paths, which threads read ahead.

    An image that can't be read is the exception. No more is read while :data:`_AHEAD_BYTES` wait.

    Args:
        paths: of the images; taken by the thread that takes the images, before they are needed
        threads (None): how many read; by default, one more than there are processors
    """

    def __init__(self, paths: Iterable[str], threads: int | None = None) -> None:
        np.empty(_KEPT_BYTES, np.uint8)  # and freed; it is never written, so it costs nothing
        self._paths = iter(paths)
        self._chunk = 1
        threads = threads or (os.cpu_count() or 1) + 1
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fiftyone-milvus-images")
        self._pending: deque[Future[list[Any]]] = deque()
        self._changed = threading.Condition()
        self._submitted = 0
        self._first = 0  # the chunk that is needed next, which is read in any case
        self._bytes = 0
        self._closed = False

    def __enter__(self) -> Iterator[Any]:
        return self._images()

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        # A file system that does not answer must not hold up an interruption
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _images(self) -> Iterator[Any]:
        while True:
            while len(self._pending) < _MOST_CHUNKS:
                if not (paths := list(islice(self._paths, self._chunk))):
                    break
                self._pending.append(self._pool.submit(self._read, self._submitted, paths))
                self._submitted += 1
            if not self._pending:
                return
            images = self._pending.popleft().result()
            size = sum(map(_size, images))
            self._chunk = min(max(1, _CHUNK_BYTES * len(images) // max(size, 1)), _CHUNK)
            with self._changed:
                self._first += 1
                self._bytes -= size
                self._changed.notify_all()
            yield from images

    def _read(self, number: int, paths: Sequence[str]) -> list[Any]:
        images: list[Any] = []
        for path in paths:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._bytes < _AHEAD_BYTES or number == self._first or self._closed
                )
                if self._closed:
                    break
            try:
                images.append(read(path))
            except Exception as error:
                images.append(error)
            with self._changed:
                self._bytes += _size(images[-1])
        return images


def _size(image: Any) -> int:
    return getattr(image, "nbytes", 0)
