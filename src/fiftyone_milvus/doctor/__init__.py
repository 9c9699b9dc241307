"""Checks that everything that is needed is installed and works.

Example::

    from fiftyone_milvus import doctor

    for verdict in doctor.examine():
        print(verdict.level, verdict.check, verdict.found, verdict.remedy)
"""

from __future__ import annotations

from collections.abc import Iterator

from fiftyone_milvus.doctor import installation
from fiftyone_milvus.doctor.verdict import Verdict, failed

__all__ = ["Verdict", "examine"]


def examine(uri: str | None = None, *, repair: bool = False) -> Iterator[Verdict]:
    """Checks FiftyOne, its database, the brain config, the plugin and Milvus.

    Creates, searches and drops a small Milvus collection of its own; changes nothing else.

    Args:
        uri (None): another Milvus than the one in FiftyOne's brain config
        repair (False): whether to repair the files of the embedded engine first

    Yields:
        a :class:`Verdict` for each check, as soon as it is done
    """
    yield installation.packages()
    database = installation.database()
    yield database
    if database.level == "problem":
        # Without it, FiftyOne can't be imported
        return
    yield installation.brain_config()
    yield installation.plugin()
    try:
        from fiftyone_milvus.doctor import files, milvus

        if repair:
            yield from files.repair(uri)
        yield from milvus.examine(uri)
    except Exception as error:
        yield failed("Milvus", error)
