"""Verifies a collection's files before it is opened: damage is an error, not a wrong answer.

What the checksums do not know, because another program or an older release wrote it, is verified as
far as the files tell by themselves, and then recorded.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from milvus_lite.exceptions import MilvusLiteError

from fiftyone_milvus.embedded.storage import checksums, log_checksums, quarantine
from fiftyone_milvus.embedded.storage.checksums import MANIFEST, SCHEMA, Checksums

logger = logging.getLogger(__name__)

_MANIFEST_FORMAT = 2
_THREADS = 2
_WHOLE = "the whole collection"


class DamagedError(MilvusLiteError):
    """Files are damaged; the message is one line with the remedy."""


@dataclasses.dataclass(frozen=True)
class Damage:
    """A damaged file.

    Attributes:
        file: its path, from the folder on that was verified
        what: what is wrong with it, such as ``"is missing"``
        affects: what it holds, such as ``"500 rows"``
    """

    file: str
    what: str
    affects: str


@dataclasses.dataclass
class Findings:
    """What a verification found.

    Attributes:
        damages: the damaged files
        redundant: damaged logs whose rows are in other files
        is_recorded: whether the checksums know all files
    """

    damages: list[Damage]
    redundant: list[Path]
    is_recorded: bool


def check(folder: Path, *, vectors: bool = True) -> None:
    """Verifies a collection that is about to be opened, and records what is not recorded yet.

    Args:
        folder: the collection's
        vectors (True): whether to verify vectors that can be verified when they are read

    Raises:
        DamagedError: if a file is damaged
    """
    found = verify(folder, vectors=vectors)
    if found.damages:
        raise DamagedError(message(folder, found.damages))
    for file in found.redundant:
        place = quarantine.move(file, folder)
        logger.warning("'%s' is damaged, and its rows are saved: moved to '%s'", file, place)
    log_checksums.discard_obsolete(folder / "wal")
    if not found.is_recorded:
        logger.debug("'%s' was not verified before, or another program changed it", folder)
        checksums.record(folder)


def check_metadata(folder: Path) -> None:
    """Verifies the schema and the manifest of a collection, and that its files are there.

    Args:
        folder: the collection's

    Raises:
        DamagedError: if they are damaged
    """
    known = checksums.load(folder)
    manifest, damages = _manifest(folder, known)
    damages = [*_schema_damage(folder, known), *damages]
    recorded = {} if known is None else known.files
    for name in checksums.listed(manifest or {}):
        if not (folder / name).exists():
            damages.append(_file_damage(folder, recorded, name) or Damage(name, "is missing", ""))
    if damages:
        raise DamagedError(message(folder, damages))


def message(folder: Path, damages: list[Damage]) -> str:
    """The error for a damaged collection, in one line."""
    first = damages[0]
    more = f" ({len(damages) - 1} more files too)" if len(damages) > 1 else ""
    return (
        f"collection '{folder.name}' is damaged: '{first.file}' {first.what}{more}, which affects "
        f"{first.affects}; nothing was deleted: run 'fiftyone-milvus doctor --repair --uri "
        f"{data_directory(folder)}'"
    )


def data_directory(folder: Path) -> Path:
    """The data directory that a collection's folder is in."""
    database = folder.parent.parent
    return database.parent.parent if database.parent.name == "databases" else database


def require_intact(file: str) -> None:
    """Verifies a whole data file of which a part was found to be damaged.

    Raises:
        DamagedError: if it is damaged
    """
    folder = Path(file).parents[3]
    name = Path(file).relative_to(folder).as_posix()
    damages = verify_files(folder, [name]) or [Damage(name, "was changed", "rows")]
    error = message(folder, damages)
    logger.error("%s", error)
    raise DamagedError(error)


def verify_files(folder: Path, names: list[str], *, vectors: bool = True) -> list[Damage]:
    """Verifies some of a collection's data files.

    Args:
        folder: the collection's
        names: their paths, from the collection's folder on
        vectors (True): whether to verify vectors that can be verified when they are read
    """
    known = checksums.load(folder)
    recorded = {} if known is None else known.files
    with ThreadPoolExecutor(_THREADS) as threads:
        found = threads.map(lambda name: _file_damage(folder, recorded, name, vectors), names)
        return [damage for damage in found if damage is not None]


