"""Checks of the numbers that callers pass, as built-in numbers.

An integer is what Python accepts as an index, such as ``numpy.int64(3)``; a bool is not one.
MongoDB and Milvus store no numpy numbers, so the checks return ``int`` and ``float``.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from fiftyone_milvus.errors import InvalidInputError


def as_integer(value: Any) -> int | None:
    """Returns a value as an ``int``, or None if Python does not accept it as an integer."""
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def as_number(value: Any) -> int | float | None:
    """Returns a value as an ``int`` or ``float``, or None if it is not a number."""
    if isinstance(value, (float, np.floating)):
        return float(value)
    return as_integer(value)


def check_integer(
    name: str, value: Any, low: int = 1, high: int | None = None, *, hint: str = ""
) -> int:
    """Returns a value as an ``int``.

    Args:
        name: of the parameter, for the error
        value: what the caller passed
        low (1): the smallest valid value
        high (None): the largest valid value, if there is one
        hint (""): what else is valid, for the error

    Raises:
        InvalidInputError: if it is not an integer, or out of range
    """
    number = as_integer(value)
    if number is not None and low <= number <= (number if high is None else high):
        return number
    bounds = f"above {low - 1}" if low == 1 else f"of at least {low}"
    if high is not None:
        bounds = f"from {low} to {high}"
    raise InvalidInputError(f"Invalid {name} {value!r}; expected an integer {bounds}{hint}")


def check_k(k: Any) -> int | None:
    """Returns a number of results as an ``int``, or None for all; raises InvalidInputError."""
    return None if k is None else check_integer("k", k, hint=", or None for all")


def check_batch_size(batch_size: Any) -> int | None:
    """Returns a batch size as an ``int``, or None for a default; raises InvalidInputError."""
    if batch_size is None:
        return None
    return check_integer("batch_size", batch_size, hint=", or None for a default")


def check_distance(value: Any, name: str = "thresh") -> float:
    """Returns a distance as a ``float``, which may be infinite; raises InvalidInputError."""
    number = _float(value)
    if math.isnan(number):
        raise InvalidInputError(f"Invalid {name} {value!r}; expected a distance, such as 0.2")
    return number


def check_fraction(value: Any) -> float:
    """Returns a fraction as a ``float``, clipped to ``[0, 1]``; raises InvalidInputError."""
    number = _float(value)
    if math.isnan(number):
        raise InvalidInputError(f"Invalid fraction {value!r}; expected a number from 0 to 1")
    return min(max(number, 0.0), 1.0)


def check_recall(value: Any) -> float:
    """Returns a recall as a ``float`` above 0 and at most 1; raises InvalidInputError."""
    number = _float(value)
    if isinstance(value, bool) or not 0 < number <= 1:
        raise InvalidInputError(
            f"Invalid recall {value!r}; expected a number above 0 and at most 1, such as 0.99"
        )
    return number


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
