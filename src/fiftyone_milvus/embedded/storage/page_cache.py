"""What of a mapped file is in memory already, so that using it reads nothing from the disk."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np

try:
    _mincore: Any = ctypes.CDLL(None, use_errno=True).mincore
    _mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
except (OSError, AttributeError, TypeError):  # Windows has none
    _mincore = None


def holds(content: memoryview) -> bool:
    """Whether all of a part of a mapped file is in the system's page cache; False if unknown.

    Args:
        content: the part
    """
    if _mincore is None or not len(content):
        return False
    start = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    first = start - start % mmap.PAGESIZE
    size = start + len(content) - first
    pages = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
    if _mincore(first, size, pages) != 0:
        return False
    # The other bits mean something on some systems only
    return bool((np.frombuffer(pages.raw, np.uint8) & 1).all())
