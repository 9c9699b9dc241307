"""What vectors take in memory and on disk, per index type: the evidence for ``docs/sizing.md``.

Memory is what a process that has just started, loaded a collection and searched it has more than
one that did so with a small one, as ``/proc`` says: ``anon`` can't be given back, ``file`` is
mapped and can. On a server, disk is what is in its object storage: rows, and index; its log comes
beside, and goes with time.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, Protocol

from benchmarks.cases.building import create
from benchmarks.report import Table, s
from benchmarks.vectors import Array
from benchmarks.world import World, finish_lite, wait_indexed
from fiftyone_milvus.schema.scale import MMAP

KINDS: dict[str, tuple[tuple[str, bool], ...]] = {
    "embedded": (
        ("AUTOINDEX", False), ("FLAT", False), ("IVF_RABITQ", False), ("IVF_SQ8", False),
        ("HNSW", False),
    ),
    "server": (("FLAT", False), ("IVF_SQ8", False), ("HNSW", False), ("HNSW", True)),
}  # fmt: skip
"""Index types, and whether they are mapped."""

_MB = 1e6
_SMALL = 2_000
_PARTS = ("anon", "file", "disk")
_SETTLE_SECONDS = 3.0


class Host(Protocol):
    """An engine of this case's own, to restart at will."""

    client: Any

    def restart(self) -> int:
        """Starts it again; returns its process ID."""
        ...

    def finish(self, name: str, rows: int) -> None:
        """Waits until the index of a collection is built and loaded."""
        ...

    def stored(self) -> int:
        """Returns the bytes of all collections on disk."""
        ...

    def stop(self) -> None:
        """Ends it."""
        ...


def run(world: World) -> list[Table]:
    rows, raw = [], []
    for engine in world.engines:
        host: Host = _Embedded(world.root) if engine.name == "embedded" else _Server(world.root)
        try:
            small = _measure(host, "FLAT", False, world.vectors[:_SMALL])
            rows.append(
                (engine.name, f"{_SMALL:,} rows, in all", s(small["seconds"]),
                 *(f"{small[n] / _MB:,.0f}" for n in _PARTS), "")
            )  # fmt: skip
            raw.append({"engine": engine.name, "index": "FLAT", "rows": _SMALL, **small})
            for kind, mapped in KINDS[engine.name]:
                found = _measure(host, kind, mapped, world.vectors)
                more = {n: (found[n] - small[n]) / (world.rows - _SMALL) for n in _PARTS}
                title = f"{kind}, mmap" if mapped else kind
                rows.append(
                    (engine.name, title, s(found["seconds"]),
                     *(f"{more[n] * 1e6 / _MB:,.0f}" for n in _PARTS),
                     f"{more['anon'] / (4 * world.dim):.2f}")
                )  # fmt: skip
                raw.append({"engine": engine.name, "index": title, "rows": world.rows, **found})
        finally:
            host.stop()
    columns = ("engine", "index", "upload and build s", "memory MB per million", "mapped MB",
               "disk MB per million", "memory / float32 vectors")  # fmt: skip
    return [Table("sizes", columns, rows, (), raw)]


def _measure(host: Host, kind: str, mapped: bool, vectors: Array) -> dict[str, float]:
    name = "sized"
    host.restart()
    client = host.client
    before = host.stored()
    start = time.perf_counter()
    create(client, name, vectors.shape[1], kind, {MMAP: "true"} if mapped else {})
    step = max(1, (1 << 20) // vectors.shape[1])
    for first in range(0, len(vectors), step):
        ids = [f"{i:024x}" for i in range(first, min(first + step, len(vectors)))]
        part = zip(ids, vectors[first : first + step], strict=True)
        client.insert(name, [{"pk": i, "vector": v, "sample_id": i} for i, v in part])
    client.flush(name)
    host.finish(name, len(vectors))
    seconds = time.perf_counter() - start
    disk = host.stored() - before

    pid = host.restart()
    client = host.client
    client.load_collection(name)
    host.finish(name, len(vectors))
    client.search(name, [vectors[0]], limit=10, output_fields=["pk"])
    time.sleep(_SETTLE_SECONDS)
    full = _memory(pid)
    client.drop_collection(name)
    return {"seconds": seconds, "disk": disk, **full}


def anonymous(pid: int) -> int:
    """The memory of a process, in bytes, without the files that it maps."""
    return _memory(pid)["anon"]


def _memory(pid: int) -> dict[str, int]:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.findall(r"Rss(Anon|File):\s+(\d+) kB", status)
    return {name.lower(): int(size) * 1024 for name, size in found}


def _bytes(*folders: Path) -> int:
    return sum(f.stat().st_size for folder in folders for f in folder.rglob("*") if f.is_file())


class _Embedded:
    def __init__(self, root: Path) -> None:
        self._path = root / "sized.db"

    def restart(self) -> int:
        from pymilvus import MilvusClient

        from fiftyone_milvus import embedded

        embedded.stop(self._path)
        endpoint = embedded.ensure(self._path)
        self.client = MilvusClient(endpoint.address, token=endpoint.token, dedicated=True)
        state = embedded.status(self._path)
        assert state is not None
        return int(state.pid)

    def finish(self, name: str, rows: int) -> None:
        finish_lite(self.client, name)

    def stored(self) -> int:
        return _bytes(self._path)

    def stop(self) -> None:
        from fiftyone_milvus import embedded

        embedded.stop(self._path)


class _Server:
    def __init__(self, root: Path) -> None:
        from tests.support.servers import MilvusServer

        self._server = MilvusServer.start("plain", root / "sized")
        self.client: Any = None

    def restart(self) -> int:
        self._server.restart()
        self.client = self._server.client()
        time.sleep(_SETTLE_SECONDS)
        return self._server.pid

    def finish(self, name: str, rows: int) -> None:
        wait_indexed(self.client, name, rows)
        end = time.monotonic() + 120
        while time.monotonic() < end:
            segments = self.client.list_loaded_segments(name)
            if sum(segment.num_rows for segment in segments) >= rows:
                return
            time.sleep(0.2)
        raise TimeoutError(f"{name} is not loaded")

    def stored(self) -> int:
        data = self._server.folder / "data"
        return _bytes(*(data / part for part in ("insert_log", "index_files", "stats_log")))

    def stop(self) -> None:
        self._server.stop()
