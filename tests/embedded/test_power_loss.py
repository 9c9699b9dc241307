"""A power loss after an answer takes nothing of what was acknowledged.

The service's syncs are recorded, and its directory is rebuilt with nothing but what was synced:
after each acknowledged request, and in the middle of them. The test knows what must be there.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pymilvus import DataType, MilvusClient, MilvusException

from fiftyone_milvus import embedded
from fiftyone_milvus.embedded.database import Database
from fiftyone_milvus.embedded.self_test import choose_mode
from fiftyone_milvus.embedded.storage.fsync import fsync_directory
from tests.embedded import test_full_disk
from tests.embedded.child import connect
from tests.embedded.recorder import MODELS, Sync, rebuild, syncs
from tests.embedded.test_executor import Engine
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
DIM = 16
#: Of rows in memory; a flush comes on its own every few hundred rows.
MEMTABLE_BYTES = 40_000

Rows = dict[str, float]


@dataclass
class State:
    """What was acknowledged.

    Attributes:
        rows: by database and collection, the first number of the vector of each key
        indexes: the types of the collections' indexes
        notes: a property of the collections
        aliases: by database and alias, the collection
        databases: all but the default one
    """

    rows: dict[tuple[str, str], Rows] = field(default_factory=dict)
    indexes: dict[tuple[str, str], str] = field(default_factory=dict)
    notes: dict[tuple[str, str], str] = field(default_factory=dict)
    aliases: dict[tuple[str, str], str] = field(default_factory=dict)
    databases: set[str] = field(default_factory=set)


@dataclass
class Moment:
    """A state, from the acknowledgement on that came after so many syncs.

    Attributes:
        touched: what the request that follows it changes
    """

    syncs: int
    state: State
    touched: set[tuple[str, str]] = field(default_factory=set)


class Recorded:
    """A service that is recorded, and what it has acknowledged."""

    def __init__(self, root: Path, mode: str) -> None:
        self.root, self.data, journal = root, root / "data.db", root.with_suffix(".journal")
        record = ["-m", "tests.embedded.recorder", str(root), str(journal), mode]
        self._service = subprocess.Popen(
            [sys.executable, *record, "--path", str(self.data), "--announce"],
            cwd=ROOT,
            env={**os.environ, "MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES": str(MEMTABLE_BYTES)},
            stdout=subprocess.PIPE,
        )
        assert self._service.stdout is not None
        assert b"ready" in self._service.stdout.readline()
        self._journal, self._read = journal, 0
        self.done: list[Sync] = []
        self.client = connect(self.data)
        self.state = State()
        self.moments: list[Moment] = []
        self._note()

    def close(self) -> None:
        self.client.close()
        self._service.kill()
        self._service.communicate()

    def _note(self) -> None:
        self.look()
        self.moments.append(Moment(len(self.done), copy.deepcopy(self.state)))

    def look(self) -> None:
        """Sees what was synced meanwhile."""
        with open(self._journal, "rb") as stream:
            stream.seek(self._read)
            self.done.extend(syncs(stream))
            self._read = stream.tell()

    @contextlib.contextmanager
    def change(self, *touched: tuple[str, str]) -> Iterator[State]:
        """A request, whose effect its caller enters in the state."""
        self.moments[-1].touched = set(touched)
        yield self.state
        self._note()

    def create(self, name: str, db: str = "default") -> None:
        schema = MilvusClient.create_schema(auto_id=False)
        schema.add_field("pk", DataType.VARCHAR, max_length=64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
        with self.change((db, name)) as state:
            self.client.create_collection(name, schema=schema)
            state.rows[db, name], state.notes[db, name] = {}, ""
            state.indexes[db, name] = ""

    def write(
        self,
        keys: range,
        value: float,
        name: str = "rows",
        db: str = "default",
        how: str = "upsert",
    ) -> None:
        sent = [{"pk": str(key), "vector": [value] * DIM} for key in keys]
        with self.change((db, name)) as state:
            getattr(self.client, how)(name, sent)
            state.rows[db, name].update({str(key): value for key in keys})

    def delete(self, keys: range, name: str = "rows") -> None:
        with self.change(("default", name)) as state:
            self.client.delete(name, ids=[str(key) for key in keys])
            for key in keys:
                del state.rows["default", name][str(key)]

    def flush(self, name: str = "rows") -> None:
        with self.change():
            self.client.flush(name)

    def index(self, kind: str, name: str = "rows") -> None:
        index = MilvusClient.prepare_index_params()
        index.add_index("vector", index_type=kind, metric_type="L2")
        with self.change(("default", name)) as state:
            self.client.create_index(name, index)
            state.indexes["default", name] = kind


def everything(service: Recorded) -> None:
    """Each kind of request."""
    client, key = service.client, ("default", "rows")
    service.create("rows")
    service.index("FLAT")
    client.load_collection("rows")
    service.write(range(40), 1.0, how="insert")
    service.write(range(20, 60), 2.0)
    service.delete(range(10))
    service.flush()
    files = (service.data / "collections/rows/partitions/_default/data").glob
    for turn in range(4):
        service.write(range(10 * turn, 10 * turn + 100), 3.0 + turn)
        service.delete(range(10 * turn, 10 * turn + 5))
        service.flush()
    # Merged in the background
    wait_until(lambda: len(list(files("*.parquet"))) < 4)
    with service.change():
        client.query("rows", filter="", output_fields=["count(*)"])
    for turn in range(3):
        service.write(range(300 * turn, 300 * turn + 300), 10.0 + turn)
        service.write(range(1000 + turn, 1001 + turn), 20.0)
    with service.change(key) as state:
        client.alter_collection_properties("rows", {"note": "read"})
        state.notes[key] = "read"
    with service.change(key) as state:
        client.create_alias("rows", "alias")
        state.aliases["default", "alias"] = "rows"
    service.create("other")
    service.write(range(30), 5.0, "other")
    with service.change(("default", "other")) as state:
        client.alter_alias("other", "alias")
        state.aliases["default", "alias"] = "other"
    renamed = ("default", "renamed")
    with service.change(("default", "other"), renamed) as state:
        client.rename_collection("other", "renamed")
        for found in (state.rows, state.notes, state.indexes):
            found[renamed] = found.pop(("default", "other"))
        state.aliases["default", "alias"] = "renamed"
    service.write(range(20, 50), 6.0, "renamed")
    with service.change(renamed) as state:
        client.drop_alias("alias")
        state.aliases.clear()
    with service.change(renamed) as state:
        client.drop_collection("renamed")
        for found in (state.rows, state.notes, state.indexes):
            del found[renamed]
    with service.change() as state:
        client.create_database("more")
        state.databases.add("more")
    client.use_database("more")
    service.create("rows", "more")
    service.write(range(7), 8.0, db="more")
    with service.change(("more", "rows")) as state:
        client.drop_collection("rows")
        for found in (state.rows, state.notes, state.indexes):
            del found["more", "rows"]
    with service.change() as state:
        client.drop_database("more")
        state.databases.clear()
    client.use_database("default")
    with service.change():
        client.create_partition("rows", "part")
    with service.change(key) as state:
        sent = [{"pk": str(pk), "vector": [7.0] * DIM} for pk in range(2000, 2009)]
        client.insert("rows", sent, partition_name="part")
        state.rows[key].update({row["pk"]: 7.0 for row in sent})
    service.flush()
    with service.change(key) as state:
        client.drop_partition("rows", "part")
        for row in sent:
            del state.rows[key][row["pk"]]
    client.release_collection("rows")
    with service.change(key) as state:
        client.drop_index("rows", "vector")
        state.indexes[key] = ""


def read(path: Path) -> State:
    """What is found after a start."""
    choose_mode()
    found = State()
    with Database(str(path)) as database:
        found.databases = set(database.list_databases()) - {"default"}
        for db in database.list_databases():
            aliases = database.list_aliases(database_name=db)
            for alias in aliases:
                found.aliases[db, alias] = database.describe_alias(alias, db)["collection"]
            for name in database.list_collections(db):
                collection = database.get_collection(name, db)
                info = collection.get_index_info()
                found.indexes[db, name] = info["index_type"] if info else ""
                found.notes[db, name] = collection.schema.properties.get("note", "")
                collection.load()
                rows = collection.query('pk != ""', output_fields=["pk", "vector"])
                found.rows[db, name] = {row["pk"]: row["vector"][0] for row in rows}
                assert len(found.rows[db, name]) == len(rows)
    return found


def rebuilt(service: Recorded, done: list[Sync], model: str) -> State:
    folder = service.root.with_name("rebuilt")
    rebuild(done, service.root.stat().st_ino, folder, model)
    try:
        return read(folder / "data.db")
    finally:
        shutil.rmtree(folder)


def between(found: State, before: Moment, after: State) -> None:
    """In the middle of a request: it may be done or not, and nothing else is changed."""
    for kind in ("rows", "notes", "indexes"):
        was, found_, will = (getattr(state, kind) for state in (before.state, found, after))
        for key in was.keys() - before.touched:
            assert found_[key] == was[key]
        for key in before.touched & was.keys() & will.keys():
            if kind == "rows":
                assert all(
                    found_[key].get(pk) in (v, will[key].get(pk)) for pk, v in was[key].items()
                )
                assert found_[key].keys() <= was[key].keys() | will[key].keys()
            else:
                assert found_[key] in (was[key], will[key])
    for alias, target in before.state.aliases.items():
        assert found.aliases.get(alias) in (target, after.aliases.get(alias))


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Callable[..., Recorded]]:
    services: list[Recorded] = []

    def start(mode: str, name: str = "root") -> Recorded:
        (tmp_path / name).mkdir(exist_ok=True)
        services.append(Recorded(tmp_path / name, mode))
        return services[-1]

    yield start
    for service in services:
        service.close()


@pytest.mark.parametrize("mode", ["fast", "plain"])
def test_nothing_acknowledged_is_lost(
    record: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    service = record(mode)
    running = embedded.status(service.data)
    assert running is not None
    assert (running.mode, running.unprotected) == (mode, [])
    everything(service)
    # What is rebuilt is only read, hundreds of times
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for model in MODELS if mode == "fast" else MODELS[:1]:
        for moment in service.moments[1:]:
            assert rebuilt(service, service.done[: moment.syncs], model) == moment.state
        for before, after in list(zip(service.moments, service.moments[1:]))[1:]:
            # Some of the moments between, others in each run; they do not depend on the mode
            first = before.syncs + 1 + random.randrange(8)
            for number in range(first, after.syncs, 8) if mode == "fast" else ():
                between(rebuilt(service, service.done[:number], model), before, after.state)


@pytest.mark.parametrize("model", MODELS)
def test_plain_milvus_lite_loses_rows(record: Callable[..., Recorded], model: str) -> None:
    """So this test can fail."""
    service = record("unprotected")
    service.create("rows")
    service.write(range(40), 1.0)
    found = rebuilt(service, service.done, model)
    assert not any(found.rows.values())


def test_rows_of_a_killed_process(record: Callable[..., Recorded], tmp_path: Path) -> None:
    """What it wrote and did not sync is read by the next process, and so must stay."""
    (tmp_path / "root").mkdir()
    path = tmp_path / "root" / "data.db"
    first = record("fast", "first")
    first.create("rows")
    first.write(range(40), 1.0)
    shutil.copytree(first.data, path, ignore=shutil.ignore_patterns("service.*", "LOCK"))

    service = record("fast")
    service.client.load_collection("rows")
    assert len(service.client.query("rows", filter='pk != ""', output_fields=["pk"])) == 40
    service.look()
    for model in MODELS:
        assert rebuilt(service, service.done, model) == first.state


@pytest.mark.parametrize("where", ["wal_", "data_"])
def test_a_disk_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """What can't be synced is not acknowledged, and changes nothing."""
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        if where in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    engine = Engine(tmp_path / "data.db", fast=True, database=Database)
    try:
        rows = test_full_disk.Rows(engine.client)
        rows.upsert(0, 1.0, rows=20)
        write, flush = lambda: rows.upsert(0, 2.0, rows=1), lambda: engine.flush("rows")
        refused = write if where == "wal_" else flush
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", refuse)
            with pytest.raises((MilvusException, AssertionError), match="Input/output error"):
                refused()
            rows.check()
        rows.upsert(10, 3.0, rows=20)
        engine.flush("rows")
        rows.check()
    finally:
        engine.close()


def test_a_file_system_that_can_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    fsync_directory(tmp_path)
