"""CRC-32 as zlib computes it, as fast as the processor can.

Checksums of vectors, files and the log are all of it. zlib's own, in blocks of 4 kB, takes seven
times as long as zlib-ng's.
"""

from __future__ import annotations

try:
    from zlib_ng.zlib_ng import crc32
except ImportError:  # a system without a build of it
    from zlib import crc32

__all__ = ["crc32"]
