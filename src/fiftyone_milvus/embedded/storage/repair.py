"""Repairs a damaged collection: what is intact stays, what is damaged is set aside, never deleted.

No service may have the data directory open.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fiftyone_milvus.embedded.storage import checksums, log_checksums, quarantine, verification
from fiftyone_milvus.embedded.storage.checksums import MANIFEST, SCHEMA, Checksums
from fiftyone_milvus.embedded.storage.verification import Damage

_LOST = "lost.txt"
_ENDS = re.compile(r"_(\d+)_(\d+)\.parquet$")


@dataclasses.dataclass
class Repair:
    """What a repair did with a collection.

    Attributes:
        collection: its name
        done: what was done, a line each
        lost: what could not be brought back, a line each
        ids: keys of rows that are missing now, as far as they are known
        is_whole: whether the collection can be opened now
    """

    collection: str
    done: list[str] = dataclasses.field(default_factory=list)
    lost: list[str] = dataclasses.field(default_factory=list)
    ids: list[Any] = dataclasses.field(default_factory=list)
    is_whole: bool = True


def repair(folder: Path) -> Repair | None:
    """Repairs a collection.

    Args:
        folder: the collection's, which nothing has open

    Returns:
        what was done, or None if nothing was damaged
    """
    damages = _damages(folder)
    if not damages:
        return None
    report, known = Repair(folder.name), checksums.load(folder)
    if SCHEMA in damages and not _restore_schema(folder, known, report):
        return report
    if MANIFEST in damages:
        _restore_manifest(folder, known, report)
    if known is not None:
        _put_back(folder, known, report)
    # A manifest's files could not be verified before
    damages = _damages(folder)
    _remove_snapshots(folder, damages, report)
    _remove_damaged_files(folder, damages, report)
    _restore_logs(folder, damages, report)
    if report.ids:
        lost = folder / quarantine.NAME / _LOST
        text = "".join(f"{key}\n" for key in report.ids)
        checksums.write_whole(lost, text.encode())
    checksums.record(folder)
    report.is_whole = not verification.verify(folder).damages
    return report


def _damages(folder: Path) -> dict[str, Damage]:
    return {damage.file: damage for damage in verification.verify(folder).damages}


def _put_back(folder: Path, known: Checksums, report: Repair) -> None:
    """Gives files that were exchanged, or renamed, their names again."""
    damaged = _damages(folder)
    names = {tuple(of[:2]): name for name, of in known.files.items() if name in damaged}
    moved = {}
    for file in sorted(folder.glob("partitions/*/d*a/*")) if names else ():
        name = names.get(checksums.of_file(file))
        if name is not None:
            moved[name] = quarantine.move(file, folder)
    for name, file in moved.items():
        _set_aside(folder, name)
        file.rename(folder / name)
        report.done.append(f"'{Path(name).name}' has its name again")


def _restore_schema(folder: Path, known: Checksums | None, report: Repair) -> bool:
    if known is None:
        report.lost.append(
            f"'{SCHEMA}', of which there is no copy: put it back from a backup, or drop the "
            "collection and compute the index again"
        )
        report.is_whole = False
        return False
    _set_aside(folder, SCHEMA)
    checksums.write_whole(folder / SCHEMA, known.schema.encode())
    report.done.append(f"'{SCHEMA}' is restored from the engine's copy")
    return True


def _restore_manifest(folder: Path, known: Checksums | None, report: Repair) -> None:
    before = _parsed(folder / f"{MANIFEST}.prev")
    _set_aside(folder, MANIFEST)
    if (
        known is not None
        and known.manifest
        and (before == json.loads(known.manifest) or before.get("version", 0) < known.version)
    ):
        checksums.write_whole(folder / MANIFEST, known.manifest.encode())
        report.done.append(f"'{MANIFEST}' is restored from the engine's copy")
        return
    # Another program wrote it last: the one before, and what lies beside it
    manifest = before or {"manifest_format_version": 2, "index_specs": {}, "schema_version": 1}
    there = set(checksums.listed(manifest))
    for file in sorted(folder.glob("partitions/*/d*a/*.parquet")):
        name = file.relative_to(folder).as_posix()
        if name not in there:
            partition, kind, _ = Path(name).parts[1:]
            _lists(manifest, partition)[f"{kind}_files"].append(f"{kind}/{file.name}")
    _save(folder, manifest)
    report.done.append(f"'{MANIFEST}' is made again from the one before and the files")
    report.lost.append("maybe deletes: what was deleted may be back")
    if not before:
        report.lost.append("the indexes of the collection's fields: create them again")


def _remove_snapshots(folder: Path, damages: dict[str, Damage], report: Repair) -> None:
    """Sets aside the snapshots that need a damaged file."""
    pinned = checksums.pinned(folder)
    lost = {file.stem for name in damages for file in pinned.get(name, ())}
    for kind, place in (Path(name).parts[1:3] for name in damages if name[:10] == "snapshots/"):
        lost.add(place.removesuffix(".json") if kind == "metadata" else place)
    for name in sorted(lost):
        for file in (f"metadata/{name}.json", f"manifests/{name}"):
            if (folder / "snapshots" / file).exists():
                quarantine.move(folder / "snapshots" / file, folder)
        report.lost.append(f"the snapshot '{name}'")


def _remove_damaged_files(folder: Path, damages: dict[str, Damage], report: Repair) -> None:
    names = [name for name in damages if name.startswith("partitions/")]
    if not names:
        return
    manifest = _parsed(folder / MANIFEST)
    keys: dict[Any, int] = {}
    listed = {*checksums.listed(manifest)}
    for name in names:
        if name not in listed:  # a file of snapshots only
            _set_aside(folder, name)
            continue
        partition, kind, base = Path(name).parts[1:]
        lists = _lists(manifest, partition)
        lists[f"{kind}_files"] = [f for f in lists[f"{kind}_files"] if Path(f).name != base]
        found = _keys(folder / name, folder) if kind == "data" else None
        if found:
            keys.update({key: max(seq, keys.get(key, 0)) for key, seq in found.items()})
            lists["delta_files"].append(_write_deletes(folder, partition, found))
            report.lost.append(f"the {len(found)} rows of '{base}', whose IDs are known")
        elif kind == "data":
            report.lost.append(
                f"{damages[name].affects} of '{base}': the vectors that they replaced may be back"
            )
        else:
            report.lost.append(f"{damages[name].affects}")
        _set_aside(folder, name)
        report.done.append(f"'{base}' is in the folder '{quarantine.NAME}'")
    _save(folder, manifest)
    newer = dict(_newest(folder, keys)) if keys else {}
    report.ids += [key for key, seq in keys.items() if newer.get(key, -1) <= seq]


def _keys(file: Path, folder: Path) -> dict[Any, int] | None:
    """The keys of a damaged file and their sequence numbers; None if they can't be read."""
    try:
        table = pq.read_table(
            file, columns=[_key_name(folder), "_seq"], page_checksum_verification=True
        )
        table.validate(full=True)
        keys, seqs = (column.to_pylist() for column in table.columns)
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return None
    first, last = map(int, _ENDS.search(file.name).groups())  # type: ignore[union-attr]
    if not all(first <= seq <= last for seq in seqs):
        return None
    return dict(zip(keys, seqs, strict=True))


