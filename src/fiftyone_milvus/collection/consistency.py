"""Which consistency level a read needs so that this process sees its own deletes.

``Session`` consistency on Milvus 2.3 sees this process' inserts but not its deletes, as the answer
to a delete has no timestamp. So after a delete the next read is a strong one, which brings the
server up to date, and so are those of the second after it, which another replica may answer.
"""

from __future__ import annotations

import time

Key = tuple[str, "str | None", str]
"""Address, database, collection."""

_SETTLE_SECONDS = 1.0

_deletes: dict[Key, tuple[float, bool]] = {}  # when, and whether a strong read came after


def read_level(key: Key, level: str) -> str:
    """Returns the consistency level for a read at ``level``."""
    if level == "Session":
        when, settled = _deletes.get(key, (0.0, True))
        if not settled or time.monotonic() - when < _SETTLE_SECONDS:
            return "Strong"
    return level


def deleted(key: Key) -> None:
    """Notes that this process deleted or replaced rows."""
    _deletes[key] = (time.monotonic(), False)


def read(key: Key, level: str) -> None:
    """Notes that a read at ``level`` is done."""
    if level == "Strong" and key in _deletes:
        _deletes[key] = (_deletes[key][0], True)


def forget(key: Key) -> None:
    """Forgets a collection that is gone."""
    _deletes.pop(key, None)
