"""Milvus Lite collections that lose nothing when the disk is full.

Milvus Lite drops the rows in memory when a flush fails, and deletes their log with the next one
that succeeds; it appends to a log behind a record that was cut off, where nothing is read again;
and it leaves half an index file where the next start reads a whole one.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from milvus_lite.engine.collection import Collection
from milvus_lite.engine.compaction import CompactionManager
from milvus_lite.storage.wal import WAL, _cleanup_old_wals

from fiftyone_milvus.embedded import disk_space

logger = logging.getLogger(__name__)

_DRAFT = ".draft"
_installed = False


def install() -> None:
    """Makes this process' Milvus Lite open its collections as durable ones."""
    global _installed
    if _installed:
        return
    from milvus_lite import db
    from milvus_lite.engine import collection
    from milvus_lite.index import factory
    from milvus_lite.index.brute_force import BruteForceIndex
    from milvus_lite.index.scalar import ScalarInvertedIndex

    db.Collection = DurableCollection
    collection.CompactionManager = DurableCompaction
    build = factory.build_index_from_spec

    def build_index_from_spec(spec: Any, vectors: Any) -> Any:
        index = build(spec, vectors)
        _save_whole(type(index))
        return index

    factory.build_index_from_spec = build_index_from_spec
    # It is the segment's vectors and nothing else: on the disk they would be there twice.
    BruteForceIndex.save = functools.wraps(BruteForceIndex.save)(lambda self, path: None)
    _save_whole(ScalarInvertedIndex)
    _installed = True


class DurableCollection(Collection):
    """A collection whose writes and flushes are done, or leave it as it was."""

    _memtable: Any
    _wal: Any
    _recovered_wal_bytes: int

    def __init__(self, name: str, data_dir: str, *args: Any, **kwargs: Any) -> None:
        for draft in Path(data_dir).glob(f"partitions/*/indexes/*{_DRAFT}"):
            draft.unlink(missing_ok=True)
        self._opening = True
        super().__init__(name, data_dir, *args, **kwargs)
        self._opening = False

    def discard(self) -> None:
        """Forgets the rows in memory, so that closing it before it is dropped writes nothing."""
        self._memtable = type(self._memtable)(self._schema)

    def _build_or_load_segment_index(self, seg: Any, spec: Any) -> None:
        try:
            super()._build_or_load_segment_index(seg, spec)
        except Exception as error:
            folder = Path(self._index_dir(seg.partition))
            stem = Path(seg.file_path).stem
            damaged = list(folder.glob(f"{stem}.{spec.field_name}.*"))
            if not damaged:
                raise
            # Half of it was written, by a Milvus Lite that was killed.
            logger.warning("'%s' is built again: %s", damaged[0], error)
            for file in damaged:
                file.unlink(missing_ok=True)
            super()._build_or_load_segment_index(seg, spec)

    def _apply(self, op: Any) -> None:
        ends = [0 if sink is None else sink.tell() for sink in _sinks(self._wal)]
        try:
            super()._apply(op)
        except OSError:
            self._begin_log(ends)
            raise

    def _begin_log(self, ends: list[int]) -> None:
        """Cuts what was not written whole from the log, and begins another."""
        wal = self._wal
        for sink, end in zip(_sinks(wal), ends, strict=True):
            if sink is not None:
                # Past Python's buffer, which would write the rest as soon as there is room.
                sink.raw.close()
                os.truncate(sink.name, end)
        if hasattr(self, "_recovered_wal_bytes"):
            self._recovered_wal_bytes += sum(ends)
        self._wal = WAL(wal.wal_dir, self._wal_data_schema, self._wal_delta_schema, wal.number + 1)

    def _trigger_flush(self) -> None:
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
                    # It can be read all the same.
                    logger.warning("'%s' can't be flushed now: %s", self._data_dir, error)
                else:
                    # Only what cleans up after it failed.
                    logger.warning("after a flush of '%s': %s", self._data_dir, error)
                    _cleanup_old_wals(wal.wal_dir, wal.number)
                    self._recovered_wal_bytes = 0
                    self._refresh_segment_cache()
                    self._schedule_bg_maintenance()


class DurableCompaction(CompactionManager):
    """A compaction that is done, or leaves the collection as it was."""

    def _compact_files(
        self,
        partition: str,
        partition_dir: str,
        files_to_compact: list[str],
        manifest: Any,
        delta_index: Any,
    ) -> None:
        size = sum(os.path.getsize(os.path.join(partition_dir, file)) for file in files_to_compact)
        if disk_space.free_bytes(partition_dir) < size + disk_space.RESERVE_BYTES:
            logger.info("'%s' is not compacted: the disk is full", partition_dir)
            return
        with _rolled_back(manifest, self._data_dir):
            super()._compact_files(
                partition, partition_dir, files_to_compact, manifest, delta_index
            )


def _sinks(wal: Any) -> tuple[Any, Any]:
    return wal._data_sink, wal._delta_sink


@contextlib.contextmanager
def _rolled_back(manifest: Any, data_dir: str) -> Iterator[None]:
    """Takes back what failed before the manifest was saved: in the manifest, and on the disk."""
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
            os.replace(draft, path)
        except Exception as error:
            logger.warning("'%s' is not saved: %s", path, error)
            with contextlib.suppress(OSError):
                os.remove(draft)

    kind.save = save_whole
