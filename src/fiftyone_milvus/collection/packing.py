"""Packs vectors for a fast upload.

``MilvusClient`` copies a list or an array number by number, through Python floats. It copies a
protobuf list of floats as a whole, so uploads to the embedded engine take half the time
(``docs/performance.md``).
"""

from __future__ import annotations

from collections.abc import Sequence

from fiftyone_milvus.metrics import Array

try:
    from pymilvus.grpc_gen.schema_pb2 import FloatArray
except ImportError:  # a pymilvus that keeps its messages elsewhere
    FloatArray = None


def pack(vectors: Array) -> Sequence[Sequence[float]]:
    """Returns one sequence of floats per vector, bit by bit the same.

    Args:
        vectors: a ``num_vectors x num_dims`` float32 array

    Returns:
        a sequence of ``num_vectors`` sequences of ``num_dims`` floats
    """
    if FloatArray is None:
        return list(vectors)
    row_bytes = 4 * vectors.shape[1]
    # FloatArray has one field: number 1, packed floats, little-endian
    head = b"\x0a" + _varint(row_bytes)
    body = memoryview(vectors.astype("<f4", copy=False).tobytes())
    return [
        FloatArray.FromString(head + body[start : start + row_bytes]).data
        for start in range(0, len(body), row_bytes)
    ]


def _varint(number: int) -> bytes:
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
