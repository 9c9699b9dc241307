"""How many samples to embed at a time."""

from __future__ import annotations

SECONDS = 10.0
"""How long one part should take.

A crash loses at most one part. FiftyOne's overhead for each call, and the start of a data loader's
workers, should be short compared with it.
"""

_FIRST = 64
_MOST = 4_096
_GROWTH = 4
_BYTES = 8 << 20


class BatchSize:
    """The number of samples in a part, from how long the earlier parts took.

    Args:
        batch_size: the model's batch size, which divides the size of a part; None if it has none
    """

    def __init__(self, batch_size: int | None = None) -> None:
        self._batch = batch_size or 1
        self._size = _FIRST
        self._most = _MOST

    @property
    def current(self) -> int:
        """The number of samples in the next part."""
        return max(1, self._size // self._batch) * self._batch

    def record(self, samples: int, seconds: float, vector_bytes: int) -> None:
        """Takes account of a part.

        Args:
            samples: the number of samples in it
            seconds: how long it took to embed them
            vector_bytes: the size of their embeddings
        """
        if not samples:
            return
        if vector_bytes:
            self._most = max(1, min(_MOST, _BYTES * samples // vector_bytes))
        ideal = int(SECONDS * samples / max(seconds, 1e-6))
        self._size = max(1, min(ideal, self._size * _GROWTH, self._most))
