"""Files that do not belong to a collection, or are damaged, are set aside, and never deleted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fiftyone_milvus.embedded.storage import checksums

logger = logging.getLogger(__name__)

NAME = "quarantine"


def move(file: Path, folder: Path) -> Path:
    """Moves a file or folder into the quarantine of a folder that it is in.

    Args:
        file: what to move
        folder: a collection's folder, or a data directory

    Returns:
        where it is now
    """
    place = folder / NAME / file.relative_to(folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    free = place
    while free.exists():
        number += 1
        free = place.with_name(f"{place.name}.{number}")
    file.rename(free)
    return free


def keeping_orphans(clean_up: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
    """Wraps Milvus Lite's clean-up at recovery: files that no manifest lists are moved."""

    def clean_up_orphan_files(data_dir: str, manifest: Any) -> None:
        folder = Path(data_dir)
        known = set(checksums.listed({"partitions": manifest._partitions}))
        known |= {*checksums.pinned(folder)}
        for file in sorted(folder.glob("partitions/*/d*a/*")):
            if file.relative_to(folder).as_posix() not in known:
                try:
                    place = move(file, folder)
                except OSError as error:
                    logger.warning("'%s' is no part of its collection: %s", file, error)
                    # Without the clean-up, which would delete it
                    return
                logger.warning("'%s' is no part of its collection: moved to '%s'", file, place)
        clean_up(data_dir, manifest)

    return clean_up_orphan_files