def verify(folder: Path, *, vectors: bool = True) -> Findings:
    """Verifies a collection's files.

    Args:
        folder: the collection's
        vectors (True): whether to verify vectors that can be verified when they are read
    """
    known = checksums.load(folder)
    found = Findings([], [], known is not None)
    damages = found.damages
    damages += _schema_damage(folder, known)
    manifest, problem = _manifest(folder, known)
    damages += problem
    if manifest is None:
        return found
    if manifest.get("manifest_format_version") not in (None, _MANIFEST_FORMAT):
        # A later Milvus Lite's, which may mean something else by it
        return found
    files = list(checksums.listed(manifest))
    recorded = {} if known is None else known.files
    version = 0 if known is None else known.version
    found.is_recorded &= all(name in recorded for name in files) and _is_noted(folder, known)
    if known is not None and int(manifest.get("version", 0)) > version:
        logger.info("another program changed '%s'", folder)
    damages += verify_files(folder, files, vectors=vectors)
    found.is_recorded &= checksums.of_snapshots(folder) <= {*(known.snapshots if known else ())}
    damages += _snapshot_damages(folder, known, files)
    _verify_log(folder, known, int(manifest.get("active_wal_number") or 0), found)
    return found


def _is_noted(folder: Path, known: Checksums | None) -> bool:
    """Whether schema and manifest are recorded as they are."""
    if known is None or not all(copy.exists() for copy in checksums.copies(folder)):
        return False
    return (known.schema, known.manifest) == (_text(folder / SCHEMA), _text(folder / MANIFEST))


def _text(file: Path) -> str:
    return file.read_text("utf-8", errors="replace") if file.exists() else ""


def _schema_damage(folder: Path, known: Checksums | None) -> Iterator[Damage]:
    file = folder / SCHEMA
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        yield Damage(SCHEMA, "is missing", _WHOLE)
        return
    if known is not None and content == known.schema.encode():
        return
    try:
        schema = json.loads(content)
        before = None if known is None else json.loads(known.schema)
        alike = before is None or _structure(schema) == _structure(before)
        name = schema["collection_name"]
    except (ValueError, KeyError, TypeError):
        yield Damage(SCHEMA, "is no schema", _WHOLE)
        return
    if before is not None and file.stat().st_mtime_ns == getattr(known, "schema_time", 0):
        yield Damage(SCHEMA, "was changed", _WHOLE)
    elif not alike or name not in {folder.name, (before or {}).get("collection_name")}:
        # Other programs change the properties and the name only
        yield Damage(SCHEMA, "is another schema", _WHOLE)


def _structure(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: schema[key] for key in schema if key not in ("properties", "collection_name")}


def _manifest(folder: Path, known: Checksums | None) -> tuple[dict[str, Any] | None, list[Damage]]:
    """The manifest, or None where it can't be used, and what is wrong."""
    rows = "all its rows"
    if known is not None and known.files:
        rows = f"all its rows (about {_count(known, known.files)})"
    try:
        content = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        if known is None:
            # A first flush that was cut off leaves data without a manifest, but with its log
            expected = (folder / f"{MANIFEST}.prev").exists() or (
                any(folder.glob("partitions/*/data/*.parquet"))
                and not any(folder.glob("wal/*.arrow"))
            )
        else:
            expected = known.version > 0
        if expected:
            return None, [Damage(MANIFEST, "is missing", rows)]
        return {}, []
    try:
        manifest = json.loads(content)
        version = int(manifest["version"])
        list(checksums.listed(manifest))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, [Damage(MANIFEST, "is no manifest", rows)]
    if known is not None:
        if version < known.version:
            return None, [Damage(MANIFEST, "is an older one", rows)]
        if version == known.version and content != known.manifest.encode():
            return None, [Damage(MANIFEST, "was changed", rows)]
    return manifest, []


def _count(known: Checksums, names: Any) -> int:
    return sum(known.files[name][2] for name in names if "/data/" in name)


