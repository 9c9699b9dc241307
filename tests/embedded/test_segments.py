"""Vectors that stay in their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from milvus_lite.engine.compaction import CompactionManager
from milvus_lite.storage.segment import Segment

from fiftyone_milvus.embedded.storage import durability, flush
from fiftyone_milvus.embedded.storage.segments import MappedSegment


def table(rows: int, dimension: int, nulls: tuple[int, ...] = ()) -> pa.Table:
    rng = np.random.default_rng(rows + dimension)
    flat = pa.array(rng.standard_normal(rows * dimension, dtype=np.float32))
    vectors = pa.FixedSizeListArray.from_arrays(flat, dimension)
    if nulls:
        values = vectors.to_pylist()
        vectors = pa.array([None if i in nulls else v for i, v in enumerate(values)], vectors.type)
    return pa.table(
        {
            "_seq": pa.array(np.arange(rows, dtype=np.uint64) + 5),
            "pk": [f"{i:024x}" for i in range(rows)],
            "vector": vectors,
            "text": [None if i % 3 == 0 else "x" * (i % 5) for i in range(rows)],
        }
    )


def load(file: Path) -> Segment:
    return MappedSegment.load(str(file), "_default", "pk", "vector")


@pytest.mark.parametrize("rows", [1, 9, 3001])
@pytest.mark.parametrize("dimension", [2, 3, 8, 63, 100])
def test_vectors_are_used_where_they_are(tmp_path, rows, dimension):
    data = table(rows, dimension)
    name = flush._write_data_file(data, str(tmp_path), 5, 5 + rows)
    segment = load(tmp_path / name)
    assert isinstance(segment, MappedSegment)
    expected = np.stack(data.column("vector").to_numpy(zero_copy_only=False))
    assert np.array_equal(segment.vectors, expected)
    assert not segment.vectors.flags.owndata
    assert not segment.vectors.flags.writeable
    assert segment.table.equals(pq.read_table(tmp_path / name))
    assert segment.pks == data.column("pk").to_pylist()
    assert segment.seqs.tolist() == data.column("_seq").to_pylist()
    assert segment.find_row(f"{rows - 1:024x}") == rows - 1
    assert segment.find_row("none") is None
    # As Milvus Lite reads it
    plain = Segment.load(str(tmp_path / name), "_default", "pk", "vector")
    assert np.array_equal(plain.vectors, expected)
    assert plain.pk_to_row == segment.pk_to_row


@pytest.mark.parametrize(
    "how",
    [
        {"data_page_size": 1000, "write_batch_size": 8},
        {"compression": "SNAPPY"},
        {"use_dictionary": True},
        {"row_group_size": 100},
        {"data_page_version": "2.0", "use_dictionary": False, "compression": "NONE"},
        {"use_byte_stream_split": ["vector.list.element"], "use_dictionary": False},
    ],
    ids=str,
)
def test_other_files_are_read_as_milvus_lite_reads_them(tmp_path, how):
    data = table(300, 8)
    pq.write_table(data, tmp_path / "data_000005_000305.parquet", **how)
    segment = load(tmp_path / "data_000005_000305.parquet")
    assert type(segment) is Segment
    expected = np.stack(data.column("vector").to_numpy(zero_copy_only=False))
    assert np.array_equal(segment.vectors, expected)


def test_vectors_with_nulls(tmp_path):
    data = table(300, 8, nulls=(0, 17))
    name = flush._write_data_file(data, str(tmp_path), 5, 305)
    segment = load(tmp_path / name)
    assert type(segment) is Segment
    assert not segment.vector_null_mask[[0, 17]].any()


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        ([("a", 10, 9), ("b", 20, 9), ("c", 30, 9)], None),
        ([("a", 10, 9), ("b", 20, 9), ("c", 30, 9), ("d", 5, 9)], ["d", "a", "b", "c"]),
        # Never those that are large already, however many there are
        ([(str(i), 120 << 20, 62_000) for i in range(80)], None),
        ([(str(i), 30 << 20, 30_000) for i in range(80)], None),
        ([("large", 120 << 20, 62_000), *((str(i), 9, 9) for i in range(4))], list("0123")),
        ([("large", 120 << 20, 62_000), *((str(i), 9, 9) for i in range(3))], None),
    ],
)
def test_what_a_compaction_merges(monkeypatch, files, chosen):
    rows = {name: count for name, _, count in files}
    monkeypatch.setattr(durability, "_rows", lambda file: rows[Path(file).name])
    buckets: list[list[tuple[str, int]]] = [[], [], [], []]
    for name, size, _ in files:
        buckets[CompactionManager._bucket_index(size)].append((name, size))
    assert durability._Compaction._select_target(buckets, len(files), "folder") == chosen
