"""Errors as the App shows them: one line that a user can read."""

from __future__ import annotations

from fiftyone_milvus.dataset import availability
from fiftyone_milvus.errors import FiftyOneMilvusError


def one_line(error: Exception) -> Exception:
    """Returns an error whose text is one line that a user can read."""
    error = availability.explain(error) or error
    if isinstance(error, FiftyOneMilvusError):
        return error
    text = " ".join(str(error).split())
    if isinstance(error, ValueError) and text:
        return ValueError(text)
    return RuntimeError(f"{type(error).__name__}: {text}" if text else type(error).__name__)
