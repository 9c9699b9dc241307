"""Whether everything that is needed is there, and works.

Example::

    from fiftyone_milvus import doctor

    for verdict in doctor.examine():
        print(verdict.level, verdict.check, verdict.found, verdict.remedy)
"""

from __future__ import annotations

from collections.abc import Iterator

from fiftyone_milvus.doctor import installation, milvus
from fiftyone_milvus.doctor.verdict import Verdict

__all__ = ["Verdict", "examine"]


def examine(uri: str | None = None) -> Iterator[Verdict]:
    """Checks FiftyOne, its database, the brain config, the plugin and Milvus, one after the other.

    Makes, searches and drops a small Milvus collection of its own; changes nothing else.

    Args:
        uri (None): another Milvus than the one that FiftyOne's brain config names

    Yields:
        a :class:`Verdict` on each, as soon as it is known
    """
    yield installation.packages()
    yield installation.database()
    if not installation.has_database():
        # FiftyOne can't be imported without it
        return
    yield installation.brain_config()
    yield installation.plugin()
    yield from milvus.examine(uri)
