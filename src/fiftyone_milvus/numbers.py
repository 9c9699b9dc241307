"""Checks of the numbers and switches that callers pass, as built-in ones.

An integer is what Python accepts as an index, such as ``numpy.int64(3)``; a bool is not one.
MongoDB and Milvus store no numpy numbers, so the checks return ``int`` and ``float``.
"""

from __future__ import annotations

import math
import operator
import os
from decimal import Decimal
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from fiftyone_milvus.errors import InvalidInputError, shown


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
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()  # of an array or tensor without dimensions
    number = as_integer(value)
    if number is None and not isinstance(value, bool) and isinstance(value, (Real, Decimal)):
        return float(value)
    return number


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
    raise InvalidInputError(f"Invalid {name} {shown(value)}; expected an integer {bounds}{hint}")


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
        raise InvalidInputError(f"Invalid {name} {shown(value)}; expected a distance, such as 0.2")
    return number


def check_fraction(value: Any, name: str = "fraction") -> float:
    """Returns a fraction as a ``float`` in ``[0, 1]``; raises InvalidInputError."""
    number = _float(value)
    if not 0 <= number <= 1:
        raise InvalidInputError(f"Invalid {name} {shown(value)}; expected a number from 0 to 1")
    return number


def check_weight(name: str, value: Any) -> float:
    """Returns a weight as a finite ``float`` of at least 0; raises InvalidInputError."""
    number = _float(value)
    if not 0 <= number < math.inf:
        raise InvalidInputError(
            f"Invalid {name} {shown(value)}; expected a number of at least 0, such as 1"
        )
    return number


def check_recall(value: Any) -> float:
    """Returns a recall as a ``float`` above 0 and at most 1; raises InvalidInputError."""
    number = _float(value)
    if not 0 < number <= 1:
        raise InvalidInputError(
            f"Invalid recall {shown(value)}; expected a number above 0 and at most 1, such as 0.99"
        )
    return number


def check_flag(name: str, value: Any, *, hint: str = "") -> bool:
    """Returns a switch as a ``bool``; raises InvalidInputError.

    Args:
        name: of the parameter, for the error
        value: True or False, or 1 or 0 as some programs write them
        hint (""): what else is valid, for the error
    """
    if isinstance(value, (bool, np.bool_)) or as_integer(value) in (0, 1):
        return bool(value)
    raise InvalidInputError(f"Invalid {name} {shown(value)}; expected True or False{hint}")


def check_text(name: str, value: Any, *, what: str = "a name") -> str | None:
    """Returns a non-empty text as a ``str``, or None for None; raises InvalidInputError.

    Args:
        name: of the parameter, for the error
        value: what the caller passed
        what ("a name"): what was expected, for the error
    """
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise InvalidInputError(f"Invalid {name} {shown(value)}; expected {what} as a string")
    return str(value)


def check_path(name: str, value: Any) -> Path:
    """Returns a path with the user's home in place of ``~``; raises InvalidInputError."""
    if isinstance(value, (str, os.PathLike)) and os.fspath(value):
        return Path(value).expanduser()
    raise InvalidInputError(f"Invalid {name} {shown(value)}; expected the path of a file")


def _float(value: Any) -> float:
    number = as_number(value)
    return math.nan if number is None else float(number)
