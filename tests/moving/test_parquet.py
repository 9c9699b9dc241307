"""An index goes to a Parquet file that others read, and comes back."""

from __future__ import annotations

import json
import os
import time
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.zoo as foz
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fiftyone_milvus import moving
from fiftyone_milvus.backend import MilvusSimilarityConfig
from fiftyone_milvus.collection.recent import Rows
from fiftyone_milvus.dataset import object_ids
from fiftyone_milvus.errors import EngineError, InvalidInputError, UnreachableError
from fiftyone_milvus.moving.parquet_export import _Writer
from fiftyone_milvus.moving.sources.base import parts, rows_of
from fiftyone_milvus.moving.sources.file import FileSource
from fiftyone_milvus.moving.sources.milvus import MilvusSource
from fiftyone_milvus.syncing.expected_rows import Expected
from tests.support.indexes import (
    DIM,
    KEY,
    holds,
    image_dataset,
    index_images,
    index_patches,
    interrupted,
    one_line,
    vectors,
)
from tests.support.waiting import PATIENCE

one_engine = pytest.mark.parametrize("engine", ["embedded"], indirect=True)

NOON = datetime(2026, 2, 3, 12, 30, 0, 250_000, tzinfo=timezone.utc)


@pytest.fixture
def rich(engine: Any, finished: Any) -> tuple[fo.Dataset, dict[str, np.ndarray]]:
    """50 samples with fields of every kind, some without a value."""
    dataset = finished(fo.Dataset())
    for name, kind in (
        ("name", fo.StringField),
        ("size", fo.IntField),
        ("score", fo.FloatField),
        ("good", fo.BooleanField),
        ("day", fo.DateField),
        ("moment", fo.DateTimeField),
    ):
        dataset.add_sample_field(name, kind)
    dataset.add_samples([fo.Sample(filepath=f"{i}.jpg", tags=["a", str(i)]) for i in range(50)])
    some = dataset.skip(10)
    dataset.set_values("name", [None] * 10 + [f"n{i} 'ü'" for i in range(40)])
    some.set_values("size", [2**40 + i for i in range(40)])
    some.set_values("score", [float("nan"), float("-inf"), *(0.5 * i for i in range(38))])
    some.set_values("good", [i % 2 == 0 for i in range(40)])
    some.set_values("day", [date(1969, 12, 31)] * 40)
    some.set_values("moment", [NOON] * 40)
    data = vectors(50)
    fob.compute_similarity(
        dataset,
        embeddings=data,
        brain_key=KEY,
        backend="milvus",
        metric="euclidean",
        fields=["name", "tags", "metadata.width"],
        **engine.kwargs,
    )
    return dataset, dict(zip(dataset.values("id"), data, strict=True))


FIELDS = ["name", "tags", "size", "score", "good", "day", "moment"]


@one_engine
def test_what_others_read(rich, tmp_path):
    dataset, truth = rich
    path = tmp_path / "out.parquet"
    done = moving.export_index(dataset, KEY, path, fields=FIELDS, batch_size=20)
    assert (done.vectors, done.dimension, done.fields) == (50, DIM, tuple(FIELDS))
    assert done.bytes == path.stat().st_size
    assert [p.name for p in tmp_path.iterdir()] == ["out.parquet"]

    table = pq.read_table(path)
    assert table.column_names == ["pk", "vector", "sample_id", *FIELDS]
    assert table.column("pk").to_pylist() == list(truth) == table.column("sample_id").to_pylist()
    expected = np.stack(list(truth.values()))
    np.testing.assert_array_equal(np.stack(table.column("vector").to_numpy()), expected)
    assert table.column("day").to_pylist() == [None] * 10 + [date(1969, 12, 31)] * 40
    assert table.column("moment").to_pylist() == [None] * 10 + [NOON] * 40
    assert table.column("tags").to_pylist()[7] == ["a", "7"]
    assert table.column("name").to_pylist()[9:11] == [None, "n0 'ü'"]
    scores = table.column("score").to_pylist()[10:13]
    assert np.isnan(scores[0])
    assert scores[1:] == [float("-inf"), 0.0]
    # In as little memory as one row group takes
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [20, 20, 10]
    assert metadata.row_group(0).column(1).compression == "ZSTD"
    info = json.loads(metadata.metadata[b"fiftyone_milvus"])
    assert (info["format"], info["count"], info["dimension"]) == (1, 50, DIM)
    assert (info["metric"], info["brain_key"], info["dataset"]) == ("euclidean", KEY, dataset.name)
    assert info["columns"]["size"] == "size"

    frame = pd.read_parquet(path)
    np.testing.assert_array_equal(np.stack(frame["vector"]), expected)
    assert frame["size"][10] == 2**40

    sql = f"select pk, size, len(vector), day from '{path}' where good order by pk"
    rows = duckdb.sql(sql).fetchall()
    assert len(rows) == 20
    assert rows[0][2:] == (DIM, date(1969, 12, 31))
    query = expected[5].tolist()
    near = f"""select pk from '{path}'
               order by array_distance(vector::FLOAT[{DIM}], {query}::FLOAT[{DIM}]) limit 3"""
    nearest = np.argsort(np.linalg.norm(expected - expected[5], axis=1))[:3]
    assert [row[0] for row in duckdb.sql(near).fetchall()] == [list(truth)[i] for i in nearest]


