"""The live rows of a collection: those that were neither replaced nor deleted.

For each search, Milvus Lite finds them by putting every primary key of the collection through
Python dictionaries. Three facts make that unnecessary: segments are immutable; a row that was
replaced or deleted stays so; and all writes come through one servicer. So the masks of live rows
are kept, and each write, flush or compaction changes only what it touches.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from fiftyone_milvus.embedded.executor.parts import BlockPart, LivePart, Mask, Part, SegmentPart
from fiftyone_milvus.embedded.executor.vectors import Rows
from fiftyone_milvus.embedded.locks import Call, ReadWriteLock, WaitError
from fiftyone_milvus.embedded.storage import keys

logger = logging.getLogger(__name__)

_Dead = defaultdict[Part, set[int]]


class UnsupportedError(Exception):
    """A request, or data, for which there is no fast path: Milvus Lite answers."""


@dataclasses.dataclass(eq=False)
class View:
    """An immutable state of a collection: what a reader works on from start to end.

    A row's number (``int64``) is its position in the concatenation of ``parts``.

    Attributes:
        parts: the rows; segments first, then the memtable's blocks, as in Milvus Lite
        memtable: the memtable of these blocks
        batches: the number of its batches that the view has
        next_seq: the sequence number of the first row that the view does not have
        manifest_version: the version of the manifest with these segments
        offsets: row number of the first row of each part, and the total at the end
        count: number of live rows
    """

    parts: tuple[LivePart, ...]
    memtable: Any
    batches: int
    next_seq: int
    manifest_version: int

    def __post_init__(self) -> None:
        self.offsets: Rows = np.cumsum([0, *(p.rows for p in self.parts)], dtype=np.int64)
        self.count = sum(p.count for p in self.parts)
        self._order: Rows | None = None
        self._finder: tuple[keys.Finder | None, int] | None = None

    def is_current(self, col: Any) -> bool:
        """Whether the collection has not changed since."""
        return bool(
            self.next_seq == col._next_seq
            and self.memtable is col._memtable
            and self.manifest_version == col._manifest.version
        )

    def live_rows(self) -> Rows:
        """Numbers of all live rows."""
        found = [
            (np.arange(p.rows, dtype=np.int64) if p.live is None else np.flatnonzero(p.live))
            + start
            for p, start in zip(self.parts, self.offsets[:-1], strict=True)
        ]
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

    def mark(self, asked: keys.ObjectIds, mask: Mask) -> int:
        """Marks the rows of object IDs in the first parts; returns the number of these parts."""
        if self._finder is None:
            found: list[keys.ObjectIdKeys] = []
            for p in self.parts:
                if p.part.segment is None or not isinstance(p.part.keys, keys.ObjectIdKeys):
                    break
                found.append(p.part.keys)
            starts = self.offsets[: len(found)].tolist()
            self._finder = (keys.Finder(found, starts) if found else None), len(found)
        finder, count = self._finder
        if finder is not None:
            finder.mark(asked, mask)
        return count

    def _shares_segments(self, other: View) -> bool:
        """Whether two views begin with the same segments."""
        count = [sum(p.part.segment is not None for p in view.parts) for view in (self, other)]
        ours, theirs = self.parts[: count[0]], other.parts[: count[1]]
        return count[0] == count[1] and all(a.part is b.part for a, b in zip(ours, theirs))

    def keep(self, old: View) -> None:
        """Takes over what an earlier view of the same segments has found out."""
        if old._finder is not None and self._shares_segments(old):
            self._finder = old._finder

    def pk_order(self) -> Rows:
        """Numbers of all live rows, sorted by primary key (kept: iterators ask page by page)."""
        if self._order is None:
            pks: list[Any] = []
            for p in self.parts:
                seen = np.arange(p.rows) if p.live is None else np.flatnonzero(p.live)
                pks.extend(p.part.keys.at(seen))
            order = np.array(sorted(range(len(pks)), key=pks.__getitem__), dtype=np.int64)
            self._order = self.live_rows()[order]
        return self._order


class LiveView:
    """The latest :class:`View` of one collection.

    It is replaced while the collection's lock is held: by a write as it ends, or by a reader.

    Attributes:
        latest: the newest complete state that was asked for, or None
    """

    def __init__(self) -> None:
        self.latest: View | None = None
        self._building = ReadWriteLock("a view")

    @contextmanager
    def writing(self, col: Any, call: Call) -> Iterator[None]:
        """Shows the effect of a write when it is complete; the caller holds the write lock."""
        try:
            yield
        finally:
            if self.latest is not None:
                try:
                    self.latest = _view(col, self.latest, call)
                except Exception as exc:
                    # The write succeeded, even if its view could not be made.
                    self.latest = None
                    if not isinstance(exc, (UnsupportedError, WaitError)):
                        logger.warning("can't follow a write, starting over", exc_info=True)

    def refreshed(self, col: Any, call: Call) -> View:
        """The state of the collection now; the caller holds its read or write lock.

        Raises:
            UnsupportedError: the collection has rows that a view can't show
            WaitError: another reader's view, or a compaction, was not complete by the deadline
        """
        with self._building.writing(call):
            if self.latest is None or not self.latest.is_current(col):
                self.latest = _view(col, self.latest, call)
            return self.latest


@contextmanager
def maintenance(col: Any, call: Call) -> Iterator[None]:
    """Holds off Milvus Lite's background work on a collection.

    Raises:
        WaitError: a compaction was not complete by the deadline
    """
    call.acquire(col._maintenance_lock, f"a compaction of collection '{col.name}'")
    try:
        yield
    finally:
        col._maintenance_lock.release()


def _view(col: Any, old: View | None, call: Call) -> View:
    if old is not None and old.memtable is col._memtable:
        # A compaction may take long, and changes no live row: until it is complete, the view keeps
        # the segments from before.
        try:
            with maintenance(col, call.at_once()):
                return _view_of_segments(col, old)
        except WaitError:
            segments = [p.part.segment for p in old.parts if p.part.segment is not None]
            return _build(col, old, segments, old.manifest_version)
    with maintenance(col, call):
        return _view_of_segments(col, old)


def _view_of_segments(col: Any, old: View | None) -> View:
    names = set(col._manifest.list_partitions())
    segments = [s for s in col._segment_cache.values() if s.num_rows]
    if old is not None and any(
        p.part.segment is not None and p.part.segment.partition not in names for p in old.parts
    ):
        # A partition was dropped: what its rows had replaced is visible again.
        old = None
    return _build(col, old, segments, col._manifest.version)


def _build(col: Any, old: View | None, all_segments: list[Any], manifest_version: int) -> View:
    memtable = col._memtable
    before = old.parts if old is not None else ()
    known = {id(p.part.segment): p for p in before if p.part.segment is not None}
    segments: list[LivePart] = []
    new: list[Part] = []
    for segment in all_segments:
        live = known.get(id(segment))
        if live is None:
            live = LivePart(SegmentPart(segment), segment.num_rows, None)
            if not live.part.keys.unique:
                raise UnsupportedError("a segment repeats a primary key")
            new.append(live.part)
        segments.append(live)

    blocks: list[LivePart] = []
    batches, seen_seq = 0, -1
    if old is not None and old.memtable is memtable:
        blocks = [p for p in before if p.part.segment is None]
        batches, seen_seq = old.batches, old.next_seq

    dead: _Dead = defaultdict(set)
    with memtable._lock:
        new_pks = _add_batches(col, memtable, blocks, batches, dead)
        batches = len(memtable._insert_batches)
        inserted = {pk: memtable._pk_index[pk][2] for pk in new_pks & memtable._pk_index.keys()}
        deleted: dict[Any, int] = {}
        for pk, (seq, _partition) in reversed(memtable._delete_index.items()):
            if seq < seen_seq:
                break  # older deletes are done: new entries are appended at the dict's end
            deleted[pk] = seq
        _mark_older([live.part for live in segments], inserted, dead)
        _mark_older([live.part for live in (*segments, *blocks)], deleted, dead)
        if new:
            inserted = {pk: position[2] for pk, position in memtable._pk_index.items()}
            deleted = {pk: seq for pk, (seq, _partition) in memtable._delete_index.items()}
            _mark_older(new, inserted, dead)
            _mark_older(new, deleted, dead)
    if new:
        compared = [p.part for p in segments if p.part not in new]
        first_new = len(compared)
        compared += new
        for one, other in keys.pairs([part.keys for part in compared], first_new):
            _mark_older_of_two(compared[one], compared[other], dead)
    if new or old is None or old.memtable is not memtable:
        _mark_older([live.part for live in segments], col._delta_index._map, dead)

    parts = tuple(p.without(dead.get(p.part, ()), len(p.part)) for p in (*segments, *blocks))
    view = View(parts, memtable, batches, col._next_seq, manifest_version)
    if old is not None:
        view.keep(old)
    return view


def _add_batches(
    col: Any, memtable: Any, blocks: list[LivePart], done: int, dead: _Dead
) -> set[Any]:
    """Adds the memtable's batches from ``done`` on to its blocks, and returns their keys."""
    fields = [f.name for f in col._schema.fields if f.dtype.name == "FLOAT_VECTOR"]
    new_pks: set[Any] = set()
    for number in range(done, len(memtable._insert_batches)):
        batch = memtable._insert_batches[number]
        part = blocks[-1].part if blocks else None
        first = 0 if part is None else len(part)
        if not isinstance(part, BlockPart) or not part.append(batch, col._pk_name):
            part, first = BlockPart(batch, col._pk_name, fields), 0
            blocks.append(LivePart(part, 0, None))
        pks = part.keys.at(np.arange(first, first + batch.num_rows))
        for row, pk in enumerate(pks, start=first):
            if memtable._pk_index.get(pk, ())[:2] != (number, row - first):
                dead[part].add(row)
        for earlier in blocks[:-1]:
            rows = earlier.part.keys.rows(pks)
            dead[earlier.part].update(rows[rows >= 0].tolist())
        new_pks.update(pks)
    return new_pks


def _mark_older(parts: Iterable[Part], newer: Mapping[Any, int], dead: _Dead) -> None:
    """Marks the rows whose key has a higher sequence number in ``newer``."""
    if not newer:
        return
    listed = list(newer)
    # Read once: each write is looked up in all segments
    asked = keys.ObjectIds.of(listed) or listed
    seqs = np.fromiter(newer.values(), dtype=np.uint64, count=len(newer))
    for part in parts:
        rows = part.keys.rows(asked if isinstance(part.keys, keys.ObjectIdKeys) else listed)
        found = np.flatnonzero(rows >= 0)
        if len(found):
            rows = rows[found]
            dead[part].update(rows[seqs[found] > part.seqs[rows]].tolist())


def _mark_older_of_two(one: Part, other: Part, dead: _Dead) -> None:
    mine, theirs = keys.shared(one.keys, other.keys)
    is_newer = one.seqs[mine] > other.seqs[theirs]
    dead[other].update(theirs[is_newer].tolist())
    dead[one].update(mine[~is_newer].tolist())
