"""Calls of ``pymilvus.MilvusClient`` by name, each with a deadline."""

from __future__ import annotations

from typing import Any

READ_SECONDS = 300
"""The default deadline of searches, queries and writes."""
SHORT_SECONDS = 120
"""The default deadline of what reads or changes no rows: create, describe, list, drop, ..."""
LOAD_SECONDS = 600
"""The default deadline of loading a collection, and of a flush."""
BUILD_SECONDS = 3600
"""The default deadline of creating an index on rows that exist."""

_DEADLINES = {
    **dict.fromkeys(("search", "query", "get", "insert", "upsert", "delete"), READ_SECONDS),
    **dict.fromkeys(("load_collection", "flush"), LOAD_SECONDS),
    "create_index": BUILD_SECONDS,
}


class Request:
    """A call of a method of the client.

    Args:
        method: its name
        args: its arguments
        timeout: seconds that it may take, or None for the default of its kind
        options: its keyword arguments

    Attributes:
        method: its name
        timeout: seconds that it may take
    """

    __slots__ = ("_args", "_options", "method", "timeout")

    def __init__(self, method: str, *args: Any, timeout: float | None = None, **options: Any):
        self.method = method
        self.timeout = timeout or _DEADLINES.get(method, SHORT_SECONDS)
        self._args, self._options = args, options

    def __call__(self, client: Any) -> Any:
        """Calls the method of a ``pymilvus.MilvusClient``."""
        return getattr(client, self.method)(*self._args, timeout=self.timeout, **self._options)
