"""The primary keys of a segment, in 24 bytes a row where they are object IDs, as FiftyOne's are."""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Rows = npt.NDArray[np.int64]

_BYTES, _DIGITS = 12, 24
#: An element of a list as text, with what is between two: ``", "``.
_ENTRY = _DIGITS + 4
_BETWEEN = np.frombuffer(b'", "', dtype=np.uint8)
_ODD = np.uint64(0x9E3779B97F4A7C15)


class ObjectIds(Sequence[str]):
    """Object IDs that were asked for.

    Args:
        packed: a ``num_ids x 12`` uint8 array

    Attributes:
        range: see :func:`_range`
    """

    def __init__(self, packed: npt.NDArray[np.uint8]) -> None:
        self.packed = packed
        self.hashes = _hashes(packed)
        self.range = _range(packed)

    @classmethod
    def of(cls, keys: Sequence[Any]) -> ObjectIds | None:
        """Returns keys as object IDs; None unless all are."""
        if not all(type(key) is str and len(key) == _DIGITS for key in keys):
            return None
        text = "".join(keys)
        packed = _unhex(text.encode()) if text.isascii() else None
        return None if packed is None else cls(packed)

    @classmethod
    def of_list(cls, text: str) -> ObjectIds | None:
        """Reads ``["...", "..."]``, as the text has it; None for any other text."""
        if len(text) % _ENTRY or not (text.startswith('["') and text.endswith('"]')):
            return None
        if not text.isascii():
            return None
        entries = np.frombuffer(text.encode(), dtype=np.uint8)[2:]
        entries = np.append(entries, np.zeros(2, np.uint8)).reshape(-1, _ENTRY)
        if (entries[:-1, _DIGITS:] != _BETWEEN).any():
            return None
        packed = _unhex(np.ascontiguousarray(entries[:, :_DIGITS]))
        return None if packed is None else cls(packed)

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return ObjectIds(self.packed[number])
        return self.packed[number].tobytes().hex()

    def __iter__(self) -> Iterator[str]:
        text = self.packed.tobytes().hex()
        return (text[i : i + _DIGITS] for i in range(0, len(text), _DIGITS))


class Keys(Protocol):
    """The primary keys of rows, in row order."""

    def __len__(self) -> int: ...

    def rows(self, keys: Sequence[Any]) -> Rows:
        """The row of each given key, int64; -1 where there is none."""

    def at(self, rows: Rows) -> list[Any]:
        """The keys of some rows."""

    def tolist(self) -> list[Any]:
        """All keys."""

    @property
    def unique(self) -> bool:
        """Whether no key is repeated."""


class AnyKeys:
    """Keys of any type, with a dictionary of all.

    Args:
        keys: the keys, in row order; where one is repeated, its last row is found
    """

    def __init__(self, keys: list[Any]) -> None:
        self._keys = keys
        self._row = {key: row for row, key in enumerate(keys)}

    def __len__(self) -> int:
        return len(self._keys)

    def rows(self, keys: Sequence[Any]) -> Rows:
        """See :meth:`Keys.rows`."""
        return np.fromiter(map(self._row.get, keys, repeat(-1)), dtype=np.int64, count=len(keys))

    def at(self, rows: Rows) -> list[Any]:
        """See :meth:`Keys.at`."""
        return [self._keys[row] for row in rows.tolist()]

    def tolist(self) -> list[Any]:
        """See :meth:`Keys.tolist`."""
        return self._keys

    @property
    def unique(self) -> bool:
        """See :meth:`Keys.unique`."""
        return len(self._row) == len(self._keys)

    def extend(self, keys: Sequence[Any]) -> None:
        """Adds rows; readers that know fewer rows are not disturbed."""
        first = len(self._keys)
        self._row.update(zip(keys, range(first, first + len(keys))))
        self._keys = [*self._keys, *keys]


