"""The small JSON files of a database, its aliases and its properties: each has a copy beside it.

A file that is damaged or gone is written again from its copy, as are two databases' files that have
changed places. Plain Milvus Lite ignores the copies; a file that it wrote has another time than the
recorded one.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from zlib_ng.zlib_ng import crc32

from fiftyone_milvus.embedded.storage import quarantine
from fiftyone_milvus.embedded.storage.checksums import write_whole
from fiftyone_milvus.embedded.storage.verification import DamagedError

logger = logging.getLogger(__name__)

_SUFFIX = ".copy"
_DATABASES = "databases"


def restore(file: Path) -> None:
    """Writes a file again if it is damaged; the damaged one is moved to ``quarantine``.

    Args:
        file: the file of a database

    Raises:
        DamagedError: if it is damaged, and has no intact copy
    """
    content = file.read_bytes() if file.exists() else None
    whole = content is not None and _is_object(content)
    copy = _copy(file)
    if copy is None:
        if content is not None and not whole:
            raise DamagedError(
                f"'{file}' is damaged, and has no intact copy: move it away, and make again what "
                f"it had, the {file.stem.replace('_', ' ')}"
            )
        return
    time, text = copy
    if content == text:
        return
    if whole and file.stat().st_mtime_ns != time:
        partner = next((other for other in _alike(file) if _exchanged(file, other)), None)
        if partner is None:
            return
        _write_again(partner)
    _write_again(file)


def record(file: Path) -> None:
    """Writes the copy of a file, if that is not as it should be; never raises for a full disk."""
    try:
        if file.exists():
            time, content = now = file.stat().st_mtime_ns, file.read_bytes()
            if _read(_path(file)) != (_database(file), now):
                text = f"{time} {_database(file)}\n".encode() + content
                write_whole(_path(file), b"%08x\n" % crc32(text) + text)
    except OSError as error:
        logger.warning("there is no copy of '%s': %s", file, error)


def _write_again(file: Path) -> None:
    copy = _copy(file)
    if copy is not None:
        if file.exists():
            quarantine.move(file, file.parent)
        write_whole(file, copy[1])
        logger.warning("'%s' was damaged or gone; it was written again from its copy", file)


def _exchanged(file: Path, other: Path) -> bool:
    """Whether two databases' files have each other's recorded content, which no program writes."""
    copy, others = _copy(file), _copy(other)
    return (
        copy is not None
        and others is not None
        and (file.read_bytes(), other.read_bytes()) == (others[1], copy[1])
    )


def _copy(file: Path) -> tuple[int, bytes] | None:
    """The time and the content that were recorded; None if there is no intact copy."""
    for other in (file, *_alike(file)):
        database, copy = _read(_path(other))
        if copy is not None and database == _database(file):
            return copy
    return None


def _alike(file: Path) -> list[Path]:
    """The files of the other databases that are of the same kind."""
    inside = file.parent.parent.name == _DATABASES
    root = file.parent.parent.parent if inside else file.parent
    found = [root / file.name, *sorted(root.glob(f"{_DATABASES}/*/{file.name}"))]
    return [other for other in found if other != file and other.exists()]


def _database(file: Path) -> str:
    """The name of the database that a file is of; "" for the default one."""
    return file.parent.name if file.parent.parent.name == _DATABASES else ""


def _read(path: Path) -> tuple[str, tuple[int, bytes] | None]:
    """A copy, with the database that it is of; None if it is damaged or gone."""
    try:
        crc, _, text = path.read_bytes().partition(b"\n")
        if int(crc, 16) == crc32(text):
            head, _, content = text.partition(b"\n")
            time, _, database = head.decode().partition(" ")
            return database, (int(time), content)
        logger.warning("the copy '%s' is damaged", path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        logger.warning("the copy '%s' can't be read: %s", path, error)
    return "", None


def _path(file: Path) -> Path:
    return file.with_name(file.name + _SUFFIX)


def _is_object(content: bytes) -> bool:
    try:
        return isinstance(json.loads(content), dict)
    except ValueError:
        return False
