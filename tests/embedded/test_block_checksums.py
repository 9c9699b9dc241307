"""Vectors that are verified when they are first read, instead of when a collection is opened."""

from __future__ import annotations

import mmap
import os
import shutil
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pymilvus import MilvusClient, MilvusException

from fiftyone_milvus.embedded.database import Database
from fiftyone_milvus.embedded.self_test import choose_mode
from fiftyone_milvus.embedded.storage import block_checksums, verification, verified_ahead
from fiftyone_milvus.embedded.storage.segments import MappedSegment
from fiftyone_milvus.embedded.storage.vector_pages import mapped_vectors
from tests.support.waiting import wait_until

from .test_executor import DIM, Engine, create

ROWS, BLOCK = 600, 512
KEYS = [f"{row:04d}" for row in range(ROWS)]


@pytest.fixture(autouse=True)
def _few_vectors_too(monkeypatch: Any) -> None:
    monkeypatch.setattr(block_checksums, "MIN_BYTES", 0)
    monkeypatch.setattr(block_checksums, "BLOCK_BYTES", BLOCK)


class _Damaged(Exception):
    pass


def _raise() -> None:
    raise _Damaged


def _verifier(content: np.ndarray, table: pa.Table) -> block_checksums.BlockChecksums:
    """What verifies vectors with what was recorded of a table."""
    recorded = block_checksums.added(table).schema.metadata
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(
        table.replace_schema_metadata(recorded),
        sink,
        use_dictionary=False,
        compression="NONE",
        data_page_size=1 << 30,
    )
    file = pa.parquet.ParquetFile(sink.getvalue())
    return block_checksums.of_file(file, {"vector": content}, _raise)["vector"]