class ObjectIdKeys:
    """Object IDs, of which all are different.

    Args:
        packed: a ``num_rows x 12`` uint8 array
        hashes: an uint64 array of ``num_rows`` :func:`_hashes`, without repetitions

    Attributes:
        range: see :func:`_range`
    """

    unique = True

    def __init__(self, packed: npt.NDArray[np.uint8], hashes: npt.NDArray[np.uint64]) -> None:
        self.packed = packed
        self._order = np.argsort(hashes).astype(np.int32)
        self.hashes = hashes[self._order]
        self.range = _range(packed)

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> ObjectIdKeys | None:
        """Returns the keys of an Arrow column; None unless they are different object IDs."""
        packed = _packed(column)
        if packed is None:
            return None
        hashes = _hashes(packed)
        keys = cls(packed, hashes)
        return None if (keys.hashes[1:] == keys.hashes[:-1]).any() else keys

    def __len__(self) -> int:
        return len(self.packed)

    def rows(self, keys: Sequence[Any]) -> Rows:
        """See :meth:`Keys.rows`."""
        asked = keys if isinstance(keys, ObjectIds) else ObjectIds.of(keys)
        if asked is not None:
            if _are_apart(self.range, asked.range):
                return np.full(len(asked), -1, dtype=np.int64)
            return self.rows_of(asked.packed, asked.hashes)
        found = np.full(len(keys), -1, dtype=np.int64)
        for number, key in enumerate(keys):
            if type(key) is str and len(key) == _DIGITS and key.isascii():
                packed = _unhex(key.encode())
                if packed is not None:
                    found[number] = self.rows_of(packed, _hashes(packed))[0]
        return found

    def rows_of(self, packed: npt.NDArray[np.uint8], hashes: npt.NDArray[np.uint64]) -> Rows:
        """The row of each given object ID, int64; -1 where there is none."""
        if not len(self.hashes):
            return np.full(len(packed), -1, dtype=np.int64)
        # Searching in order hits the caches
        order = np.argsort(hashes)
        place = np.empty(len(hashes), dtype=np.int64)
        place[order] = np.searchsorted(self.hashes, hashes[order])
        place[place == len(self.hashes)] = 0
        rows = self._order[place].astype(np.int64)
        same = self.hashes[place] == hashes
        same[same] = (self.packed[rows[same]] == packed[same]).all(axis=1)
        return np.where(same, rows, -1)

    def at(self, rows: Rows) -> list[str]:
        """See :meth:`Keys.at`."""
        text = self.packed[rows].tobytes().hex()
        return [text[i : i + _DIGITS] for i in range(0, len(text), _DIGITS)]

    def tolist(self) -> list[str]:
        """See :meth:`Keys.tolist`."""
        return self.at(np.arange(len(self.packed)))


class Finder:
    """Finds object IDs in several segments at once.

    Args:
        keys: the keys of the segments
        starts: the row number of the first row of each
    """

    def __init__(self, keys: Sequence[ObjectIdKeys], starts: Sequence[int]) -> None:
        self._keys = keys
        self._starts = np.asarray(starts, dtype=np.int64)
        hashes = np.concatenate([_hashes(k.packed) for k in keys])
        rows = np.concatenate([np.arange(s, s + len(k)) for s, k in zip(starts, keys, strict=True)])
        order = np.argsort(hashes)
        self._hashes = hashes[order]
        self._rows = rows[order].astype(np.int32 if rows.max(initial=0) < 2**31 else np.int64)

    def mark(self, asked: ObjectIds, mask: npt.NDArray[np.bool_]) -> None:
        """Marks the rows of object IDs in a mask of the view; a repeated key has several rows."""
        order = np.argsort(asked.hashes)
        hashes, packed = asked.hashes[order], asked.packed[order]
        place = np.searchsorted(self._hashes, hashes)
        while len(place):
            inside = place < len(self._hashes)
            inside[inside] = self._hashes[place[inside]] == hashes[inside]
            place, hashes, packed = place[inside], hashes[inside], packed[inside]
            rows = self._rows[place].astype(np.int64)
            numbers = np.searchsorted(self._starts, rows, side="right") - 1
            for number in np.unique(numbers).tolist():
                here = np.flatnonzero(numbers == number)
                local = rows[here] - self._starts[number]
                same = (self._keys[number].packed[local] == packed[here]).all(axis=1)
                mask[rows[here[same]]] = True
            place = place + 1


def of_column(column: pa.ChunkedArray) -> Keys:
    """Returns the keys of a segment.

    Args:
        column: its primary keys
    """
    return ObjectIdKeys.of(column) or AnyKeys(column.to_pylist())


