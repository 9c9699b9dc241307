"""Milvus Lite collections that lose no acknowledged row, and believe no damaged file.

The disk may be full, or lose its power.

Milvus Lite drops the rows in memory when a flush fails, and deletes their log with the next one
that succeeds. It appends to a log after a record that was cut off, and what
follows that record is never read. If saving an index fails, half a file stays, which the next
start takes for a whole one. Against a power loss, see :mod:`.power_loss`.

Each protection against that is installed on its own, where Milvus Lite has the internals that it
needs, whether the fast paths run or not.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import logging
import operator
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fiftyone_milvus.embedded import disk_space
from fiftyone_milvus.embedded.internals import Replacements, missing
from fiftyone_milvus.embedded.storage import (
    checksums,
    log_checksums,
    power_loss,
    quarantine,
    verification,
)
from fiftyone_milvus.embedded.storage.automatic_index import AutomaticIndexes
from fiftyone_milvus.embedded.storage.fsync import fsync_file
from fiftyone_milvus.embedded.storage.segments import SegmentsAtOnce
from fiftyone_milvus.embedded.storage.verified_ahead import VerifiedAhead

logger = logging.getLogger(__name__)

_DRAFT = ".draft"
#: A merged file is read and written as a whole, in several copies.
_MERGED_BYTES = 256 << 20
_MERGED_ROWS = 100_000
_MERGED_FILES = 4
#: With more files than this, those of different sizes are merged too, as Milvus Lite does.
_MOST_FILES = 32
_Base: Any = object

_installed: list[str] | None = None
_replacements = Replacements()

NEEDS: dict[str, tuple[str, ...]] = {
    "log": (
        "db:Collection",
        "engine.collection:Collection._apply(self, op)",
        "engine.collection:Collection#_wal",
        "engine.collection:Collection#_wal_data_schema",
        "engine.collection:Collection#_wal_delta_schema",
        "storage.wal:WAL#_data_sink",
        "storage.wal:WAL#_delta_sink",
        "storage.wal:WAL#wal_dir",
        "storage.wal:WAL.number",
    ),
    "flush": (
        "db:Collection",
        "engine.collection:Collection._trigger_flush(self)",
        "engine.collection:Collection._refresh_segment_cache(self)",
        "engine.collection:Collection._schedule_bg_maintenance(self)",
        "engine.collection:Collection#_data_dir",
        "engine.collection:Collection#_maintenance_lock",
        "engine.collection:Collection#_manifest",
        "engine.collection:Collection#_memtable",
        "engine.collection:Collection#_wal",
        "storage.manifest:Manifest#_partitions",
        "storage.manifest:Manifest#_version",
        "storage.manifest:Manifest.version",
        "storage.wal:WAL#wal_dir",
        "storage.wal:WAL.number",
        "storage.wal:_cleanup_old_wals(wal_dir, up_to_number)",
    ),
    "compaction": (
        "engine.collection:CompactionManager",
        "engine.compaction:CompactionManager#_data_dir",
        "engine.compaction:CompactionManager._select_target(buckets, total_files, partition_dir)",
        "engine.compaction:CompactionManager._compact_files"
        "(self, partition, partition_dir, files_to_compact, manifest, delta_index)",
        "storage.manifest:Manifest#_partitions",
        "storage.manifest:Manifest#_version",
        "storage.manifest:Manifest.version",
    ),
    "index files": (
        "index.factory:build_index_from_spec(spec, vectors)",
        "index.brute_force:BruteForceIndex.save(self, path)",
        "index.scalar.inverted:ScalarInvertedIndex.save(self, path)",
    ),
    "damaged index files": (
        "db:Collection",
        "engine.collection:Collection._build_or_load_segment_index(self, seg, spec)",
        "engine.collection:Collection._index_dir(self, partition)",
        "storage.segment:Segment#file_path",
        "storage.segment:Segment#partition",
    ),
    "dropped collections": (
        "db:Collection",
        "db:MilvusLite#_collections",
        "engine.collection:Collection#_memtable",
        "engine.collection:Collection#_schema",
    ),
    "automatic indexes": (
        "db:Collection",
        "engine.collection:Collection#_bg_closed",
        "engine.collection:Collection#_bg_executor",
        "engine.collection:Collection#_index_specs",
        "engine.collection:Collection#_maintenance_lock",
        "engine.collection:Collection#_manifest",
        "engine.collection:Collection._build_or_load_segment_index(self, seg, spec)",
        "engine.collection:Collection._cleanup_orphan_index_files(self)",
        "engine.collection:Collection._index_dir(self, partition)",
        "engine.collection:Collection._segments_snapshot(self)",
        "engine.collection:Collection.load(self)",
        "index.brute_force:BruteForceIndex#_vectors",
    ),
    "vectors verified ahead": (
        "db:Collection",
        "engine.collection:Collection#_bg_closed",
        "engine.collection:Collection._segments_snapshot(self)",
        "engine.collection:Collection.load(self)",
        "engine.collection:Collection.load_state",
    ),
    "segments at once": (
        "db:Collection",
        "engine.collection:Collection#_data_dir",
        "engine.collection:Collection#_manifest",
        "engine.collection:Collection#_pk_name",
        "engine.collection:Collection#_segment_cache",
        "engine.collection:Collection#_vector_name",
        "engine.collection:Collection._refresh_segment_cache(self)",
        "engine.collection:Segment",
    ),
    "remains of collections": ("db:MilvusLite._collection_dir(self, name, database_name)",),
    **power_loss.NEEDS,
    "checksums": (
        "db:save_schema(schema, collection_name, path)",
        "storage.manifest:Manifest#_data_dir",
        "storage.manifest:Manifest.save(self)",
    ),
    "checksums of indexes": (
        "db:Collection",
        "engine.collection:Collection#_data_dir",
        "engine.collection:Collection._build_or_load_segment_index(self, seg, spec)",
        "engine.collection:Collection._index_dir(self, partition)",
    ),
    "checksums of the log": (
        "storage.wal:WAL#_data_sink",
        "storage.wal:WAL#_delta_sink",
        "storage.wal:WAL#wal_dir",
        "storage.wal:WAL.close_and_delete(self)",
        "storage.wal:WAL.number",
        "storage.wal:WAL.write_delete(self, record_batch)",
        "storage.wal:WAL.write_insert(self, record_batch)",
    ),
    "quarantine": (
        "engine.recovery:_cleanup_orphan_files(data_dir, manifest)",
        "storage.manifest:Manifest#_partitions",
    ),
}
"""What each protection needs of Milvus Lite; see :func:`.internals.missing`."""


def install() -> list[str]:
    """Makes the Milvus Lite of this process open its collections as durable ones.

    Returns:
        the protections that are off, with what Milvus Lite lacks, such as
        ``"flush (no storage.wal:_cleanup_old_wals)"``
    """
    global _installed
    if _installed is not None:
        return _installed
    off = {}
    for name, needs in NEEDS.items():
        if lacks := [re.split("[( ]", need)[0] for need in missing(needs)]:
            off[name] = f"{name} (no {', '.join(lacks)})"
    power_loss.install(set(NEEDS) - set(off), _replacements)
    parts = tuple(cls for name, cls in _COLLECTION_PARTS.items() if name not in off)
    if parts:
        from milvus_lite import db

        durable = type("DurableCollection", (_Opening, *parts, db.Collection), {})
        _replacements.set(db, "Collection", durable)
    if "compaction" not in off:
        from milvus_lite.engine import collection

        durable = type("DurableCompaction", (_Compaction, collection.CompactionManager), {})
        _replacements.set(collection, "CompactionManager", durable)
    if "index files" not in off:
        _save_index_files_whole()
    _verify({*NEEDS} - {*off})
    _installed = list(off.values())
    if off:
        logger.warning("files are less protected: %s", "; ".join(_installed))
    return _installed


def _verify(possible: set[str]) -> None:
    from milvus_lite import db
    from milvus_lite.engine import recovery
    from milvus_lite.storage.manifest import Manifest

    if "checksums" in possible:
        _replacements.set(Manifest, "save", checksums.recording_manifest(Manifest.save))
        _replacements.set(db, "save_schema", checksums.recording_schema(db.save_schema))
    if "checksums of the log" in possible:
        log_checksums.install(_replacements)
    if "quarantine" in possible:
        kept = quarantine.keeping_orphans(recovery._cleanup_orphan_files)
        _replacements.set(recovery, "_cleanup_orphan_files", kept)


def uninstall() -> None:
    """Removes all protections from collections that are opened from now on."""
    global _installed
    _replacements.undo()
    _installed = None


class _Opening(_Base):
    """Removes what an interrupted save left, and knows when the collection is being opened."""

    def __init__(self, name: str, data_dir: str, *args: Any, **kwargs: Any) -> None:
        for draft in Path(data_dir).glob(f"partitions/*/indexes/*{_DRAFT}"):
            draft.unlink(missing_ok=True)
        self._opening = True
        super().__init__(name, data_dir, *args, **kwargs)
        self._opening = False


class _Log(_Base):
    """Cuts a record that was not written whole from the log, and begins another log."""

    _wal: Any

    def _apply(self, op: Any) -> None:
        wal = self._wal
        sinks = [(name, getattr(wal, name)) for name in ("_data_sink", "_delta_sink")]
        ends = {name: 0 if sink is None else sink.tell() for name, sink in sinks}
        try:
            super()._apply(op)
        except OSError:
            for name, end in ends.items():
                if (sink := getattr(wal, name)) is not None:
                    # Without Python's buffer, which would write the rest once there is room.
                    sink.raw.close()
                    os.truncate(sink.name, end)
            if hasattr(self, "_recovered_wal_bytes"):
                self._recovered_wal_bytes += sum(ends.values())
            schemas = self._wal_data_schema, self._wal_delta_schema
            self._wal = type(wal)(wal.wal_dir, *schemas, wal.number + 1)
            raise


class _Flush(_Base):
    """Keeps the rows in memory and their log where a flush fails."""

    _memtable: Any
    _wal: Any

    def _trigger_flush(self) -> None:
        from milvus_lite.storage.wal import _cleanup_old_wals

        with self._maintenance_lock:
            memtable, wal, version = self._memtable, self._wal, self._manifest.version
            try:
                with _rolled_back(self._manifest, self._data_dir):
                    super()._trigger_flush()
            except OSError as error:
                if self._manifest.version == version:
                    self._memtable, self._wal = memtable, wal
                    if not self._opening:
                        raise
                    # Its rows can still be read.
                    logger.warning("'%s' can't be flushed now: %s", self._data_dir, error)
                else:
                    # The flush succeeded, and only the clean-up after it failed.
                    logger.warning("after a flush of '%s': %s", self._data_dir, error)
                    _cleanup_old_wals(wal.wal_dir, wal.number)
                    self._recovered_wal_bytes = 0
                    self._refresh_segment_cache()
                    self._schedule_bg_maintenance()


class _DamagedIndexFiles(_Base):
    """Builds an index again if its file is damaged, as by a process that was killed."""

    def _build_or_load_segment_index(self, seg: Any, spec: Any) -> None:
        try:
            super()._build_or_load_segment_index(seg, spec)
        except Exception as error:
            folder = Path(self._index_dir(seg.partition))
            stem = Path(seg.file_path).stem
            damaged = list(folder.glob(f"{stem}.{spec.field_name}.*"))
            if not damaged:
                raise
            logger.warning("'%s' is built again: %s", damaged[0], error)
            for file in damaged:
                file.unlink(missing_ok=True)
            super()._build_or_load_segment_index(seg, spec)


class _Dropped(_Base):
    """Can discard its rows in memory, so that closing it before it is dropped writes nothing."""

    _memtable: Any

    def discard(self) -> None:
        self._memtable = type(self._memtable)(self._schema)


_COLLECTION_PARTS: dict[str, type] = {
    "vectors verified ahead": VerifiedAhead,
    "automatic indexes": AutomaticIndexes,
    "segments at once": SegmentsAtOnce,
    "checksums of indexes": checksums.IndexChecksums,
    "log": _Log,
    "flush": _Flush,
    "damaged index files": _DamagedIndexFiles,
    "dropped collections": _Dropped,
    "opened logs": power_loss.OpenedLogs,
}


class _Compaction(_Base):
    """A compaction that is done, or leaves the collection as it was."""

    @staticmethod
    def _select_target(
        buckets: list[list[tuple[str, int]]], total_files: int, partition_dir: str
    ) -> list[str] | None:
        """Chooses small files of about the same size; large ones are never written again.

        Milvus Lite would write its largest files again with each flush, from 33 files on.
        """
        every = list(itertools.chain(*buckets)) if total_files > _MOST_FILES else []
        for bucket in [*buckets, every]:
            chosen: list[str] = []
            rows = size = 0
            for name, file_bytes in sorted(bucket, key=operator.itemgetter(1)):
                rows += _rows(os.path.join(partition_dir, name))
                size += file_bytes
                if rows > _MERGED_ROWS or size > _MERGED_BYTES:
                    break
                chosen.append(name)
            if len(chosen) >= _MERGED_FILES:
                return chosen
        return None

    def _compact_files(
        self,
        partition: str,
        partition_dir: str,
        files_to_compact: list[str],
        manifest: Any,
        delta_index: Any,
    ) -> None:
        size = sum(os.path.getsize(os.path.join(partition_dir, file)) for file in files_to_compact)
        names = [f"partitions/{partition}/{file}" for file in files_to_compact]
        if damages := verification.verify_files(Path(self._data_dir), names):
            # The merged file would look intact
            error = verification.message(Path(self._data_dir), damages)
            logger.error("not compacted: %s", error)
            return
        if disk_space.free_bytes(partition_dir) < size + disk_space.RESERVE_BYTES:
            logger.info("'%s' is not compacted: the disk is full", partition_dir)
            return
        with _rolled_back(manifest, self._data_dir):
            super()._compact_files(
                partition, partition_dir, files_to_compact, manifest, delta_index
            )


def _rows(file: str) -> int:
    try:
        return int(pq.read_metadata(file).num_rows)
    except (OSError, pa.ArrowException):
        return _MERGED_ROWS + 1


@contextlib.contextmanager
def _rolled_back(manifest: Any, data_dir: str) -> Iterator[None]:
    """Undoes what failed before the manifest was saved: in the manifest, and on the disk."""
    before = {**vars(manifest), "_partitions": copy.deepcopy(manifest._partitions)}
    files = _data_files(data_dir)
    try:
        yield
    except BaseException:
        if manifest.version == before["_version"]:
            vars(manifest).update(before)
            for file in _data_files(data_dir) - files:
                with contextlib.suppress(OSError):
                    file.unlink()
        raise


def _data_files(data_dir: str) -> set[Path]:
    return set(Path(data_dir).glob("partitions/*/d*a/*.parquet"))


def _save_index_files_whole() -> None:
    from milvus_lite.index import factory
    from milvus_lite.index.brute_force import BruteForceIndex
    from milvus_lite.index.scalar import ScalarInvertedIndex

    build = factory.build_index_from_spec

    def build_index_from_spec(spec: Any, vectors: Any) -> Any:
        index = build(spec, vectors)
        _save_whole(type(index))
        return index

    _replacements.set(factory, "build_index_from_spec", build_index_from_spec)
    # A FLAT index has nothing but the segment's vectors, which would be on the disk twice.
    nothing: Callable[..., None] = lambda self, path: None  # noqa: E731
    _replacements.set(BruteForceIndex, "save", functools.wraps(BruteForceIndex.save)(nothing))
    _save_whole(ScalarInvertedIndex)


def _save_whole(kind: Any) -> None:
    """Makes indexes of a class save all or nothing: they are in memory, and can be built again."""
    save = kind.save
    if hasattr(save, "__wrapped__"):
        return

    @functools.wraps(save)
    def save_whole(self: Any, path: str) -> None:
        draft = path + _DRAFT
        try:
            save(self, draft)
            fsync_file(draft)
            os.replace(draft, path)
        except Exception as error:
            logger.warning("'%s' is not saved: %s", path, error)
            with contextlib.suppress(OSError):
                os.remove(draft)

    _replacements.set(kind, "save", save_whole)
