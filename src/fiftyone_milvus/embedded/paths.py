"""Paths of data directories, of the service's files in them, and of its sockets."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from fiftyone_milvus import fiftyone_config
from fiftyone_milvus.embedded import files
from fiftyone_milvus.errors import EmbeddedServiceError

SERVICE_FILE = "service.json"
START_LOCK = "service.lock"
LOG = "service.log"
_OURS = {SERVICE_FILE, START_LOCK, LOG, LOG + ".1"}

PATH_VARIABLE = "FIFTYONE_MILVUS_PATH"
RUNTIME_VARIABLE = "FIFTYONE_MILVUS_RUNTIME_DIR"


def default_path() -> Path:
    """The data directory of an index whose config names none.

    Returns:
        ``$FIFTYONE_MILVUS_PATH`` if set, else ``milvus/fiftyone.db`` next to the directory of
        FiftyOne's own database
    """
    if named := os.environ.get(PATH_VARIABLE):
        return resolve(named)

    return resolve(fiftyone_config.database_dir().parent / "milvus" / "fiftyone.db")


def resolve(path: str | os.PathLike[str]) -> Path:
    """The absolute path of a data directory, without ``~`` and symbolic links."""
    return Path(path).expanduser().resolve()


def prepare(path: Path) -> None:
    """Creates a data directory, readable by this user only, or checks an existing one.

    Args:
        path: the resolved path

    Raises:
        EmbeddedServiceError: if it can't be a data directory
    """
    try:
        if path.exists() and not path.is_dir():
            raise EmbeddedServiceError(
                f"'{path}' is a regular file, not a Milvus Lite directory (perhaps made by Milvus "
                "Lite 2.x, whose format 3.x can't read); choose another path"
            )
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.check_directory(path)
        names = {entry.name for entry in path.iterdir()} - _OURS
        # Of a start that was killed
        names -= {name for name in names if name.startswith(f"{SERVICE_FILE}.")}
    except OSError as error:
        raise unusable(path, error) from error

    if names and "collections" not in names:
        raise EmbeddedServiceError(
            f"'{path}' is not a Milvus Lite directory: it holds other files, such as "
            f"'{min(names)}'; choose a path that does not exist yet"
        )
    if not os.access(path, os.W_OK | os.X_OK):
        raise EmbeddedServiceError(
            f"data directory '{path}' is not writable; make it writable or choose another path"
        )


def unusable(path: Path, error: OSError) -> EmbeddedServiceError:
    """The error to raise where the system refused an operation in a data directory."""
    reason = error.strerror or type(error).__name__
    where = f" ('{error.filename}')" if error.filename and str(error.filename) != str(path) else ""
    return EmbeddedServiceError(
        f"can't use '{path}' as a data directory: {reason}{where}; free or permit it, or choose "
        "another path"
    )


def runtime_directory() -> Path:
    """The directory of this user's sockets, created if there is none.

    Its path is short, because the address of a unix socket has room for about 100 bytes, and it
    is on the local disk, because not every file system can hold a socket.
    ``$FIFTYONE_MILVUS_RUNTIME_DIR`` overrides it; the mode of that one is not changed.

    Raises:
        EmbeddedServiceError: if it can't be created, belongs to another user, or can be written by
            others
    """
    user = f"-{os.getuid()}" if hasattr(os, "getuid") else ""
    named = os.environ.get(RUNTIME_VARIABLE)
    directory = Path(named) if named else Path(tempfile.gettempdir()) / f"fiftyone-milvus{user}"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
        mine = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
        if not stat.S_ISDIR(found.st_mode) or not mine:
            # All users share the temporary directory: another one may have put a socket where
            # this user's is expected.
            raise EmbeddedServiceError(
                f"'{directory}' is not a directory of this user; remove it, or set "
                f"{RUNTIME_VARIABLE} to one that is"
            )
        if not named and os.name == "posix" and stat.S_IMODE(found.st_mode) != 0o700:
            directory.chmod(0o700)
        files.check_directory(directory)
    except OSError as error:
        raise EmbeddedServiceError(
            f"can't create '{directory}' for the service's sockets: {error.strerror}; set "
            f"{RUNTIME_VARIABLE} to a directory that can be created"
        ) from error
    return directory
