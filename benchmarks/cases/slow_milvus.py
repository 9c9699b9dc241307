"""sync() of a free model into a Milvus that takes less than the model makes.

A proxy in front of the server passes on so many bytes a second. What the model makes must wait for
it, so memory must not grow with the number of samples.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from benchmarks.cases.syncing import measure
from benchmarks.images import make_images
from benchmarks.report import Goal, Table, s
from benchmarks.world import World

SIZES = (10_000, 40_000)
LIMITS = (None, 8e6, 2e6)
"""Bytes a second; the first is none."""

BATCH_SIZE = 256
_PIECE = 16 << 10


def run(world: World) -> list[Table]:
    engine = next((e for e in world.engines if e.name == "server"), None)
    if engine is None:
        return []
    rows, goals, raw = [], [], []
    peaks: dict[float | None, list[float]] = {}
    for size in SIZES:
        folder = world.root / "images"
        dataset = make_images(size, folder)
        for limit in LIMITS:
            with _proxy(engine.uri, limit) as uri:
                task = {
                    "dataset": dataset.name, "folder": str(folder), "dim": world.dim,
                    "batch_size": BATCH_SIZE, "route": "sync", "key": f"slow_{int(limit or 0)}",
                    "kwargs": {**engine.kwargs(), "uri": uri, "index_type": "FLAT"},
                }  # fmt: skip
                found = measure(task)
            if found["rows"] != size:
                raise RuntimeError(f"{found['rows']} rows of {size}")
            peaks.setdefault(limit, []).append(found["peak"])
            passed = "all" if limit is None else f"{limit / 1e6:g} MB/s"
            speed = size / found["seconds"]
            cells = (s(found["seconds"]), f"{speed:,.0f}", f"{speed * 4 * world.dim / 1e6:.1f}")
            memory = (f"{found['vectors'] / 1e6:.0f}", f"{found['peak'] / 1e6:.0f}")
            rows.append((passed, f"{size:,}", *cells, *memory))
            raw.append({"limit": limit, **found})
        dataset.delete()
    for limit, (few, many) in peaks.items():
        if limit is not None:
            ratio = many / few
            text = f"peak memory at {limit / 1e6:g} MB/s, {SIZES[1]:,} / {SIZES[0]:,} samples"
            goals.append(Goal(text, "<= 1.25", ratio, ratio))
    columns = (
        "passed on", "samples", "s", "vectors a second", "of them MB a second",
        "the vectors MB", "peak memory over baseline MB",
    )  # fmt: skip
    return [Table("slow_milvus", columns, rows, goals, raw)]


@contextmanager
def _proxy(uri: str, limit: float | None) -> Iterator[str]:
    """Passes on what clients send, at most so many bytes a second in all."""
    target = urlsplit(uri)
    bucket = _Bucket(limit)
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while not ended.is_set():
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                server = socket.create_connection((target.hostname, target.port))
                # What the system keeps on the way is no back-pressure
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * _PIECE)
                pumps = (client, server, bucket.take), (server, client, lambda _size: None)
                for pump in pumps:
                    threading.Thread(target=_pump, args=pump, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()


class _Bucket:
    def __init__(self, limit: float | None) -> None:
        self._limit, self._free_at, self._lock = limit, time.monotonic(), threading.Lock()

    def take(self, size: int) -> None:
        if self._limit is None:
            return
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + size / self._limit
            wait = self._free_at - time.monotonic()
        time.sleep(max(0.0, wait))


def _pump(source: socket.socket, sink: socket.socket, take: Callable[[int], None]) -> None:
    with source, sink, suppress(OSError):
        while piece := source.recv(_PIECE):
            take(len(piece))
            sink.sendall(piece)
