"""Tells whether an error comes from the network, and says so in a few words."""

from __future__ import annotations

import re
import socket
import urllib.error
from collections.abc import Iterator

import requests

from fiftyone_milvus.errors import FiftyOneMilvusError

_NETWORK = (
    requests.exceptions.RequestException,
    urllib.error.URLError,
    socket.gaierror,
    ConnectionError,
)
_NAMES = {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "HfHubHTTPError", "ConnectError"}
"""Those of Hugging Face's library, which may not be installed."""


def network_problem(error: BaseException) -> str | None:
    """Returns which address can't be reached; None if an error has another reason."""
    if isinstance(error, FiftyOneMilvusError):
        return None
    for one in _chain(error):
        if isinstance(one, _NETWORK) or type(one).__name__ in _NAMES:
            found = re.search(r"host='([^']+)'|https?://([^/\s:'\"]+)", str(error) + str(one))
            host = next(filter(None, found.groups())) if found else "its address"
            return f"{host} can't be reached"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
