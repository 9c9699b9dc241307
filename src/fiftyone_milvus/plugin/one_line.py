"""Errors as the App shows them: one line that a user can read."""

from __future__ import annotations

from fiftyone_milvus import errors
from fiftyone_milvus.dataset import availability
from fiftyone_milvus.errors import FiftyOneMilvusError


def one_line(error: Exception) -> Exception:
    """Returns an error whose text is one line that a user can read."""
    error = availability.explain(error) or error
    if isinstance(error, FiftyOneMilvusError):
        return error
    kind = ValueError if isinstance(error, ValueError) else RuntimeError
    return kind(errors.one_line(error))
