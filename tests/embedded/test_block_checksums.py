"""Vectors that are verified when they are first read, instead of when a collection is opened."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pymilvus import MilvusClient, MilvusException

from fiftyone_milvus.embedded.database import Database
from fiftyone_milvus.embedded.self_test import choose_mode
from fiftyone_milvus.embedded.storage import block_checksums, verification
from fiftyone_milvus.embedded.storage.vector_pages import mapped_vectors

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