def _write_deletes(folder: Path, partition: str, keys: dict[Any, int]) -> str:
    """Deletes what the rows of a damaged file had replaced, so that it does not come back."""
    from milvus_lite.schema.arrow_builder import build_delta_schema
    from milvus_lite.schema.persistence import load_schema
    from milvus_lite.storage.delta_file import write_delta_file

    _, schema = load_schema(str(folder / SCHEMA))
    columns = {_key_name(folder): list(keys), "_seq": list(keys.values())}
    table = pa.table(columns, schema=build_delta_schema(schema))
    path = str(folder / "partitions" / partition)
    first, last = min(keys.values()), max(keys.values())
    while (folder / f"partitions/{partition}/delta/delta_{first:06d}_{last:06d}.parquet").exists():
        last += 1
    return str(write_delta_file(table, path, first, last))


def _newest(folder: Path, keys: dict[Any, int]) -> Iterator[tuple[Any, int]]:
    """Yields keys among some, and the newest sequence number that an intact file has of each."""
    found: dict[Any, int] = {}
    name = _key_name(folder)

    def look(table: Any) -> None:
        for key, seq in zip(table[name].to_pylist(), table["_seq"].to_pylist(), strict=True):
            if key in keys:
                found[key] = max(seq, found.get(key, -1))

    for listed in checksums.listed(_parsed(folder / MANIFEST)):
        table = pq.read_table(folder / listed, columns=[name, "_seq"])
        if "/data/" in listed:
            look(table)
        else:
            newer = [
                s > keys.get(k, s)
                for k, s in zip(table[name].to_pylist(), table["_seq"].to_pylist(), strict=True)
            ]
            look(table.filter(pa.array(newer, pa.bool_())))
    for file in sorted((folder / "wal").glob("wal_d*a_*.arrow")):
        for batch in _batches(file):
            look(pa.Table.from_batches([batch]))
    yield from found.items()


