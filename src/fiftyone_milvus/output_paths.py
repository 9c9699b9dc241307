"""Paths of files that a user wants written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fiftyone_milvus.errors import InvalidInputError


def check_output(path: str | os.PathLike[str]) -> Path:
    """Checks that a file can be written, or replaced, at a path.

    Only regular files are replaced. A link is refused too: what it leads to may not be meant.

    Args:
        path: the path, which may start with ``~``

    Returns:
        the path

    Raises:
        InvalidInputError: if something else is there, or its directory does not exist
    """
    target = Path(path).expanduser()
    try:
        mode = target.lstat().st_mode
    except OSError:
        if not target.parent.is_dir():
            raise InvalidInputError(
                f"Directory '{target.parent}' does not exist; make it first"
            ) from None
        return target
    if stat.S_ISDIR(mode):
        raise InvalidInputError(f"'{target}' is a directory; give the path of a file in it")
    if stat.S_ISLNK(mode):
        raise InvalidInputError(
            f"'{target}' is a link, to '{os.readlink(target)}'; give the path of a regular file"
        )
    if not stat.S_ISREG(mode):
        raise InvalidInputError(
            f"'{target}' is a device, FIFO or socket, which would be replaced; give the path of a "
            "regular file"
        )
    return target
