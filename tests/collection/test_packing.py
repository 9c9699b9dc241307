"""What is packed is what was given, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_milvus.collection import packing


@pytest.mark.parametrize("dim", [1, 31, 32, 4095, 4096, 32_768])
def test_bit_exact(dim: int) -> None:
    bits = np.random.default_rng(0).integers(0, 2**23, size=(3, dim), dtype=np.uint32)
    vectors = (bits | np.uint32(0x3F800000)).view(np.float32)
    packed = packing.pack(vectors)
    assert len(packed) == 3
    for row, sequence in zip(vectors, packed, strict=True):
        assert len(sequence) == dim
        np.testing.assert_array_equal(np.array(sequence, dtype=np.float32), row)


def test_without_the_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pymilvus that moves them gets arrays, which it takes too."""
    monkeypatch.setattr(packing, "FloatArray", None)
    vectors = np.eye(4, dtype=np.float32)
    np.testing.assert_array_equal(np.stack(packing.pack(vectors)), vectors)
