"""How many results one FiftyOne view can hold.

A view is a MongoDB aggregation, and the command that runs it is one BSON document of 16 MiB at
most. ``select(ids, ordered=True)`` holds its IDs twice: to match them, and to sort by them.
"""

from __future__ import annotations

from typing import Any

import bson

from fiftyone_milvus.errors import InvalidInputError

MAX_PIPELINE_BYTES = (16 << 20) - (64 << 10)
"""MongoDB's limit less what further stages, and the App, may add."""

CHECK_FROM = 100_000
"""Fewer IDs fit beside any view's own stages."""

_ID_BYTES = 1 + 1 + 12  # of an array's element: type, end of the index' digits, ObjectId


def check_results(samples: Any, num_samples: int, num_labels: int = 0) -> None:
    """Checks that a view of search results can be loaded.

    Args:
        samples: the :class:`fiftyone.core.collections.SampleCollection` that was searched
        num_samples: the IDs that the view selects and sorts by
        num_labels: the IDs of labels that it filters by besides

    Raises:
        InvalidInputError: if MongoDB would refuse it
    """
    if num_samples + num_labels < CHECK_FROM:
        return
    left = MAX_PIPELINE_BYTES - len(bson.encode({"pipeline": samples._pipeline()}))
    if 2 * array_bytes(num_samples) + array_bytes(num_labels) > left:
        raise InvalidInputError(
            f"{max(num_samples, num_labels):,} results are too many for a FiftyOne view, which "
            f"holds the IDs of about {_most(left, num_labels > 0):,} here; pass a smaller k, or "
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


def _most(left: int, labels: bool) -> int:
    """Returns the most IDs that fit, to the thousand: each takes 6 digits and 2 or 3 places."""
    return max(0, left // ((3 if labels else 2) * (_ID_BYTES + 6)) // 1000 * 1000)