def test_there_and_back(rich, engine, tmp_path):
    dataset, truth = rich
    path = tmp_path / "out.parquet"
    done = moving.export_index(dataset, KEY, str(path))
    assert done.fields == ("name", "tags", "metadata.width")
    assert pq.read_schema(path).names[-1] == "metadata_width"

    with interrupted(after=2):
        moving.import_index(path, dataset, "copy", batch_size=10, **engine.kwargs)
    assert "copy" not in dataset.list_brain_runs()
    found = moving.import_index(path, dataset, "copy", batch_size=10, **engine.kwargs)
    assert (found.vectors, found.copied, found.unknown, found.missing) == (50, 30, 0, 0)
    holds(dataset, "copy", "euclidean", truth)
    index = dataset.load_brain_results("copy")
    assert index.fields == ("name", "tags", "metadata.width")
    assert index._synced_fields.fresh()
    assert dict(index._collection.layout.embedded) == dict(
        dataset.load_brain_results(KEY)._collection.layout.embedded
    )


@one_engine
def test_patches(engine, dropped, tmp_path):
    indexed = index_patches(engine, 16, "cosine")
    dropped.append(indexed)
    path = tmp_path / "patches.parquet"
    moving.export_index(indexed.dataset, KEY, path, fields=["ground_truth.label", "number"])
    table = pq.read_table(path)
    rows = dict(zip(table.column("pk").to_pylist(), table.column("sample_id").to_pylist()))
    assert rows == indexed.samples
    assert set(table.column("ground_truth_label").to_pylist()) == {"a", "b"}
    moving.import_index(path, indexed.dataset, "copy", **engine.kwargs)
    holds(indexed.dataset, "copy", "cosine", indexed.vectors)
    indexed.dataset.load_brain_results("copy").cleanup()


