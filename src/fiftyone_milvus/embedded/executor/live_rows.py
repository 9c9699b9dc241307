"""What is live in a collection, kept up to date without walking its rows on every request.

Milvus Lite finds the live rows of a search by putting every primary key of the collection through
Python dictionaries, each time. Three facts make that unnecessary: segments are immutable; a row
that was replaced or deleted stays so; and all writes come through one servicer. So the masks of
live rows are kept, and each write, flush or compaction changes only what it touches.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fiftyone_milvus.embedded.executor.parts import BlockPart, LivePart, Part, Rows, SegmentPart

logger = logging.getLogger(__name__)


class UnsupportedError(Exception):
    """The request or the data is none that the fast paths answer: Milvus Lite answers it."""


class View:
    """An immutable state of a collection: what a reader works on from start to end.

    A row's number (``int64``) is its position in the concatenation of ``parts``.

    Attributes:
        parts: the rows; segments first, then the memtable's blocks, as in Milvus Lite.
        offsets: row number of the first row of each part, and the total at the end.
        count: number of live rows.
    """

    __slots__ = (
        "_order",
        "batches",
        "count",
        "manifest_version",
        "memtable",
        "next_seq",
        "offsets",
        "parts",
    )

    def __init__(
        self,
        parts: tuple[LivePart, ...],
        *,
        memtable: Any,
        batches: int,
        next_seq: int,
        manifest_version: int,
    ) -> None:
        self.parts = parts
        self.offsets: Rows = np.cumsum([0, *(p.rows for p in parts)], dtype=np.int64)
        self.count = sum(p.count for p in parts)
        self.memtable = memtable
        self.batches = batches
        self.next_seq = next_seq
        self.manifest_version = manifest_version
        self._order: Rows | None = None

    def live_rows(self) -> Rows:
        """Numbers of all live rows."""
        found = [
            (np.arange(p.rows, dtype=np.int64) if p.live is None else np.flatnonzero(p.live))
            + start
            for p, start in zip(self.parts, self.offsets[:-1], strict=True)
        ]
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

    def pk_order(self) -> Rows:
        """Numbers of all live rows, sorted by primary key (kept: iterators ask page by page)."""
        if self._order is None:
            rows = self.live_rows()
            pks = [pk for p in self.parts for pk in _live_pks(p)]
            self._order = rows[
                np.array(sorted(range(len(pks)), key=pks.__getitem__), dtype=np.int64)
            ]
        return self._order


def _live_pks(part: LivePart) -> list[Any]:
    pks = part.part.pk_array[: part.rows]
    return list(pks if part.live is None else pks[part.live])


class LiveView:
    """Keeps the :class:`View` of one collection current.

    Readers never wait for a writer: while a write is under way, they get the state before it,
    even while Milvus Lite moves rows from its memtable into a segment.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._view: View | None = None

    @contextmanager
    def writing(self, col: Any) -> Iterator[None]:
        """Hold back new views until the write in the block is complete, then publish its effect."""
        with self._lock:
            try:
                yield
            finally:
                if self._view is not None:
                    try:
                        self._refresh(col)
                    except Exception as exc:
                        # The write stands, whatever became of the view of it.
                        self._view = None
                        if not isinstance(exc, UnsupportedError):
                            logger.warning("can't follow a write, starting over", exc_info=True)

    def view(self, col: Any) -> View:
        """The newest complete state of the collection.

        Raises:
            UnsupportedError: the collection holds what a view can't show.
        """
        view = self._view
        if view is not None and _is_current(view, col):
            return view
        if not self._lock.acquire(blocking=view is None):
            assert view is not None
            return view
        try:
            return self._refresh(col)
        finally:
            self._lock.release()

    def _refresh(self, col: Any) -> View:
        old = self._view
        # The background worker holds this lock for as long as a compaction takes. What it does
        # does not change what is live, so the segments from before serve meanwhile.
        wait = old is None or old.memtable is not col._memtable
        if col._maintenance_lock.acquire(blocking=wait):
            try:
                if old is not None and _dropped_partition(old, col):
                    old = None
                segments = tuple(s for s in col._segment_cache.values() if s.num_rows)
                self._view = _build(col, old, segments, col._manifest.version)
            finally:
                col._maintenance_lock.release()
        else:
            assert old is not None
            segments = tuple(p.part.segment for p in old.parts if p.part.segment is not None)
            self._view = _build(col, old, segments, old.manifest_version)
        return self._view


def _is_current(view: View, col: Any) -> bool:
    return bool(
        view.next_seq == col._next_seq
        and view.memtable is col._memtable
        and view.manifest_version == col._manifest.version
    )


def _dropped_partition(view: View, col: Any) -> bool:
    # Only then may a row that a newer one had replaced become visible again.
    names = set(col._manifest.list_partitions())
    return any(
        p.part.segment is not None and p.part.segment.partition not in names for p in view.parts
    )


