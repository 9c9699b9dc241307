"""How many samples to embed at a time."""

from __future__ import annotations

SECONDS = 10.0
"""What one part should take: what a crash may cost, and long against FiftyOne's overhead for each
call and for starting a data loader's workers."""

_FIRST = 64
_MOST = 4_096
_GROWTH = 4
_BYTES = 8 << 20


class Pace:
    """Sizes of parts, from how long the earlier ones took.

    Args:
        batch_size: the model's batch size; parts are whole batches. None if it has none
    """

    def __init__(self, batch_size: int | None = None) -> None:
        self._batch = batch_size or 1
        self._size = _FIRST
        self._most = _MOST

    @property
    def size(self) -> int:
        """The number of samples in the next part."""
        return max(1, self._size // self._batch) * self._batch

    def took(self, samples: int, seconds: float, vector_bytes: int) -> None:
        """Learns from a part.

        Args:
            samples: how many it had
            seconds: how long embedding them took
            vector_bytes: the bytes of their embeddings
        """
        if not samples:
            return
        if vector_bytes:
            self._most = max(1, min(_MOST, _BYTES * samples // vector_bytes))
        wanted = int(SECONDS * samples / max(seconds, 1e-6))
        self._size = max(1, min(wanted, self._size * _GROWTH, self._most))