@pytest.mark.parametrize("dimension", [2, 7, 64, 300])
@pytest.mark.parametrize("chunks", [1, 3])
def test_what_is_read_is_verified_and_no_more(dimension, chunks):
    content = np.random.default_rng(0).normal(size=(90, dimension)).astype("f4")
    pieces = [
        pa.FixedSizeListArray.from_arrays(pa.array(piece.ravel()), dimension)
        for piece in np.array_split(np.concatenate([content[:1], content]), chunks)
    ]
    # The rows of a slice do not start at the start of its memory
    table = pa.table({"vector": pa.chunked_array(pieces)}).slice(1)
    _verifier(content, table).verify_all()

    size = 4 * dimension
    for row in (0, 41, 89):
        changed = content.copy()
        changed.view(np.uint8)[row, size // 2] ^= 1
        at = row * size + size // 2
        blocks = np.arange(90)[:, None] * size + np.arange(size)
        touching = (blocks // BLOCK == at // BLOCK).any(axis=1)
        verifier = _verifier(changed, table)
        verifier.verify(np.flatnonzero(~touching))
        for rows in (np.array([row]), np.flatnonzero(touching)[-1:], slice(row, row + 1)):
            with pytest.raises(_Damaged):
                verifier.verify(rows)
        with pytest.raises(_Damaged):
            verifier.verify_all()


def test_runs_of_blocks_are_verified_at_once_and_each_damage_is_found(monkeypatch):
    """Whole runs, cut off ones at both ends, and a last block that is shorter."""
    monkeypatch.setattr(block_checksums, "_RUN", 4)
    content = np.random.default_rng(1).normal(size=(331, 24)).astype("f4")
    table = pa.table({"vector": pa.FixedSizeListArray.from_arrays(pa.array(content.ravel()), 24)})
    raw, size = content.tobytes(), 4 * 24
    intact = _verifier(content, table)
    runs = [zlib.crc32(raw[at : at + 4 * BLOCK]) for at in range(0, len(raw), 4 * BLOCK)]
    assert intact._runs.tolist() == runs[:-1]
    sizes = []

    def counting(data: Any) -> int:
        sizes.append(len(data))
        return zlib.crc32(data)

    with monkeypatch.context() as patch:
        patch.setattr(block_checksums, "crc32", counting)
        intact.verify_all()
    assert sizes.count(4 * BLOCK) == len(runs) - 1
    assert sum(sizes) == len(raw)

    for at in range(0, len(raw), 401):
        changed = content.copy()
        changed.view(np.uint8).reshape(-1)[at] ^= 16
        verifier = _verifier(changed, table)
        first, last = at // BLOCK * BLOCK // size, -(-(at // BLOCK + 1) * BLOCK // size)
        verifier.verify(slice(0, first))
        for start in {0, max(0, first - 30), first}:
            with pytest.raises(_Damaged):
                verifier.verify(slice(start, min(last, len(content))))
        with pytest.raises(_Damaged):
            verifier.verify_cached(lambda: True)


def test_what_is_not_cached_or_not_needed_any_more_is_not_read_ahead(tmp_path, monkeypatch):
    monkeypatch.setattr(block_checksums, "_RUN", 4)
    rows = mmap.PAGESIZE // 8
    content = np.random.default_rng(2).normal(size=(rows, 64)).astype("f4")
    table = pa.table({"vector": pa.FixedSizeListArray.from_arrays(pa.array(content.ravel()), 64)})
    file = tmp_path / "vectors"
    with file.open("wb") as stream:
        stream.truncate(content.nbytes)  # a hole, of which nothing is in memory
    with file.open("r+b") as stream:
        vectors = np.frombuffer(mmap.mmap(stream.fileno(), 0), "f4").reshape(rows, 64)
        verifier = _verifier(vectors, table)
        verifier.verify_cached(lambda: True)  # the zeros there would be damage
        half = content.nbytes // 2
        os.pwrite(stream.fileno(), content.tobytes()[:half], 0)
        verifier.verify_cached(lambda: False)
        assert verifier._left.all()
        verifier.verify_cached(lambda: True)
    assert np.flatnonzero(verifier._left).tolist() == [*range(half // BLOCK, 2 * half // BLOCK)]
    with pytest.raises(_Damaged):
        verifier.verify_all()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A data directory with one file of vectors, and these."""
    choose_mode()
    path = tmp_path_factory.mktemp("blocks") / "data.db"
    vectors = np.random.default_rng(5).normal(size=(ROWS, DIM)).astype("f4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_checksums, "MIN_BYTES", 0)
        patch.setattr(block_checksums, "BLOCK_BYTES", BLOCK)
        engine = Engine(path, fast=True, database=Database)
        create(engine.client, "rows", "COSINE", "AUTOINDEX", {})
        engine.client.insert(
            "rows",
            [
                {"pk": key, "vector": vector.tolist(), "sample_id": key, "number": row}
                for row, (key, vector) in enumerate(zip(KEYS, vectors, strict=True))
            ],
        )
        engine.flush("rows")
        engine.settle("rows")
        engine.close()
    return path, vectors


@pytest.fixture
def opened(
    written: tuple[Path, np.ndarray], tmp_path: Path
) -> Iterator[Callable[[int | None], MilvusClient]]:
    """Opens a copy of the data directory in which one bit is flipped."""
    data = Path(shutil.copytree(written[0], tmp_path / "data.db"))
    engines = []

    def damaged(at: int | None) -> MilvusClient:
        (file,) = data.glob("collections/rows/partitions/_default/data/*")
        content = bytearray(file.read_bytes())
        if at is not None:
            content[at] ^= 4
        file.write_bytes(content)
        engines.append(Engine(data, fast=True, database=Database))
        return engines[-1].client

    yield damaged
    for engine in engines:
        engine.close()


def _place(written: tuple[Path, np.ndarray], row: int) -> int:
    """Where a row's vector is in the file."""
    (file,) = written[0].glob("collections/rows/partitions/_default/data/*")
    content = file.read_bytes()
    found = mapped_vectors(memoryview(content))["vector"]
    assert np.array_equal(found, written[1])
    return content.index(written[1][row].tobytes())


def _search(client: MilvusClient, query: np.ndarray, expr: str = "") -> list[str]:
    (hits,) = client.search("rows", [query.tolist()], filter=expr, limit=5)
    return [hit["pk"] for hit in hits]


def _nearest(vectors: np.ndarray, query: np.ndarray, rows: list[int]) -> list[str]:
    scores = vectors[rows] @ query / np.linalg.norm(vectors[rows], axis=1)
    return [KEYS[rows[at]] for at in np.argsort(-scores)[:5]]


CALLS: dict[str, Callable[[MilvusClient, np.ndarray], Any]] = {
    "search": lambda client, query: _search(client, query),
    "several queries": lambda client, query: client.search("rows", [query.tolist()] * 9, limit=5),
    "wide filter": lambda client, query: _search(client, query, "number >= 0"),
    "grouped": lambda client, query: client.search(
        "rows", [query.tolist()], limit=5, group_by_field="sample_id"
    ),
    "vectors": lambda client, query: client.query("rows", "number >= 0", ["vector"]),
    "one vector": lambda client, query: client.get("rows", [KEYS[300]], ["vector"]),
}


@pytest.mark.parametrize("call", CALLS)
def test_damaged_vectors_are_never_used(written, opened, call):
    vectors = written[1]
    client = opened(_place(written, 300) + 17)
    client.load_collection("rows")
    query = vectors[20]
    # Opened, counted and filtered without the vectors; rows of other blocks are searched
    assert client.query("rows", "", ["count(*)"])[0]["count(*)"] == ROWS
    few = list(range(10, 40))
    some = ", ".join(f'"{KEYS[row]}"' for row in few)
    assert _search(client, query, f"pk in [{some}]") == _nearest(vectors, query, few)
    assert np.float32(client.get("rows", [KEYS[0]], ["vector"])[0]["vector"]).tolist() == (
        vectors[0].tolist()
    )
    for _ in range(2):
        with pytest.raises(MilvusException) as caught:
            CALLS[call](client, query)
        assert "collection 'rows' is damaged: 'partitions/_default/data/" in str(caught.value)
        assert f"affects {ROWS} rows" in str(caught.value)
        assert "doctor --repair" in str(caught.value)


@pytest.mark.parametrize("place", ["start", "after the vectors", "end"])
def test_all_else_is_verified_at_once(written, opened, place):
    after = _place(written, 0) + 4 * DIM * ROWS
    (file,) = written[0].glob("collections/rows/partitions/_default/data/*")
    at = {"start": 200, "after the vectors": after + 40, "end": file.stat().st_size - 30}
    client = opened(at[place])
    with pytest.raises(MilvusException, match="collection 'rows' is damaged"):
        client.query("rows", "", ["count(*)"])


def test_intact_vectors_are_all_found(written, opened):
    client = opened(None)
    client.load_collection("rows")
    for query in written[1][:3]:
        assert _search(client, query) == _nearest(written[1], query, list(range(ROWS)))


def test_the_doctor_and_plain_mode_read_all(written, opened, tmp_path):
    opened(_place(written, 300))
    folder = tmp_path / "data.db" / "collections" / "rows"
    assert not verification.verify(folder, vectors=False).damages
    (damage,) = verification.verify(folder).damages
    assert damage.what == "was changed"
    with pytest.raises(verification.DamagedError):
        verification.check(folder)


def test_vectors_are_verified_before_searches_need_them(written, opened, monkeypatch):
    monkeypatch.setattr(verified_ahead, "MIN_BYTES", 1)
    verifiers = []
    load = MappedSegment.load.__func__

    def loaded(*args, **kwargs):
        found = load(MappedSegment, *args, **kwargs)
        verifiers.extend(found.checksums.values())
        return found

    monkeypatch.setattr(MappedSegment, "load", loaded)
    client = opened(None)
    client.load_collection("rows")
    wait_until(lambda: verifiers and all(one._is_done for one in verifiers))
    assert _search(client, written[1][3]) == _nearest(written[1], written[1][3], [*range(ROWS)])


def test_damage_that_is_found_ahead_is_an_error_of_each_search(written, opened, monkeypatch):
    monkeypatch.setattr(verified_ahead, "MIN_BYTES", 1)
    client = opened(_place(written, 300))
    client.load_collection("rows")
    wait_until(lambda: all(thread.name != "verify-ahead" for thread in threading.enumerate()))
    for _ in range(2):
        with pytest.raises(MilvusException, match="collection 'rows' is damaged"):
            _search(client, written[1][20])


def test_checksums_are_those_of_zlib():
    """Files of earlier releases have these."""
    data = np.random.default_rng(3).bytes(70_000)
    for size in (0, 1, 7, 64, 4096, 5121, 70_000):
        part = memoryview(data)[:size]
        assert block_checksums.crc32(part) == zlib.crc32(part)
        assert block_checksums.crc32(part, 77) == zlib.crc32(part, 77)