def _build(
    col: Any, old: View | None, all_segments: tuple[Any, ...], manifest_version: int
) -> View:
    memtable = col._memtable
    kept = {id(p.part.segment): p for p in old.parts if p.part.segment is not None} if old else {}
    segments: list[LivePart] = []
    fresh: list[LivePart] = []
    for segment in all_segments:
        part = kept.get(id(segment))
        if part is None:
            if len(segment.pk_to_row) != segment.num_rows:
                raise UnsupportedError("a segment repeats a primary key")
            part = LivePart(SegmentPart(segment), segment.num_rows, None)
            fresh.append(part)
        segments.append(part)

    same_memtable = old is not None and old.memtable is memtable
    blocks = (
        [p for p in old.parts if p.part.segment is None]
        if old is not None and same_memtable
        else []
    )
    seen_seq = old.next_seq if old is not None and same_memtable else -1
    dead: dict[int, set[int]] = {}

    with memtable._lock:
        done = old.batches if old is not None and same_memtable else 0
        blocks, new_pks = _add_batches(col, memtable, blocks, done, dead)
        batches = len(memtable._insert_batches)

        _settle_segments(segments, fresh, dead)
        for part in segments:
            _bury_replaced(part, new_pks, memtable._pk_index, dead)
        for part in fresh:
            _bury_replaced(part, memtable._pk_index.keys(), memtable._pk_index, dead)
            _bury_deleted(part.part, memtable._delete_index, dead)
        for pk, (seq, _partition) in reversed(memtable._delete_index.items()):
            if seq < seen_seq:
                break  # older deletes are done: new entries are appended at the dict's end
            for part in (*segments, *blocks):
                row = part.part.pk_to_row.get(pk)
                if row is not None and int(part.part.seqs[row]) < seq:
                    dead.setdefault(id(part.part), set()).add(row)
    if not same_memtable or fresh:
        for part in segments:
            common = col._delta_index._map.keys() & part.part.pk_to_row.keys()
            for pk in common:
                row = part.part.pk_to_row[pk]
                if col._delta_index._map[pk] > int(part.part.seqs[row]):
                    dead.setdefault(id(part.part), set()).add(row)

    parts = tuple(
        p.without(dead.get(id(p.part), ()), rows=len(p.part)) for p in (*segments, *blocks)
    )
    return View(
        parts,
        memtable=memtable,
        batches=batches,
        next_seq=col._next_seq,
        manifest_version=manifest_version,
    )


def _add_batches(
    col: Any, memtable: Any, blocks: list[LivePart], done: int, dead: dict[int, set[int]]
) -> tuple[list[LivePart], set[Any]]:
    fields = vector_fields(col)
    new_pks: set[Any] = set()
    for number in range(done, len(memtable._insert_batches)):
        batch = memtable._insert_batches[number]
        block = blocks[-1] if blocks else None
        first = len(block.part) if block is not None else 0
        if block is None or not _append(block.part, batch, col._pk_name):
            block = LivePart(BlockPart(batch, col._pk_name, fields), 0, None)
            blocks.append(block)
            first = 0
        part = block.part
        pks = part.pks[first : first + batch.num_rows]
        for row, pk in enumerate(pks, start=first):
            position = memtable._pk_index.get(pk)
            if position is None or position[0] != number or position[1] != row - first:
                dead.setdefault(id(part), set()).add(row)
        for earlier in blocks[:-1]:
            for pk in earlier.part.pk_to_row.keys() & set(pks):
                dead.setdefault(id(earlier.part), set()).add(earlier.part.pk_to_row[pk])
        new_pks.update(pks)
    return blocks, new_pks


def _append(part: Part, batch: Any, pk_name: str) -> bool:
    return isinstance(part, BlockPart) and part.append(batch, pk_name)


def _settle_segments(
    segments: list[LivePart], fresh: list[LivePart], dead: dict[int, set[int]]
) -> None:
    settled = {id(p) for p in segments} - {id(p) for p in fresh}
    for new in fresh:
        for other in segments:
            if id(other) not in settled:
                continue
            a, b = new.part, other.part
            for pk in a.pk_to_row.keys() & b.pk_to_row.keys():
                i, j = a.pk_to_row[pk], b.pk_to_row[pk]
                loser, row = (b, j) if a.seqs[i] > b.seqs[j] else (a, i)
                dead.setdefault(id(loser), set()).add(row)
        settled.add(id(new))


def _bury_replaced(part: LivePart, pks: Any, index: Any, dead: dict[int, set[int]]) -> None:
    rows = part.part.pk_to_row
    for pk in rows.keys() & pks:
        position = index.get(pk)
        if position is not None and position[2] > int(part.part.seqs[rows[pk]]):
            dead.setdefault(id(part.part), set()).add(rows[pk])


def _bury_deleted(part: Part, deleted: Any, dead: dict[int, set[int]]) -> None:
    for pk in deleted.keys() & part.pk_to_row.keys():
        row = part.pk_to_row[pk]
        if deleted[pk][0] > int(part.seqs[row]):
            dead.setdefault(id(part), set()).add(row)


def vector_fields(col: Any) -> list[str]:
    """Names of a collection's FLOAT_VECTOR fields."""
    return [f.name for f in col._schema.fields if f.dtype.name == "FLOAT_VECTOR"]
