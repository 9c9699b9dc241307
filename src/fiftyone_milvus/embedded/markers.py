"""What this package says to its own service within requests of Milvus."""

from __future__ import annotations

import hashlib

FARTHEST = "fiftyone_milvus_farthest and "
"""In front of a filter: the farthest rows are asked for. Any other Milvus refuses the filter, as it
has no such field, and does not return the nearest."""

SAME = "fiftyone_milvus_same "
"""In place of a long list of keys that the service has read: its :func:`name_of` follows. A service
that does not know it any more, and any other Milvus, refuses it."""


def name_of(expression: str) -> str:
    """Returns the name of a filter: 32 hexadecimal digits."""
    return hashlib.blake2b(expression.encode(), digest_size=16).hexdigest()
