"""The checksums of a collection's log: a line for each record, written before it is acknowledged.

Milvus Lite keeps a log of rows and one of deletes, both with the same number. The lines of both are
in one file beside them. A record without a line was not acknowledged, or another program wrote it:
as in Milvus Lite, it counts if it is whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from zlib_ng.zlib_ng import crc32

from fiftyone_milvus.embedded.internals import Replacements

KINDS = ("data", "delta")


@dataclasses.dataclass(frozen=True)
class Record:
    """A record of a log.

    Attributes:
        kind: ``"data"`` or ``"delta"``
        start: its first byte in the log
        end: the byte after its last
        rows: the number of its rows or deletes
        crc: its checksum
    """

    kind: str
    start: int
    end: int
    rows: int
    crc: int


def sums_file(folder: Path, number: int) -> Path:
    """The file with the lines of a log.

    Args:
        folder: of the logs
        number: of the log
    """
    return folder / f"wal_sums_{number:06d}.txt"


def log_file(folder: Path, kind: str, number: int) -> Path:
    """A log, of Milvus Lite's name."""
    return folder / f"wal_{kind}_{number:06d}.arrow"


def numbers(folder: Path) -> list[int]:
    """The numbers of the logs that have lines."""
    matches = (
        re.fullmatch(r"wal_sums_(\d+)\.txt", file.name) for file in folder.glob("wal_sums_*")
    )
    return sorted(int(match[1]) for match in matches if match)


def read(file: Path) -> Iterator[Record]:
    """Yields the records of which a line is whole."""
    whose = _whose(file)
    for line in file.read_bytes().splitlines():
        text, _, check = line.rpartition(b" ")
        with contextlib.suppress(ValueError):
            if int(check, 16) == crc32(text, whose):
                kind, start, end, rows, crc = text.decode("ascii").split()
                yield Record(kind, int(start), int(end), int(rows), int(crc, 16))


def is_intact(record: Record, log: bytes) -> bool:
    """Whether a log still has a record."""
    part = memoryview(log)[record.start : record.end]
    return len(part) == record.end - record.start and crc32(part) == record.crc


def crc_of(part: bytes) -> int:
    """The checksum of a record's bytes."""
    return crc32(part)


def discard_obsolete(folder: Path) -> None:
    """Removes the lines of logs that were flushed and deleted."""
    for number in numbers(folder):
        if not any(log_file(folder, kind, number).exists() for kind in KINDS):
            sums_file(folder, number).unlink(missing_ok=True)


def lines(records: list[Record], file: Path) -> bytes:
    """The lines of records, for a file of :func:`sums_file`."""
    return b"".join(_line(record, file) for record in records)


def install(replacements: Replacements) -> None:
    """Makes the logs of this process keep checksums."""
    from milvus_lite.storage import wal

    for kind, name in (("data", "write_insert"), ("delta", "write_delete")):
        replacements.set(wal.WAL, name, _recording(kind, getattr(wal.WAL, name)))
    close = wal.WAL.close_and_delete

    def close_and_delete(self: Any) -> None:
        # Before the log: a line without a log is damage
        sums_file(Path(self.wal_dir), self.number).unlink(missing_ok=True)
        close(self)

    replacements.set(wal.WAL, "close_and_delete", close_and_delete)


def _recording(kind: str, write: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    sink = f"_{kind}_sink"

    def write_and_record(self: Any, record_batch: Any) -> None:
        folder = Path(self.wal_dir)
        sums = sums_file(folder, self.number)
        if self._data_sink is None and self._delta_sink is None:
            sums.unlink(missing_ok=True)
        start = 0 if getattr(self, sink) is None else getattr(self, sink).tell()
        write(self, record_batch)
        with open(getattr(self, sink).name, "rb") as log:
            log.seek(start)
            part = log.read()
        record = Record(kind, start, start + len(part), len(record_batch), crc_of(part))
        _append(sums, _line(record, sums))

    return write_and_record


def _append(file: Path, line: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, line) < len(line):
                raise OSError(28, os.strerror(28), str(file))
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def _whose(file: Path) -> int:
    # So that the lines of another log, put here, count for nothing
    return crc32(f"{file.parent.parent.name}/{file.name}".encode())


def _line(record: Record, file: Path) -> bytes:
    text = f"{record.kind} {record.start} {record.end} {record.rows} {record.crc:08x}".encode()
    return text + b" %08x\n" % crc32(text, _whose(file))
