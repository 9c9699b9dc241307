"""Reads what a caller gives as vectors, and refuses what numpy would alter without a word."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_milvus.errors import InvalidInputError, shown

_KINDS = {
    "c": "complex numbers, whose imaginary part would be lost; pass .real, or another array",
    "b": "booleans; pass .astype('float32') if they stand for 0 and 1",
    "U": "strings; pass numbers",
    "S": "bytes; pass numbers",
    "M": "dates; pass numbers",
    "m": "durations; pass numbers",
}


def real_numbers(values: Any, name: str) -> npt.NDArray[Any]:
    """Returns an array of real numbers, of whatever shape and real dtype it has.

    Args:
        values: an array, tensor, data frame, or nested lists
        name: ``"embeddings"`` or ``"queries"``, for errors

    Raises:
        InvalidInputError: if they are not real numbers, or if some are masked
    """
    refuse_masked(values, name)
    try:
        array = np.asarray(_on_cpu(values))
    except (TypeError, ValueError, RuntimeError) as error:
        # Such as rows of different lengths
        raise _unreadable(name, values, " ".join(str(error).split())[:120]) from None
    kind = array.dtype.kind
    if kind in "fiu":
        return array
    if array.size == 0 and kind == "O":
        return array.astype(np.float32)
    if kind == "V" and array.dtype.name.startswith(("bfloat16", "float8")):
        return array.astype(np.float32)  # a dtype of ml_dtypes, such as JAX uses
    if kind == "O":
        wrong = [v for v in array.flat if type(v) is bool or not isinstance(v, Real)]
        if not wrong:
            return array.astype(np.float64)
        raise _unreadable(name, values, f"found {shown(wrong[0])}, a {type(wrong[0]).__name__}")
    raise _unreadable(name, values, f"found {_KINDS.get(kind, array.dtype.name)}")


def refuse_masked(values: Any, name: str) -> None:
    """Raises InvalidInputError if values, or one of a list of them, are a masked array."""
    parts = values if isinstance(values, (list, tuple)) else (values,)
    # Also if nothing is masked: np.stack() returns such an array when it has lost the masks
    if any(isinstance(part, np.ma.MaskedArray) for part in parts):
        raise InvalidInputError(
            f"{name} is a masked array, whose mask would be lost; pass .filled(0) to use a value "
            "for what is masked, or leave these vectors out"
        )


def _on_cpu(values: Any) -> Any:
    """Returns a PyTorch tensor as an array; anything else as it is."""
    if type(values).__module__.partition(".")[0] != "torch" or not hasattr(values, "detach"):
        return values
    tensor = values.detach().cpu()
    # numpy has no such dtype
    return (tensor.float() if "bfloat16" in str(tensor.dtype) else tensor).numpy()


def _unreadable(name: str, values: Any, reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"{name}, given as {_kind_of(values)}, can't be read as numbers: {reason}; expected a "
        f"num_{name} x num_dims array of real numbers"
    )


def _kind_of(values: Any) -> str:
    if hasattr(values, "toarray"):
        return f"sparse {type(values).__name__} (.toarray() makes it dense)"
    return type(values).__name__
