"""Finds out whether the rows of a condition have partitions of their own.

If a collection has a partition key, Milvus hashes the values of the key into partitions. A search
filtered by the key visits only the partitions of the given values. If these hold (nearly) no other
rows, the filter excludes (nearly) nothing, and the search has the recall of an unfiltered one,
unlike other filtered searches of an approximate index (:mod:`fiftyone_milvus.search.exactness`).

Milvus does not tell which partition holds a value, so its hash is computed here. The hash decides
where rows are stored, so it is the same in every version since 2.2.9. If it changed, the rows
counted in the computed partitions would not match, and the search would ignore partitions.
"""

from __future__ import annotations

import json
import re
import zlib
from typing import Any

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.search.exactness import is_settled

FILLED = 0.9
"""The share of a partition, deleted rows included, from which on it counts as filled."""

_MAX_VALUES = 16
_HASHED_BYTES = 100
_WORD = 0xFFFFFFFF


def hold_only(collection: MilvusCollection, expression: str) -> bool:
    """Whether the partitions of an expression's rows hold (nearly) no other rows.

    Args:
        collection: an existing collection
        expression: a filter expression

    Returns:
        whether they do; always False on the embedded engine, without a partition key, and for an
        expression about other fields too or with more than 16 values

    Raises:
        FiftyOneMilvusError: if Milvus can't be reached or refuses
    """
    key = collection.layout.partition_key
    if key is None or collection.connection.engine.lite:
        return False
    values = values_of(expression, key)
    if values is None or len(values) > _MAX_VALUES:
        return False
    names = collection.partitions()
    touched = {partition_of(value, len(names)) for value in values}
    if not is_settled(collection):
        return False
    rows = sum(collection.partition_rows(names[i]) for i in touched)
    return collection.count(expression, sealed_only=True) >= FILLED * rows


def values_of(expression: str, field: str) -> list[Any] | None:
    """Returns the values that an expression allows for a field.

    Args:
        expression: a filter expression
        field: the Milvus field

    Returns:
        a list of strings or integers; None if the expression is not ``field == value`` or
        ``field in [values]`` with such values
    """
    found = re.fullmatch(rf"{re.escape(field)} (==|in) (.+)", expression, re.DOTALL)
    if found is None:
        return None
    try:
        literal = json.loads(found[2])
    except ValueError:
        return None
    values = literal if found[1] == "in" else [literal]
    fits = isinstance(values, list) and all(type(v) in (str, int) for v in values)
    return values if fits else None


def partition_of(value: str | int, count: int) -> int:
    """Returns the index of the partition in which Milvus stores a value.

    This is Milvus' ``HashKey2Partitions``: CRC-32 of strings, MurmurHash3 of integers.

    Args:
        value: a value of the partition key
        count: the number of partitions

    Returns:
        an index from 0 to ``count - 1`` into :meth:`MilvusCollection.partitions()
        <fiftyone_milvus.collection.MilvusCollection.partitions>`
    """
    if isinstance(value, str):
        return zlib.crc32(value.encode()[:_HASHED_BYTES]) % count
    return (_murmur3(value.to_bytes(8, "little", signed=True)) & 0x7FFFFFFF) % count


def _murmur3(data: bytes) -> int:
    """Returns the 32-bit MurmurHash3 with seed 0; the length is a multiple of four bytes."""
    state = 0
    for start in range(0, len(data), 4):
        word = int.from_bytes(data[start : start + 4], "little")
        word = word * 0xCC9E2D51 & _WORD
        word = (word << 15 | word >> 17) & _WORD
        state ^= word * 0x1B873593 & _WORD
        state = (state << 13 | state >> 19) & _WORD
        state = (state * 5 + 0xE6546B64) & _WORD
    state ^= len(data)
    state = (state ^ state >> 16) * 0x85EBCA6B & _WORD
    state = (state ^ state >> 13) * 0xC2B2AE35 & _WORD
    return state ^ state >> 16
