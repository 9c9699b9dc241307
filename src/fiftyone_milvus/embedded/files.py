"""Reads and writes only what belongs to this user, so that no other user can plant anything.

A data directory, the directory of the sockets, and every file in them are checked before they are
used: owner, type and mode. Links are not followed, and a FIFO is not waited for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from fiftyone_milvus.errors import EmbeddedServiceError

TRUST_VARIABLE = "FIFTYONE_MILVUS_TRUST_UID"
"""The ID of another user to trust, as in a container whose folders belong to a user of the host; or
``any``, as on a file system without owners and modes."""

_MAX_BYTES = 1 << 20
_HAS_OWNERS = hasattr(os, "geteuid")  # not on Windows, whose modes say nothing either
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_SAFELY = sum(
    getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY")
)


def check_directory(path: Path) -> None:
    """Checks that only this user can write into a directory.

    Raises:
        EmbeddedServiceError: if it is another user's, or others can write into it
        OSError: if it can't be looked at
    """
    _check_directory(path, path.lstat())


def check_tree(path: Path) -> None:
    """Checks a directory and everything below it; a link of this user's is not followed.

    Raises:
        EmbeddedServiceError: naming what is not this user's, or can be written by others
        OSError: if a folder can't be read
    """
    check_directory(path)
    folders = [path]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISDIR(found.st_mode):
                    _check_directory(Path(entry.path), found)
                    folders.append(Path(entry.path))
                elif not stat.S_ISLNK(found.st_mode):
                    _check_file(Path(entry.path), found)
                else:
                    _check_owner(Path(entry.path), found)


def check_socket(path: str) -> None:
    """Checks that a socket is this user's.

    Raises:
        EmbeddedServiceError: if it is no socket, or another user's
        OSError: if there is none
    """
    found = os.lstat(path)
    _check_owner(Path(path), found)
    if not stat.S_ISSOCK(found.st_mode):
        raise EmbeddedServiceError(f"'{path}' is {_type(found)}, not a socket; remove it")


def open_own(path: Path, flags: int) -> int:
    """Opens a regular file of this user, or creates one with mode 0600.

    Args:
        path: the file
        flags: as for ``os.open``

    Returns:
        the descriptor

    Raises:
        EmbeddedServiceError: if it is a link, no regular file, or another user's, or if others can
            write to it
        OSError: as of ``os.open``
    """
    with contextlib.suppress(FileNotFoundError):
        _check_file(path, path.lstat())
    descriptor = os.open(path, flags | _SAFELY, 0o600)
    try:
        _check_file(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read(path: Path, *, secret: bool = False) -> str:
    """Returns the text of a file of this user, at most its last MiB.

    Args:
        path: the file
        secret (False): whether to refuse one that others can read

    Raises:
        EmbeddedServiceError: as :func:`open_own`
        OSError: as of ``os.open``
    """
    with os.fdopen(open_own(path, os.O_RDONLY), "rb") as stream:
        found = os.fstat(stream.fileno())
        if secret and not _trusts_all() and found.st_mode & 0o077:
            raise EmbeddedServiceError(
                f"'{path}' holds a secret, but other users can read it "
                f"(mode {stat.S_IMODE(found.st_mode):o}); run chmod 600 '{path}'"
            )
        stream.seek(max(0, found.st_size - _MAX_BYTES))
        return stream.read(_MAX_BYTES).decode("utf-8", "replace")


def write(path: Path, text: str) -> None:
    """Replaces a file, readable by this user only, atomically if the disk is not full.

    Raises:
        EmbeddedServiceError: as :func:`open_own`
        OSError: as of ``os.open``
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        _fill(open_own(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL), text)
        draft.replace(path)
    except OSError as error:
        if error.errno not in _FULL or not path.exists():
            raise
        # It has room for a text of the same length. Who reads half of it waits for the start lock
        _fill(open_own(path, os.O_WRONLY), text)
    finally:
        draft.unlink(missing_ok=True)


def _fill(descriptor: int, text: str) -> None:
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(text.encode())
        stream.truncate()


def _check_directory(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISDIR(found.st_mode):
        raise EmbeddedServiceError(f"'{path}' is {_type(found)}, not a directory; remove it")
    _check_owner(path, found)
    _check_writers(path, found)


def _check_file(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise EmbeddedServiceError(f"'{path}' is {_type(found)}, not a regular file; remove it")
    _check_owner(path, found)
    _check_writers(path, found)


def _check_owner(path: Path, found: os.stat_result) -> None:
    if _trusts_all() or found.st_uid in (0, os.geteuid()):
        return
    if os.environ.get(TRUST_VARIABLE, "").strip() == str(found.st_uid):
        return
    raise EmbeddedServiceError(
        f"'{path}' belongs to another user (user ID {found.st_uid}), who could read and change all "
        f"vectors; choose another path, or set {TRUST_VARIABLE}={found.st_uid} to trust that user"
    )


def _check_writers(path: Path, found: os.stat_result) -> None:
    if _trusts_all():
        return
    who, remedy = "every user", "o-w"
    if not found.st_mode & stat.S_IWOTH:
        if not found.st_mode & stat.S_IWGRP or _is_own_group(found.st_gid):
            return
        who, remedy = f"the group with ID {found.st_gid}", "g-w"
    raise EmbeddedServiceError(
        f"'{path}' can be written by {who} (mode {stat.S_IMODE(found.st_mode):o}), who could "
        f"redirect this user's vectors; run chmod {remedy} '{path}', choose another path, or set "
        f"{TRUST_VARIABLE}=any to trust them"
    )


def _trusts_all() -> bool:
    return not _HAS_OWNERS or os.environ.get(TRUST_VARIABLE, "").strip() == "any"


def _is_own_group(gid: int) -> bool:
    """Whether a group has no other member, as where each user has a group and umask is 002."""
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    own = user.pw_gid == gid and group.gr_name == user.pw_name
    return own and set(group.gr_mem) <= {user.pw_name}


def _type(found: os.stat_result) -> str:
    for fits, name in (
        (stat.S_ISLNK, "a link"),
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISREG, "a regular file"),
    ):
        if fits(found.st_mode):
            return name
    return "a device"