def shared(one: Keys, other: Keys) -> tuple[Rows, Rows]:
    """Returns the rows of the keys that two segments have in common: in one, and in the other."""
    if isinstance(one, ObjectIdKeys) and isinstance(other, ObjectIdKeys):
        asked = one.hashes
        place = np.searchsorted(other.hashes, asked)
        place[place == len(other.hashes)] = 0
        near = np.flatnonzero(other.hashes[place] == asked) if len(other) else place[:0]
        mine = one._order[near].astype(np.int64)
        theirs = other.rows_of(one.packed[mine], asked[near])
    else:
        mine = np.arange(len(one), dtype=np.int64)
        theirs = other.rows(one.tolist())
    return mine[theirs >= 0], theirs[theirs >= 0]


def pairs(keys: Sequence[Keys], first_new: int) -> Iterable[tuple[int, int]]:
    """Yields the numbers of segments that may have keys in common.

    Args:
        keys: the keys of all segments
        first_new: the segments from this one on are new; pairs of older ones are left out
    """
    new = range(first_new, len(keys))
    if len(new) > 2 and all(isinstance(k, ObjectIdKeys) for k in keys):
        # One sort of all, instead of a comparison of each pair
        hashes = np.concatenate([k.hashes for k in keys])  # type: ignore[attr-defined]
        owner = np.repeat(np.arange(len(keys), dtype=np.int32), [len(k) for k in keys])
        order = np.argsort(hashes, kind="stable")
        hashes, owner = hashes[order], owner[order]
        found: set[tuple[int, int]] = set()
        for apart in range(1, len(keys)):
            same = np.flatnonzero(hashes[apart:] == hashes[:-apart])
            if not len(same):
                break
            both = np.sort(np.stack([owner[same], owner[same + apart]], axis=1), axis=1)
            found.update(map(tuple, np.unique(both, axis=0).tolist()))
        yield from sorted(pair for pair in found if pair[1] >= first_new)
        return
    for later in new:
        for earlier in range(later):
            one, other = keys[earlier], keys[later]
            if (
                isinstance(one, ObjectIdKeys)
                and isinstance(other, ObjectIdKeys)
                and _are_apart(one.range, other.range)
            ):
                continue
            yield earlier, later


def _packed(column: pa.ChunkedArray) -> npt.NDArray[np.uint8] | None:
    if not pa.types.is_string(column.type) or column.null_count:
        return None
    parts = []
    for chunk in column.chunks:
        offsets = np.frombuffer(chunk.buffers()[1], dtype=np.int32)
        offsets = offsets[chunk.offset : chunk.offset + len(chunk) + 1]
        if len(chunk) and not (np.diff(offsets) == _DIGITS).all():
            return None
        if len(chunk):
            text = chunk.buffers()[2][int(offsets[0]) : int(offsets[-1])]
            packed = _unhex(text)
            if packed is None:
                return None
            parts.append(packed)
    return np.concatenate(parts) if parts else np.zeros((0, _BYTES), dtype=np.uint8)


def _unhex(text: Any) -> npt.NDArray[np.uint8] | None:
    """Object IDs from their lower-case digits; None if they are other text."""
    try:
        packed = binascii.unhexlify(text)
    except binascii.Error:
        return None
    if binascii.hexlify(packed) != bytes(text):
        return None
    return np.frombuffer(packed, dtype=np.uint8).reshape(-1, _BYTES)


def _range(packed: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """The first eight bytes of the lowest and the highest: object IDs begin with their time."""
    if not len(packed):
        return 1, 0
    first = np.ascontiguousarray(packed[:, :8]).view(">u8")
    return int(first.min()), int(first.max())


def _are_apart(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two ranges have nothing in common, as of what was made one after the other."""
    return one[1] < other[0] or other[1] < one[0]


def _hashes(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """A number for each object ID: of one process, they differ in time and counter only."""
    last = np.ascontiguousarray(packed[:, 4:]).view("<u8").reshape(-1)
    first = np.ascontiguousarray(packed[:, :4]).view("<u4").reshape(-1).astype(np.uint64)
    hashes: npt.NDArray[np.uint64] = (last ^ (first * _ODD)) * _ODD
    return hashes