def _file_damage(
    folder: Path, recorded: dict[str, list[int]], name: str, vectors: bool = True
) -> Damage | None:
    file, of = folder / name, recorded.get(name)
    what = "deletes: what was deleted may be back" if "/delta/" in name else "rows"
    affects = f"{of[2]} {what}" if of is not None else what
    try:
        if of is None:
            problem = _structural_problem(file)
        elif not vectors and len(of) > 3 and file.stat().st_size == of[0]:
            problem = "" if _without_vectors(file) == of[3:] else "was changed"
        else:
            size, crc = checksums.of_file(file)
            problem = "" if [size, crc] == of[:2] else _difference(size, of[0])
    except FileNotFoundError:
        problem = "is missing"
    except OSError as error:
        problem = f"can't be read ({error.strerror or error})"
    return Damage(name, problem, affects) if problem else None


def _without_vectors(file: Path) -> list[int]:
    try:
        return checksums.without_vectors(file)
    except (pa.ArrowException, ValueError, KeyError):
        return []  # it is no such file any more


def _difference(size: int, recorded: int) -> str:
    if size == recorded:
        return "was changed"
    return f"has {size} bytes of {recorded}" if size < recorded else "is another file"


def _structural_problem(file: Path) -> str:
    """What is wrong with a file of which no checksum is recorded; ""."""
    try:
        table = pq.read_table(file, page_checksum_verification=True)
        table.validate(full=True)
        seqs = pc.min_max(table.column("_seq")).as_py() if table.num_rows else None
    except (pa.ArrowException, OSError, KeyError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        return f"can't be read ({' '.join(str(error).split())[:80]})"
    first, last = (int(number) for number in file.stem.split("_")[1:3])
    if seqs is not None and not first <= seqs["min"] <= seqs["max"] <= last:
        return "is another file"
    return ""


def _snapshot_damages(
    folder: Path, known: Checksums | None, verified: list[str]
) -> Iterator[Damage]:
    recorded = {} if known is None else known.snapshots
    own = {name for name in recorded if name.startswith("snapshots/")}
    names = checksums.of_snapshots(folder) | {name for name in own if not _is_dropped(folder, name)}
    # Their own first, as a damaged one may name files that never were
    for name in sorted(names - {*verified}, key=lambda name: (name not in own, name)):
        if name not in recorded and name.startswith("snapshots/"):
            problem = "" if _is_json(folder / name) else "is no snapshot"
        else:
            of = {name: [*recorded[name], 0]} if name in recorded else {}
            damage = _file_damage(folder, of, name)
            problem = "" if damage is None else damage.what
        if problem:
            yield Damage(name, problem, "snapshots only")


def _is_dropped(folder: Path, name: str) -> bool:
    """Whether the snapshot that a file is of was dropped, which removes all its files."""
    kind, snapshot = Path(name).parts[1:3]
    stem = snapshot.removesuffix(".json") if kind == "metadata" else snapshot
    root = folder / "snapshots"
    return not (
        (root / "metadata" / f"{stem}.json").exists() or (root / "manifests" / stem).exists()
    )


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_bytes())
    except ValueError:
        return False
    return True


def _verify_log(folder: Path, known: Checksums | None, active: int, found: Findings) -> None:
    logs = folder / "wal"
    if known is not None and not logs.is_dir():
        found.damages.append(Damage("wal", "is missing", "rows that were written last"))
    for number in log_checksums.numbers(logs):
        records = list(log_checksums.read(log_checksums.sums_file(logs, number)))
        for kind in log_checksums.KINDS:
            file = log_checksums.log_file(logs, kind, number)
            mine = [record for record in records if record.kind == kind]
            content = file.read_bytes() if file.exists() else b""
            lost = [record for record in mine if not log_checksums.is_intact(record, content)]
            if not lost:
                continue
            if number < active:
                # They were flushed, and only the log was not deleted yet
                found.redundant += [file] if file.exists() else []
                continue
            rows = sum(record.rows for record in lost)
            what = "rows that were written last" if kind == "data" else "of the last deletes"
            problem = "was changed" if len(content) >= mine[-1].end else "is cut off"
            name = file.relative_to(folder).as_posix()
            problem = problem if file.exists() else "is missing"
            found.damages.append(Damage(name, problem, f"{rows} {what}"))