@one_engine
def test_any_backend_is_exported(engine, finished, tmp_path):
    dataset = finished(image_dataset(9))
    data = vectors(9)
    fob.compute_similarity(dataset, embeddings=data, brain_key=KEY, backend="sklearn")
    moving.export_index(dataset, KEY, tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    np.testing.assert_array_equal(np.stack(table.column("vector").to_numpy()), data)


@one_engine
def test_a_file_of_another_dataset_state(engine, dropped, finished, tmp_path, caplog):
    indexed = index_images(engine, 30, "cosine")
    dropped.append(indexed)
    dataset, path = indexed.dataset, tmp_path / "old.parquet"
    moving.export_index(dataset, KEY, path)
    dataset.delete_samples(indexed.ids[:10])
    dataset.add_samples([fo.Sample(filepath=f"new-{i}.jpg") for i in range(3)])

    with pytest.raises(InvalidInputError, match=r"10 rows of no sample.*skip_unknown") as error:
        moving.import_index(path, dataset, "copy", skip_unknown=False, **engine.kwargs)
    one_line(error.value)
    found = moving.import_index(path, dataset, "copy", **engine.kwargs)
    assert (found.vectors, found.unknown, found.missing) == (20, 10, 3)
    holds(dataset, "copy", "cosine", {i: indexed.vectors[i] for i in indexed.ids[10:]})
    dataset.load_brain_results("copy").cleanup()

    with pytest.raises(InvalidInputError, match="another dataset") as error:
        moving.import_index(path, finished(image_dataset(4)), "copy", **engine.kwargs)
    one_line(error.value)


@one_engine
def test_files_of_others(engine, finished, tmp_path):
    dataset = finished(image_dataset(6))
    data, ids = vectors(6), dataset.values("id")
    path = tmp_path / "own.parquet"

    def write(**columns: Any) -> None:
        found = {"pk": ids, "vector": pa.array(data.astype(np.float64).tolist()), **columns}
        pq.write_table(pa.table({n: v for n, v in found.items() if v is not None}), path)

    def refused(match: str, **kwargs: Any) -> None:
        with pytest.raises(InvalidInputError, match=match) as error:
            moving.import_index(path, dataset, "own", **{**engine.kwargs, **kwargs})
        one_line(error.value)
        assert dataset.list_brain_runs() == []

    path.write_text("no parquet")
    refused("Parquet")
    write(vector=None)
    refused("no column 'vector'", metric="cosine")
    write(vector=["x"] * 6)
    refused("'vector'.*string; expected lists of floats", metric="cosine")
    write(pk=list(range(6)))
    refused("'pk'.*int64; expected strings", metric="cosine")
    write(pk=[*ids[:5], ids[0]])
    refused("1 rows that repeat a 'pk'", metric="cosine")
    write(pk=[*ids[:5], None])
    refused("without a 'pk'", metric="cosine")
    write(vector=pa.array([*data[:5].tolist(), [1.0]]))
    refused("1 and of 16 dimensions", metric="cosine")
    write(vector=pa.array([*data[:5].tolist(), None]))
    refused("without a vector", metric="cosine")
    write()
    refused("pass metric=")
    refused("patches in 'boxes'", metric="cosine", patches_field="boxes")
    path = tmp_path / "nope.parquet"
    refused("No such file", metric="cosine")

    path = tmp_path / "fixed.parquet"
    flat = pa.FixedSizeListArray.from_arrays(pa.array(data.reshape(-1)), DIM)
    pq.write_table(pa.table({"vector": flat, "pk": pa.array(ids, pa.large_string())}), path)
    assert moving.import_index(path, dataset, "own", metric="cosine", **engine.kwargs).vectors == 6
    holds(dataset, "own", "cosine", dict(zip(ids, data, strict=True)))
    with pytest.raises(InvalidInputError, match="already"):
        moving.import_index(path, dataset, "own", metric="cosine", **engine.kwargs)
    old = dataset.load_brain_results("own")
    moving.import_index(path, dataset, "own", overwrite=True, metric="euclidean", **engine.kwargs)
    holds(dataset, "own", "euclidean", dict(zip(ids, data, strict=True)))
    old.cleanup()


def rewrite(path: Path, **changes: Any) -> None:
    """Changes what a file says of itself."""
    table = pq.read_table(path)
    info = json.loads(table.schema.metadata[b"fiftyone_milvus"])
    info["made_with"].update(changes.pop("made_with", {}))
    info.update(changes)
    text = json.dumps(info).encode()
    pq.write_table(table.replace_schema_metadata({b"fiftyone_milvus": text}), path)


@one_engine
def test_a_file_does_not_say_where_to(engine, dropped, tmp_path, monkeypatch):
    indexed = index_images(engine, 5, "euclidean", fields=["number"])
    dropped.append(indexed)
    dataset, path = indexed.dataset, tmp_path / "out.parquet"
    moving.export_index(dataset, KEY, path)
    hostile = {
        "uri": "http://127.0.0.1:1",
        "token": "root:Milvus",
        "db_name": "theirs",
        "deployment": "server",
        "collection_name": "theirs",
    }
    rewrite(path, made_with={**hostile, "of_a_later_version": 3}, later=True)
    backends = fob.brain_config.similarity_backends
    monkeypatch.setitem(backends, "milvus", {**backends["milvus"], **engine.kwargs})
    done = moving.import_index(path, dataset, "copy", metric=None, fields=None)
    index = dataset.load_brain_results("copy")
    assert (index.config.metric, index.fields) == ("euclidean", ("number",))
    assert done.collection != "theirs"
    assert index.config.deployment == engine.name
    assert done.address == indexed.index.connection.target.address
    assert (index.config.token, index.config.db_name) == (None, None)
    holds(dataset, "copy", "euclidean", indexed.vectors)
    index.cleanup()

    text = path.read_bytes()
    for bad in (
        {"made_with": {"patches_field": 5}},
        {"made_with": {"model_kwargs": "x"}},
        {"dimension": "many"},
        {"dimension": True},
        {"index_fields": "number"},
        {"metric": ["cosine"]},
    ):
        path.write_bytes(text)
        rewrite(path, **bad)
        with pytest.raises(InvalidInputError, match="can't be read") as error:
            moving.import_index(path, dataset, "bad")
        one_line(error.value)


@one_engine
def test_a_file_makes_the_zoo_run_no_code(engine, dropped, tmp_path):
    indexed = index_images(engine, 5, "euclidean")
    dropped.append(indexed)
    dataset, path = indexed.dataset, tmp_path / "out.parquet"
    moving.export_index(dataset, KEY, path)
    text = path.read_bytes()
    arguments = {"entrypoint_fcn": "os.system", "entrypoint_args": {"command": "true"}}
    known = foz.list_zoo_models()[0]
    for made_with, said in (
        ({"model": "https://github.com/theirs/model"}, "does not know"),
        ({"model": "theirs/model"}, "does not know"),
        ({"model": f"{known}@https://theirs"}, "does not know"),
        ({"model": known, "model_kwargs": arguments}, "model_kwargs"),
        ({"model_kwargs": arguments}, "model_kwargs"),
    ):
        path.write_bytes(text)
        rewrite(path, made_with=made_with)
        with pytest.raises(InvalidInputError, match=f"{said}.*trust_model=True") as error:
            moving.import_index(path, dataset, "copy")
        one_line(error.value)
        assert "copy" not in dataset.list_brain_runs()
        # Another model comes without the arguments of the file's
        moving.import_index(path, dataset, "copy", model=known, overwrite=True)
        config = dataset.get_brain_info("copy").config
        assert (config.model, config.model_kwargs) == (known, None)
        dataset.load_brain_results("copy").cleanup()
        dataset.delete_brain_run("copy")

        moving.import_index(path, dataset, "copy", trust_model=True)
        config = dataset.get_brain_info("copy").config
        assert config.model == made_with.get("model")
        assert config.model_kwargs == made_with.get("model_kwargs")
        dataset.load_brain_results("copy").cleanup()
        dataset.delete_brain_run("copy")
    with pytest.raises(InvalidInputError, match="Invalid trust_model 'no'"):
        moving.import_index(path, dataset, "copy", trust_model="no")

    path.write_bytes(text)
    rewrite(path, made_with={"model": known})
    moving.import_index(path, dataset, "copy")
    assert dataset.get_brain_info("copy").config.model == known
    dataset.load_brain_results("copy").cleanup()


@one_engine
def test_only_regular_files_are_replaced(engine, dropped, tmp_path):
    indexed = index_images(engine, 5, "euclidean")
    dropped.append(indexed)
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / "link").symlink_to(mine)
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "fifo")
    paths = [tmp_path / name for name in ("link", "dangling", "fifo")]
    for path in [*paths, Path("/dev/null")]:
        before = path.lstat()
        with pytest.raises(InvalidInputError, match="of a regular file") as error:
            moving.export_index(indexed.dataset, KEY, path)
        one_line(error.value)
        assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert mine.read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 4
    with pytest.raises(InvalidInputError, match="no regular file"):
        moving.import_index(tmp_path / "fifo", indexed.dataset, "copy")