def _batches(file: Path) -> Iterator[Any]:
    try:
        yield from pa.ipc.open_stream(file.read_bytes())
    except (pa.ArrowInvalid, OSError):
        return  # as Milvus Lite: up to the record that was cut off


def _restore_logs(folder: Path, damages: dict[str, Damage], report: Repair) -> None:
    logs = folder / "wal"
    logs.mkdir(exist_ok=True)
    for number in log_checksums.numbers(logs):
        sums = log_checksums.sums_file(logs, number)
        records = list(log_checksums.read(sums))
        kept: list[log_checksums.Record] = []
        for kind in log_checksums.KINDS:
            file = log_checksums.log_file(logs, kind, number)
            mine = [record for record in records if record.kind == kind]
            name = file.relative_to(folder).as_posix()
            if name not in damages:
                kept += mine
                continue
            content = file.read_bytes() if file.exists() else b""
            _set_aside(folder, name)
            intact = [record for record in mine if log_checksums.is_intact(record, content)]
            kept += _write_log(folder, file, kind, content, intact)
            rows = sum(record.rows for record in mine) - sum(record.rows for record in intact)
            what = "rows: the vectors that they replaced may be back"
            if kind == "delta":
                what = "deletes: what was deleted may be back"
            report.lost.append(f"the last {rows} {what}")
            report.done.append(f"'{name}' has the records again that are intact")
        checksums.write_whole(sums, log_checksums.lines(kept, sums))


def _write_log(
    folder: Path, file: Path, kind: str, content: bytes, intact: list[log_checksums.Record]
) -> list[log_checksums.Record]:
    from milvus_lite.schema.arrow_builder import build_wal_data_schema, build_wal_delta_schema
    from milvus_lite.schema.persistence import load_schema

    if not intact:
        return []
    _, fields = load_schema(str(folder / SCHEMA))
    build = build_wal_data_schema if kind == "data" else build_wal_delta_schema
    schema = build(fields)
    sink = io.BytesIO()
    records = []
    with pa.ipc.new_stream(sink, schema) as writer:
        start = 0
        for record in intact:
            part = content[record.start : record.end]
            if record.start == 0:
                batches = list(pa.ipc.open_stream(part))
            else:
                batches = [pa.ipc.read_record_batch(pa.py_buffer(part), schema)]
            for batch in batches:
                writer.write_batch(batch)
            end = sink.tell()
            crc = log_checksums.crc_of(sink.getvalue()[start:end])
            records.append(dataclasses.replace(record, start=start, end=end, crc=crc))
            start = end
        # Without the end of the stream, as in a log that is written to
        whole = sink.getvalue()
    checksums.write_whole(file, whole)
    return records


def _set_aside(folder: Path, name: str) -> None:
    if (folder / name).exists():
        quarantine.move(folder / name, folder)


def _key_name(folder: Path) -> str:
    fields = _parsed(folder / SCHEMA)["fields"]
    return next(str(field["name"]) for field in fields if field.get("is_primary"))


def _parsed(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _lists(manifest: dict[str, Any], partition: str) -> dict[str, list[str]]:
    partitions = manifest.setdefault("partitions", {})
    lists: dict[str, list[str]] = partitions.setdefault(partition, {})
    for kind in ("data_files", "delta_files"):
        lists.setdefault(kind, [])
    return lists


def _save(folder: Path, manifest: dict[str, Any]) -> None:
    ends = [_ENDS.search(name) for name in checksums.listed(manifest)]
    last = max((int(end[2]) for end in ends if end), default=0)
    manifest["current_seq"] = max(int(manifest.get("current_seq", 0)), last)
    manifest["version"] = int(manifest.get("version", 0)) + 1
    manifest.setdefault("active_wal_number", None)
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False)
    checksums.write_whole(folder / MANIFEST, text.encode())
