"""Remembers that Milvus does not answer, as the App draws a form at each keystroke."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from fiftyone_milvus import inventory
from fiftyone_milvus.connection import Connection
from fiftyone_milvus.errors import FiftyOneMilvusError

T = TypeVar("T")

_SECONDS = 30.0
_failures: dict[str, tuple[float, FiftyOneMilvusError]] = {}
"""By address: when it failed, and how."""


def ask(question: Callable[[Connection], T]) -> T:
    """Asks the Milvus of FiftyOne's brain config; one that just failed is not asked again.

    To wait for no answer takes seconds, so for half a minute the same error is raised at once.

    Args:
        question: asks

    Returns:
        its answer

    Raises:
        FiftyOneMilvusError: if Milvus does not answer, or the configuration can't be used
    """
    connection = inventory.configured()
    address = connection.target.address
    failure = _failures.get(address)
    if failure is not None and time.monotonic() < failure[0] + _SECONDS:
        raise failure[1].with_traceback(None)
    try:
        return question(connection)
    except FiftyOneMilvusError as error:
        _failures[address] = time.monotonic(), error
        raise