@one_engine
def test_what_is_wrong_deep_in_a_file_is_found_first(engine, finished, tmp_path):
    dataset = finished(image_dataset(30))
    data, ids = vectors(30).tolist(), dataset.values("id")
    path = tmp_path / "deep.parquet"
    client = MilvusSimilarityConfig(**engine.kwargs).connect().client
    before = set(client.list_collections())

    def write(found: list[Any]) -> None:
        table = pa.table({"pk": ids, "vector": pa.array(found, pa.list_(pa.float32()))})
        pq.write_table(table, path, row_group_size=10)

    def refused(match: str) -> None:
        with pytest.raises(InvalidInputError, match=match) as error:
            moving.import_index(
                path, dataset, "deep", metric="cosine", batch_size=5, **engine.kwargs
            )
        one_line(error.value)
        assert set(client.list_collections()) == before

    write([*data[:29], None])
    refused("without a vector")
    write([*data[:25], *([[1.0, 2.0]] * 5)])
    refused("of 2 and of 16 dimensions")
    write(data)
    text = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(2).column(1)
    start = column.dictionary_page_offset or column.data_page_offset
    text[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(text)
    refused("is damaged")
    write(data)
    path.write_bytes(path.read_bytes()[:-40])
    refused("as a Parquet file")


def test_memory_does_not_grow_with_the_file(tmp_path):
    count, dim, path = 40_000, 512, tmp_path / "large.parquet"
    keys = object_ids.from_strings([f"{i:024x}" for i in range(1, count + 1)])[0]
    data = np.random.default_rng(0).normal(size=(4_096, dim)).astype(np.float32)
    start = most = pa.total_allocated_bytes()
    expected = Expected(keys, keys)
    with _Writer(path, path, None, None, ()) as writer:
        for ids, _ in parts(expected, rows_of(dim)):
            writer.write(Rows(ids, ids, data[: len(ids)]))
            most = max(most, pa.total_allocated_bytes())
    assert most - start < 40e6
    most, rows = start, 0
    with FileSource(path) as source:
        assert source.holds(expected).present.all()
        for batch in source.rows(expected):
            most, rows = max(most, pa.total_allocated_bytes()), rows + len(batch.ids)
    # The file has 82 MB
    assert (rows, most - start < 40e6) == (count, True)


@one_engine
def test_a_file_is_whole_or_not_there(engine, dropped, tmp_path, monkeypatch):
    indexed = index_images(engine, 30, "cosine")
    dropped.append(indexed)
    path = tmp_path / "out.parquet"
    path.write_text("old")
    write = pq.ParquetWriter.write_table

    def interrupt(self: Any, *args: Any) -> None:
        write(self, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(pq.ParquetWriter, "write_table", interrupt)
    with pytest.raises(KeyboardInterrupt):
        moving.export_index(indexed.dataset, KEY, path)

    def remove(self: Any, *args: Any) -> None:
        write(self, *args)
        indexed.index.remove_from_index(indexed.ids[20:])

    monkeypatch.setattr(pq.ParquetWriter, "write_table", remove)
    with pytest.raises(EngineError, match="try again") as error:
        moving.export_index(indexed.dataset, KEY, path, batch_size=5)
    monkeypatch.undo()
    one_line(error.value)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1

    # A lost connection is an OSError too, and no reason for another path
    def lose(*_: Any) -> None:
        raise UnreachableError("nothing answers")

    with monkeypatch.context() as context:
        context.setattr(MilvusSource, "rows", lose)
        with pytest.raises(UnreachableError):
            moving.export_index(indexed.dataset, KEY, path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(pq.ParquetWriter, "write_table", full)
        with pytest.raises(InvalidInputError, match=r"out.parquet' \(No space left") as error:
            moving.export_index(indexed.dataset, KEY, path)
    one_line(error.value)
    assert path.read_text() == "old"

    for bad, match in ((tmp_path, "is a directory"), (tmp_path / "no" / "x", "does not exist")):
        with pytest.raises(InvalidInputError, match=match) as error:
            moving.export_index(indexed.dataset, KEY, bad)
        one_line(error.value)
    with pytest.raises(InvalidInputError, match="no sample field 'nope'"):
        moving.export_index(indexed.dataset, KEY, path, fields=["nope"])


@pytest.mark.parametrize("engine", ["server"], indirect=True)
def test_milvus_imports_it_itself(engine, rich, milvus_server, tmp_path):
    """The bulk import of a real server, which reads files below its own data.

    In the default database: 2.3.5 looks for the collection of an import nowhere else.
    """
    from pymilvus import utility

    dataset, truth = rich
    where = {"uri": milvus_server.uri}
    folder: Path = milvus_server.folder
    path = folder / "exported.parquet"
    moving.export_index(dataset, KEY, path, fields=[], batch_size=20)
    # Our own way of making a collection, but for the rows
    empty = fob.compute_similarity(
        image_dataset(1), embeddings=False, backend="milvus", metric="euclidean", **where
    )
    assert empty._create(DIM, empty._metadata_fields())
    name = empty.config.collection_name
    assert empty.connection.register_orm()
    task = utility.do_bulk_insert(name, [str(path)])
    end = time.monotonic() + PATIENCE
    while (state := utility.get_bulk_insert_state(task)).state_name != "Completed":
        assert "Failed" not in state.state_name, state
        assert time.monotonic() < end, state
        time.sleep(0.2)
    while empty.total_index_size < 50:
        assert time.monotonic() < end
        time.sleep(0.2)
    found, ids, _ = empty.get_embeddings()
    assert sorted(ids) == sorted(truth)
    for _id, vector in zip(ids, found):
        np.testing.assert_array_equal(vector, truth[_id])
    empty.samples.delete()
    empty.cleanup()
