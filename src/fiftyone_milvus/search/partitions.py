"""Searches that Milvus limits to partitions: which those are, and whether they hold nothing else.

Where a collection has a partition key, Milvus hashes its values into partitions, and a filter that
fixes the key is searched in the partitions of its values only. Where these hold (nearly) no other
rows, the filter leaves out (nearly) none, and a search there is as good as one without a filter:
the reason why filtered searches of an approximate index are not
(:mod:`fiftyone_milvus.search.exactness`) does not apply.

Milvus does not tell in which partition a value is. Its hash decides where rows *are*, so it is the
same in every version since 2.2.9; if one had another, partitions would be found to hold other rows
and the search be made as without them.
"""

from __future__ import annotations

import json
import re
import zlib
from typing import Any

from fiftyone_milvus.collection import MilvusCollection
from fiftyone_milvus.search.exactness import UNSEALED

FILLED = 0.9
"""The share of a partition's rows, deleted ones too, from which on a filter is none."""

_MAX_VALUES = 16
_HASHED_BYTES = 100
_WORD = 0xFFFFFFFF


def alone(collection: MilvusCollection, expression: str) -> bool:
    """Whether an expression's rows are (nearly) all rows of the partitions that they are in.

    Args:
        collection: an existing collection
        expression: a filter expression

    Returns:
        False if the collection has no partition key, or the expression says anything else
    """
    key = collection.layout.partition_key
    if key is None or collection.connection.engine.lite:
        return False
    values = values_of(expression, key)
    if values is None or len(values) > _MAX_VALUES:
        return False
    names = collection.partitions()
    touched = {partition_of(value, len(names)) for value in values}
    sealed = collection.count(sealed_only=True)
    if collection.count() - sealed > UNSEALED:
        return False
    rows = sum(collection.partition_rows(names[i]) for i in touched)
    return collection.count(expression, sealed_only=True) >= FILLED * rows


def values_of(expression: str, field: str) -> list[Any] | None:
    """Returns the values that an expression allows a field to have.

    Returns:
        None if it is about anything else too
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
    """Returns the number of the partition that Milvus keeps a value in.

    As Milvus' ``HashKey2Partitions``: CRC-32 of strings, MurmurHash3 of integers.

    Args:
        value: of the partition key
        count: the number of partitions
    """
    if isinstance(value, str):
        return zlib.crc32(value.encode()[:_HASHED_BYTES]) % count
    return (_murmur3(value.to_bytes(8, "little", signed=True)) & 0x7FFFFFFF) % count


def _murmur3(data: bytes) -> int:
    """Returns the 32-bit MurmurHash3, with seed 0, of whole words of four bytes."""
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
