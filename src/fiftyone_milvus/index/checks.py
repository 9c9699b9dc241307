"""What numbers a caller may give."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from fiftyone_milvus.errors import InvalidInputError


def check_k(k: Any) -> None:
    """Raises if ``k`` is no number of results, nor None."""
    if k is not None and (isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1):
        raise InvalidInputError(f"Invalid k {k!r}; expected an integer above 0, or None for all")


def check_thresh(thresh: Any, name: str = "thresh") -> float:
    """Returns a distance as a float, or raises; infinity is one."""
    try:
        value = float(thresh)
    except (TypeError, ValueError):
        raise InvalidInputError(f"Invalid {name} {thresh!r}; expected a distance") from None
    if np.isnan(value):
        raise InvalidInputError(f"Invalid {name} nan; expected a distance")
    return value


def check_fraction(fraction: Any) -> float:
    """Returns a fraction as a float in ``[0, 1]``, or raises."""
    try:
        value = float(fraction)
    except (TypeError, ValueError):
        value = np.nan
    if np.isnan(value):
        raise InvalidInputError(f"Invalid fraction {fraction!r}; expected a number in [0, 1]")
    return min(max(value, 0.0), 1.0)


def check_batch_size(batch_size: Any) -> int | None:
    """Returns a number of embeddings as an integer, or None; or raises."""
    if batch_size is None:
        return None
    try:
        size = operator.index(batch_size)
    except TypeError:
        size = 0
    if size < 1 or isinstance(batch_size, bool):
        raise InvalidInputError(
            f"batch_size={batch_size!r} is not a number of embeddings; expected an integer of at "
            "least 1, or None for a default"
        )
    return size


def check_recall(recall: Any) -> float:
    """Returns a recall as a float above 0 and at most 1, or raises."""
    try:
        value = float(recall)
    except (TypeError, ValueError):
        value = np.nan
    if isinstance(recall, bool) or not 0 < value <= 1:
        raise InvalidInputError(
            f"Invalid recall {recall!r}; expected a number above 0 and at most 1, as 0.99"
        )
    return value
