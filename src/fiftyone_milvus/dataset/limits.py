"""The number of results that one FiftyOne view can hold.

A view is a MongoDB aggregation, whose command is one BSON document of at most 16 MiB.
``select(ids, ordered=True)`` holds its IDs twice: to match them, and to sort by them.
"""

from __future__ import annotations

from typing import Any

import bson

from fiftyone_milvus.errors import InvalidInputError

MAX_PIPELINE_BYTES = (16 << 20) - (64 << 10)
"""MongoDB's limit, less some space for further stages and the App."""

CHECK_FROM = 100_000
"""Fewer IDs always fit."""

_ID_BYTES = 1 + 1 + 12  # of an array's element: type, end of the index' digits, ObjectId


def check_results(samples: Any, num_samples: int, num_labels: int = 0) -> None:
    """Checks that a view of search results can be loaded.

    Args:
        samples: the :class:`fiftyone.core.collections.SampleCollection` that was searched
        num_samples: the number of IDs that the view selects and sorts by
        num_labels (0): the number of label IDs that it also filters by

    Raises:
        InvalidInputError: if MongoDB would refuse the view
    """
    if num_samples + num_labels < CHECK_FROM:
        return
    left = MAX_PIPELINE_BYTES - len(bson.encode({"pipeline": samples._pipeline()}))
    if 2 * array_bytes(num_samples) + array_bytes(num_labels) > left:
        # Six digits an ID, in two or three arrays
        arrays = 3 if num_labels else 2
        most = max(0, left // (arrays * (_ID_BYTES + 6)) // 1000 * 1000)
        raise InvalidInputError(
            f"{max(num_samples, num_labels):,} results are too many for a FiftyOne view, which "
            f"holds the IDs of about {most:,} here; pass a smaller k, or "
            "take IDs and distances from index.search(..., max_distance=float('inf'))"
        )


def array_bytes(count: int) -> int:
    """Returns the BSON size of the elements of an array of ``count`` ObjectIds."""
    digits, width, start = 0, 1, 0
    while start < count:
        stop = min(count, 10**width)
        digits += width * (stop - start)
        start, width = stop, width + 1
    return count * _ID_BYTES + digits
