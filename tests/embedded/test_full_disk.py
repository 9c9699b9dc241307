"""A disk that is full costs no acknowledged row, and says what to do in one line."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient, MilvusException

from fiftyone_milvus import embedded
from fiftyone_milvus.embedded import disk_space
from fiftyone_milvus.embedded.database import Database
from fiftyone_milvus.embedded.self_test import choose_mode
from tests.embedded.child import connect
from tests.embedded.support import gone
from tests.embedded.test_executor import Engine
from tests.support.small_disk import SmallDisk, on_small_disk
from tests.support.waiting import wait_until

DIM = 256
ROWS = 500
ROW_BYTES = 4 * DIM

#: What another program leaves: from nothing to enough for all but the last bytes.
LEAVES = [0, 4 << 10, 100 << 10, 600 << 10, 1100 << 10]


class Rows:
    """A collection, and the keys that its engine has acknowledged."""

    def __init__(self, client: Any, name: str = "rows", index_type: str = "FLAT") -> None:
        self.client, self.name = client, name
        self.known: dict[str, float] = {}
        schema = MilvusClient.create_schema(auto_id=False)
        schema.add_field("pk", DataType.VARCHAR, max_length=64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
        index = MilvusClient.prepare_index_params()
        index.add_index("vector", index_type=index_type, metric_type="L2")
        client.create_collection(name, schema=schema, index_params=index)

    def upsert(self, first: int, value: float, rows: int = ROWS) -> None:
        keys = [str(key) for key in range(first, first + rows)]
        vector = np.full(DIM, value, dtype=np.float32)
        self.client.upsert(self.name, [{"pk": key, "vector": vector} for key in keys])
        self.known.update(dict.fromkeys(keys, value))

    def delete(self, first: int, rows: int) -> None:
        keys = [str(key) for key in range(first, first + rows)]
        self.client.delete(self.name, ids=keys)
        for key in keys:
            del self.known[key]

    def check(self, client: Any = None) -> None:
        """What was acknowledged is there, once, and nothing else."""
        client = client or self.client
        client.load_collection(self.name)
        found = client.query(self.name, filter='pk != ""', output_fields=["pk", "vector"])
        assert len(found) == len(self.known)
        assert {row["pk"]: row["vector"][0] for row in found} == self.known
        counted = client.query(self.name, filter="", output_fields=["count(*)"])
        assert counted[0]["count(*)"] == len(self.known)


@contextlib.contextmanager
def refused() -> Iterator[None]:
    with pytest.raises(MilvusException, match="No space left on device") as caught:
        yield
    assert "\n" not in caught.value.message


def crash(disk: SmallDisk, rows: Rows) -> None:
    """What the next process would find, were this one killed now."""
    copy = Path(tempfile.mkdtemp()) / "data.db"
    shutil.copytree(disk.folder / "data.db", copy)
    with opened(copy) as engine:
        rows.check(engine.client)
    shutil.rmtree(copy.parent)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Engine]:
    engine = Engine(path, fast=True, database=Database)
    yield engine
    engine.close()


# -- scenarios, in a process that sees a small disk ----------------------------------------------


def log_that_is_cut_off(disk: SmallDisk, engine: Engine) -> None:
    rows = Rows(engine.client)
    rows.upsert(0, 1.0)
    for turn, leave in enumerate(LEAVES):
        disk.fill(leave)
        with refused():
            rows.upsert(0, 100.0 + turn, rows=4 * ROWS)
        with refused():
            rows.upsert(0, 200.0 + turn, rows=4 * ROWS)
        rows.check()
        disk.make_room()
        # Behind the records that were cut off
        rows.upsert(ROWS * turn, 2.0 + turn)
        rows.delete(ROWS * turn, 3)
    rows.check()
    crash(disk, rows)
    engine.flush("rows")
    rows.check()
    crash(disk, rows)


def flush_that_fails(disk: SmallDisk, engine: Engine) -> None:
    rows = Rows(engine.client)
    rows.upsert(0, 1.0)
    engine.flush("rows")
    failures = 0
    for turn, leave in enumerate(LEAVES):
        rows.upsert(ROWS * turn, 2.0 + turn, rows=2 * ROWS)
        rows.delete(ROWS * turn, 3)
        disk.fill(leave)
        try:
            engine.flush("rows")
        except AssertionError as error:
            failures += "No space left on device" in str(error)
        rows.check()
        crash(disk, rows)
        disk.make_room()
        if turn % 2:
            rows.upsert(ROWS * turn, 20.0 + turn)
        # Deletes the logs, of the flush that failed too
        engine.flush("rows")
        rows.check()
        crash(disk, rows)
    # Plain Milvus Lite compresses the vectors, which are all the same number
    assert failures >= (3 if choose_mode().name == "fast" else 1)


def nothing_fits(disk: SmallDisk, engine: Engine) -> None:
    rows = Rows(engine.client)
    rows.upsert(0, 1.0)
    engine.client.alter_collection_properties("rows", {"note": "old"})
    disk.fill()
    with refused():
        Rows(engine.client, "more")
    with refused():
        engine.client.alter_collection_properties("rows", {"note": "new"})
    with refused():
        engine.client.delete("rows", ids=["1"])
    rows.check()
    assert engine.client.describe_collection("rows")["properties"]["note"] == "old"
    crash(disk, rows)
    # What is dropped makes room
    engine.client.drop_collection("rows")
    Rows(engine.client, "more").upsert(0, 1.0, rows=50)


def index_that_does_not_fit(disk: SmallDisk, engine: Engine) -> None:
    rows = Rows(engine.client, index_type="HNSW")
    rows.upsert(0, 1.0)
    engine.flush("rows")
    for leave in (0, 200 << 10):
        engine.client.release_collection("rows")
        disk.fill(leave)
        # Which builds the index
        rows.check()
        crash(disk, rows)
    indexes = "data.db/collections/rows/partitions/*/indexes/*"
    # Saved whole, where a log that was deleted meanwhile left room, or not at all
    assert not any("draft" in file.name for file in disk.folder.glob(indexes))

    # As a Milvus Lite that is killed leaves it
    disk.make_room()
    engine.client.release_collection("rows")
    rows.check()
    (saved,) = disk.folder.glob(indexes)
    os.truncate(saved, 1000)
    crash(disk, rows)


def plain_engine(disk: SmallDisk) -> None:
    for scenario in (
        log_that_is_cut_off,
        flush_that_fails,
        nothing_fits,
        index_that_does_not_fit,
    ):
        path = disk.folder / "data.db"
        with opened(path) as engine:
            scenario(disk, engine)
            disk.make_room()
        shutil.rmtree(path)


def service(disk: SmallDisk) -> None:
    path = disk.folder / "data.db"
    client = connect(path)
    rows = Rows(client)
    with refused():
        for turn in range(10_000):
            rows.upsert(ROWS * turn, 1.0 + turn)
    assert disk.free > disk_space.RESERVE_BYTES, "the reserve was not kept"
    rows.check()

    # Somebody else takes what is left, and the service has to start again
    rows.client.flush("rows")
    disk.fill()
    pid = embedded.status(path).pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: gone(pid))
    client = connect(path)
    rows.check(client)
    with refused():
        client.upsert("rows", [{"pk": "x", "vector": np.ones(DIM, dtype=np.float32)}])
    disk.make_room()
    rows.client = client
    rows.delete(0, 2 * ROWS)
    rows.upsert(0, 7.0, rows=10)
    rows.check()
    embedded.stop(path)


@pytest.mark.parametrize("scenario", [plain_engine, service])
def test_nothing_acknowledged_is_lost(
    tmp_path: Path, scenario: Callable[[SmallDisk], None]
) -> None:
    on_small_disk(scenario, tmp_path / "disk", megabytes=24)
