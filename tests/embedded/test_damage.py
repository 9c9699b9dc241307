"""A damaged file is an error that names it, never another answer; what is intact comes back."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from milvus_lite.db import MilvusLite
from milvus_lite.engine import compaction
from milvus_lite.schema.types import CollectionSchema, DataType, FieldSchema

from fiftyone_milvus.embedded.database import Database
from fiftyone_milvus.embedded.self_test import choose_mode
from fiftyone_milvus.embedded.storage import checksums, durability, flush
from fiftyone_milvus.embedded.storage.verification import DamagedError

DIM = 8
ROWS = 300
NAMES = ("rows", "others")


def vector(key: int, version: int) -> Any:
    return np.random.default_rng([key, version]).normal(size=DIM).astype(np.float32)


def schema() -> Any:
    return CollectionSchema(
        fields=[
            FieldSchema(name="pk", dtype=DataType.VARCHAR, is_primary=True),
            FieldSchema(name="vector", dtype=DataType.FLOAT_VECTOR, dim=DIM),
            FieldSchema(name="number", dtype=DataType.INT64),
        ]
    )


class Truth(dict[str, int]):
    """The version of each key's vector."""

    def vectors(self) -> dict[str, Any]:
        return {key: vector(int(key), version) for key, version in self.items()}


def write(col: Any, truth: Truth, keys: range, version: int) -> None:
    col.insert([{"pk": str(k), "vector": vector(k, version).tolist(), "number": k} for k in keys])
    truth.update({str(key): version for key in keys})


def delete(col: Any, truth: Truth, keys: range) -> None:
    col.delete([str(key) for key in keys])
    for key in keys:
        del truth[str(key)]


def fill(col: Any, shift: int) -> Truth:
    """Three segments and a log, each with rows that replace older ones, and with deletes."""
    truth = Truth()
    write(col, truth, range(ROWS + shift), shift)
    col.flush()
    write(col, truth, range(100, 200), shift + 1)
    delete(col, truth, range(40, 60))
    col.flush()
    write(col, truth, range(ROWS, 2 * ROWS), shift)
    delete(col, truth, range(60, 80))
    col.flush()
    write(col, truth, range(150, 250), shift + 2)
    write(col, truth, range(2 * ROWS, 2 * ROWS + 50), shift)
    delete(col, truth, range(80, 90))
    delete(col, truth, range(300, 310))
    return truth


def create(database: Any, name: str) -> Any:
    col = database.create_collection(name, schema())
    create_index(col)
    return col


def create_index(col: Any) -> None:
    col.create_index("vector", {"index_type": "HNSW", "metric_type": "L2", "params": {}})
    col.load()


@pytest.fixture(scope="module", params=["fast"])
def prepared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, Truth]]]:
    """A data directory as a process that was killed leaves it, and what is in it."""
    choose_mode()
    if request.param == "plain":
        flush.restore_files()
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch, Database(str(folder / "live.db")) as database:
        patch.setattr(compaction, "COMPACTION_MIN_FILES_PER_BUCKET", 99)
        truths = {}
        for shift, name in enumerate(NAMES):
            col = create(database, name)
            truths[name] = fill(col, 10 * shift)
            col._wait_for_bg()
        database.create_alias("rows", "alias")
        database.alter_database_properties("default", {"timezone": "Asia/Tokyo"})
        shutil.copytree(folder / "live.db", folder / "data.db")
    yield folder / "data.db", truths
    if request.param == "plain":
        flush.speed_up_files()


@pytest.fixture
def _no_compaction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merged files replace what a test counts."""
    monkeypatch.setattr(compaction, "COMPACTION_MIN_FILES_PER_BUCKET", 99)


@pytest.fixture
def data(prepared: tuple[Path, dict[str, Truth]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared[0], tmp_path / "data.db"))


@pytest.fixture
def truth(prepared: tuple[Path, dict[str, Truth]]) -> Truth:
    return Truth(prepared[1]["rows"])


def check(col: Any, truth: dict[str, int], shift: int = 0) -> None:
    """The collection answers as numpy does with these rows, and with no others."""
    col.load()
    expected = Truth(truth).vectors()
    found = {row["pk"]: row["vector"] for row in col.query('pk != ""', output_fields=["vector"])}
    assert found.keys() == expected.keys()
    assert col.num_entities == len(expected)
    for key, row in found.items():
        np.testing.assert_array_equal(np.float32(row), expected[key])
    keys, matrix = [*expected], np.stack([*expected.values()])
    for query in (vector(1, shift), vector(170, shift + 2), vector(310, 7)):
        distances = ((matrix - query) ** 2).sum(axis=1)
        nearest = [keys[at] for at in np.argsort(distances, kind="stable")[:10]]
        (hits,) = col.search([query.tolist()], top_k=10, metric_type="L2")
        assert [hit["id"] for hit in hits] == nearest


# -- damages ----------------------------------------------------------------------------------


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def cut_the_end(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 9)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def zero(file: Path) -> None:
    file.write_bytes(b"\0" * file.stat().st_size)


def zero_a_part(file: Path) -> None:
    content = bytearray(file.read_bytes())
    half = len(content) // 2
    content[half : half + 64] = b"\0" * len(content[half : half + 64])
    file.write_bytes(content)


def flip(file: Path, at: float = 0.5) -> None:
    """One bit, and the time of the file stays, as on a disk that fails."""
    times = file.stat()
    content = bytearray(file.read_bytes())
    content[int(at * (len(content) - 1))] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def flip_early(file: Path) -> None:
    flip(file, 0.03)


def flip_late(file: Path) -> None:
    flip(file, 0.95)


def remove(file: Path) -> None:
    file.unlink()


def swap(file: Path) -> None:
    """With the same kind of file: of this collection if there is one, else of the other."""
    alike = f"{file.name}.prev" if file.name == "manifest.json" else re.sub(r"\d+", "*", file.name)
    other = next((f for f in sorted(file.parent.glob(alike)) if f != file), None)
    if other is None:
        others = Path(*("others" if part == "rows" else part for part in file.parent.parts))
        other = sorted(others.glob(alike))[-1]
    content = file.read_bytes()
    file.write_bytes(other.read_bytes())
    other.write_bytes(content)


DAMAGES = [cut, cut_the_end, empty, zero, zero_a_part, flip_early, flip, flip_late, remove, swap]

KINDS = {
    "manifest": "manifest.json",
    "manifest before": "manifest.json.prev",
    "schema": "schema.json",
    "checksums": "checksums.json",
    "copy of the checksums": "wal/checksums.json",
    "first data": "partitions/_default/data/*",
    "newest data": "partitions/_default/data/*",
    "deletes": "partitions/_default/delta/*",
    "log": "wal/wal_data_*",
    "log of deletes": "wal/wal_delta_*",
    "checksums of the log": "wal/wal_sums_*",
    "index": "partitions/_default/indexes/*",
}
#: Of these, the engine needs nothing that it has not elsewhere.
HARMLESS = {
    "manifest before", "checksums", "copy of the checksums", "checksums of the log", "index",
}  # fmt: skip


def file_of(data: Path, kind: str) -> Path:
    files = sorted((data / "collections" / "rows").glob(KINDS[kind]))
    return files[-1 if kind.startswith("newest") else 0]


def parquet(data: Path) -> set[Path]:
    return {Path(file.name) for file in data.rglob("*.parquet")}


@pytest.mark.usefixtures("_no_compaction")
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_damage_is_silent(
    data: Path, truth: Truth, kind: str, damage: Callable[[Path], None]
) -> None:
    file = file_of(data, kind)
    damage(file)
    before = parquet(data)
    with Database(str(data)) as database:
        if kind in HARMLESS:
            check(database.get_collection("rows"), truth)
        else:
            with pytest.raises(DamagedError) as caught:
                database.get_collection("rows")
            said = str(caught.value)
            assert said.startswith("collection 'rows' is damaged: ")
            assert f"'{file.relative_to(data / 'collections' / 'rows').as_posix()}'" in said or (
                damage is swap
            )
            assert said.endswith(f"run 'fiftyone-milvus doctor --repair --uri {data}'")
            assert "\n" not in said
            assert database.has_collection("rows")
            assert database.list_collections() == ["others", "rows"]
            assert {folder.name for folder, _ in database.damages()} >= {"rows"}
    assert before <= parquet(data)


@pytest.mark.parametrize("damage", [damage for damage in DAMAGES if damage is not swap])
@pytest.mark.parametrize("file", ["aliases.json", "database_properties.json"])
def test_files_of_a_database_are_restored(
    data: Path, file: str, damage: Callable[[Path], None]
) -> None:
    damage(data / file)
    (data / f"{file}.copy").rename(data / "kept")
    if damage in (cut, cut_the_end, empty, zero, zero_a_part):
        with Database(str(data)) as database, pytest.raises(DamagedError, match=file):
            _ = database.list_aliases(), database.describe_database("default")
    (data / "kept").rename(data / f"{file}.copy")
    with Database(str(data)) as database:
        assert database.resolve_collection_name("alias") == "rows"
        assert database.describe_database("default")["properties"] == {"timezone": "Asia/Tokyo"}


@pytest.mark.parametrize("how", ["content", "names", "with their copies", "copies alone"])
def test_files_of_two_databases_that_changed_places(data: Path, how: str) -> None:
    with Database(str(data)) as database:
        database.create_database("more", {"timezone": "Europe/Rome"})
        database.create_collection("films", schema(), database_name="more")
        database.create_alias("films", "movies", database_name="more")
    other = data / "databases" / "more"
    for name in ("aliases.json", "database_properties.json"):
        one, two = data / name, other / name
        for suffix in {"copies alone": [".copy"], "with their copies": ["", ".copy"]}.get(
            how, [""]
        ):
            first, second = Path(f"{one}{suffix}"), Path(f"{two}{suffix}")
            if how == "content":
                swapped = second.read_bytes(), first.read_bytes()
                first.write_bytes(swapped[0])
                second.write_bytes(swapped[1])
            else:
                first.rename(data / "kept")
                second.rename(first)
                (data / "kept").rename(second)
    for _ in range(2):
        with Database(str(data)) as database:
            assert database.list_aliases() == ["alias"]
            assert database.list_aliases(database_name="more") == ["movies"]
            for name, zone in (("default", "Asia/Tokyo"), ("more", "Europe/Rome")):
                assert database.describe_database(name)["properties"] == {"timezone": zone}


def test_aliases_of_another_program_are_accepted(data: Path) -> None:
    with MilvusLite(str(data)) as plain:
        plain.create_alias("others", "another")
        plain.drop_alias("alias")
    for _ in range(2):
        with Database(str(data)) as database:
            assert database.list_aliases() == ["another"]
    flip(data / "aliases.json.copy")
    with Database(str(data)) as database:
        assert database.list_aliases() == ["another"]


@pytest.mark.usefixtures("_no_compaction")
@pytest.mark.parametrize("damage", [cut, zero_a_part, flip_early, flip, flip_late, remove, swap])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in HARMLESS])
def test_what_is_intact_comes_back(
    data: Path, truth: Truth, kind: str, damage: Callable[[Path], None]
) -> None:
    damage(file_of(data, kind))
    damaged = parquet(data)
    with Database(str(data)) as database:
        repairs = {repair.collection: repair for repair in database.repair()}
        assert repairs["rows"].is_whole
        assert not database.repair()
        repair = repairs["rows"]
        col = database.get_collection("rows")
        col.load()
        rows = {row["pk"]: row["vector"] for row in col.query('pk != ""', output_fields=["vector"])}
    assert damaged <= parquet(data)
    found = {key: np.float32(row) for key, row in rows.items()}
    expected = truth.vectors()
    either = expected.keys() | found.keys()
    wrong = {key for key in either if not np.array_equal(expected.get(key), found.get(key))}
    if kind in ("manifest", "schema") or (damage is swap and "log" not in kind):
        assert not wrong
        assert not repair.lost
    elif repair.ids:
        assert set(map(str, repair.ids)) == expected.keys() - found.keys() == wrong
        lost = data / "collections" / "rows" / "quarantine" / "lost.txt"
        assert lost.read_text("utf-8").split() == repair.ids
    else:
        assert repair.lost or not wrong
    # Only what was in the damaged file is another one
    deleted = {*map(str, range(40, 60))} if kind == "deletes" else set()
    if kind == "log of deletes":
        deleted = {*map(str, [*range(80, 90), *range(300, 310)])}
    if deleted:
        assert wrong <= deleted
    # And it can be written to, and opened again
    with Database(str(data)) as database:
        col = database.get_collection("rows")
        col.load()
        col.insert([{"pk": k, "vector": v.tolist(), "number": 0} for k, v in expected.items()])
        if gone := sorted(found.keys() - expected.keys()):
            col.delete(gone)
    with Database(str(data)) as database:
        check(database.get_collection("rows"), truth)


SNAPSHOT_FILES = {
    "metadata": "snapshots/metadata/kept.json",
    "schema": "snapshots/manifests/kept/schema.json",
    "manifest": "snapshots/manifests/kept/manifest.json",
    "data that only it has": "",
}


@pytest.fixture(scope="module")
def with_snapshot(
    prepared: tuple[Path, dict[str, Truth]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Truth, Path]:
    """A data directory with a snapshot, what is in it, and a file that only the snapshot has."""
    data = Path(shutil.copytree(prepared[0], tmp_path_factory.mktemp("snapshot") / "data.db"))
    truth = Truth(prepared[1]["rows"])
    folder = data / "collections" / "rows"
    with Database(str(data)) as database:
        col = database.get_collection("rows")
        database.create_snapshot("rows", "kept")
        before = {*folder.glob("partitions/_default/data/*")}
        kept = Truth(truth)
        for turn in range(5):  # so that they are merged
            write(col, truth, range(20), 10 + turn)
            col.flush()
            col._wait_for_bg()
        after = set(checksums.listed(json.loads((folder / "manifest.json").read_bytes())))
    with Database(str(data)) as database:  # it is no damage
        check(database.get_collection("rows"), truth)
        database.restore_snapshot("rows", "kept", "as_it_was")
        check(database.get_collection("as_it_was"), kept)
        database.drop_collection("as_it_was")
    names = (file.relative_to(folder) for file in sorted(before))
    return data, truth, next(name for name in names if name.as_posix() not in after)


@pytest.mark.parametrize("damage", [cut, flip, remove])
@pytest.mark.parametrize("kind", SNAPSHOT_FILES)
def test_damaged_snapshots(
    with_snapshot: tuple[Path, Truth, Path],
    tmp_path: Path,
    kind: str,
    damage: Callable[[Path], None],
) -> None:
    data = Path(shutil.copytree(with_snapshot[0], tmp_path / "data.db"))
    truth, folder = with_snapshot[1], data / "collections" / "rows"
    file = folder / (with_snapshot[2] if kind.startswith("data") else SNAPSHOT_FILES[kind])
    damage(file)
    with Database(str(data)) as database:
        with pytest.raises(DamagedError, match=re.escape(f"'{file.relative_to(folder)}'")):
            database.get_collection("rows")
        (repair,) = database.repair()
        assert repair.is_whole
        assert repair.lost == ["the snapshot 'kept'"]
        assert not repair.ids
        check(database.get_collection("rows"), truth)
        assert not database.list_snapshots("rows")
        database.create_snapshot("rows", "kept")
        database.drop_snapshot("rows", "kept")
    with Database(str(data)) as database:  # nor is a snapshot that was dropped
        check(database.get_collection("rows"), truth)


IN_PLAIN_MODE = pytest.mark.parametrize("prepared", ["plain"], indirect=True)
"""Where Milvus Lite has changed, its own code writes and reads the files."""


@IN_PLAIN_MODE
@pytest.mark.usefixtures("_no_compaction")
@pytest.mark.parametrize("damage", [cut, flip, swap])
@pytest.mark.parametrize("kind", KINDS)
def test_no_damage_is_silent_in_plain_mode(
    data: Path, truth: Truth, kind: str, damage: Callable[[Path], None]
) -> None:
    test_no_damage_is_silent(data, truth, kind, damage)


@IN_PLAIN_MODE
@pytest.mark.usefixtures("_no_compaction")
@pytest.mark.parametrize("damage", [flip, swap])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in HARMLESS])
def test_what_is_intact_comes_back_in_plain_mode(
    data: Path, truth: Truth, kind: str, damage: Callable[[Path], None]
) -> None:
    test_what_is_intact_comes_back(data, truth, kind, damage)


# -- no false alarms --------------------------------------------------------------------------


@contextlib.contextmanager
def plain(path: Path) -> Iterator[Any]:
    """The data directory, opened by a program that has only Milvus Lite."""
    durability.uninstall()
    flush.restore_files()
    try:
        with MilvusLite(str(path)) as database:
            yield database
    finally:
        durability.install()
        flush.speed_up_files()


def opens(data: Path) -> None:
    pass


def reads(data: Path) -> None:
    with plain(data) as database:
        database.get_collection("rows").load()


def dies(data: Path) -> None:
    """Its rows are in a log without checksums."""
    with plain(data) as database:
        database.get_collection("rows").insert([{"pk": "0", "vector": [9.0] * DIM, "number": 0}])
        shutil.copytree(data, data.with_suffix(".copy"))
    shutil.rmtree(data)
    data.with_suffix(".copy").rename(data)


def compacts(data: Path) -> None:
    with plain(data) as database:
        col = database.get_collection("rows")
        for turn in range(6):
            col.insert([{"pk": "0", "vector": [float(turn)] * DIM, "number": 0}])
            col.flush()
            col._wait_for_bg()
        col.insert([{"pk": "0", "vector": [9.0] * DIM, "number": 0}])


def alters(data: Path) -> None:
    with plain(data) as database:
        database.alter_collection_properties("rows", {"note": "of another program"})


def renames(data: Path) -> None:
    with plain(data) as database:
        database.rename_collection("rows", "another")
        database.rename_collection("another", "rows")


def recreates(data: Path) -> None:
    with plain(data) as database:
        database.drop_collection("rows")
        database.create_collection("rows", schema())


def forgets(data: Path) -> None:
    """As the releases before checksums wrote it."""
    for file in [*data.rglob("checksums.json"), *data.rglob("wal_sums_*")]:
        file.unlink()


@pytest.mark.parametrize(
    "program", [opens, reads, dies, compacts, alters, renames, recreates, forgets]
)
def test_what_others_write_is_accepted(
    data: Path, truth: Truth, program: Callable[[Path], None]
) -> None:
    program(data)
    with Database(str(data)) as database:
        col = database.get_collection("rows")
        col.load()
        if program in (dies, compacts):
            assert col.get(["0"])[0]["vector"] == [9.0] * DIM
            write(col, truth, range(1), 0)
        if program is recreates:
            create_index(col)
            truth.clear()
            write(col, truth, range(ROWS), 3)
        check(col, truth)
        if program is alters:
            assert col.schema.properties["note"] == "of another program"
    # What it wrote is verified from now on
    with Database(str(data)) as database:
        check(database.get_collection("rows"), truth)
    flip(file_of(data, "first data"))
    with Database(str(data)) as database, pytest.raises(DamagedError, match="was changed"):
        database.get_collection("rows")


class Kills:
    """Copies a data directory before each step by which a process changes its files."""

    def __init__(self, data: Path, copies: Path) -> None:
        self.data, self.copies = str(data), copies
        self.active = False
        self.found: list[Path] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: Any) -> None:
        if not self.active or event not in ("open", "os.rename", "os.remove", "os.truncate"):
            return
        writes = event != "open" or (isinstance(args[2], int) and args[2] & os.O_CREAT)
        if writes and str(args[0]).startswith(self.data):
            self.active = False
            copy = self.copies / f"{len(self.found)}.db"
            shutil.copytree(self.data, copy)
            self.found.append(copy)
            self.active = True


def test_a_kill_is_no_damage(tmp_path: Path) -> None:
    choose_mode()
    kills = Kills(tmp_path / "data.db", tmp_path)
    with Database(str(tmp_path / "data.db")) as database:
        col = create(database, "rows")
        truth = Truth()

        def steps() -> Iterator[None]:
            for turn in range(5):
                yield write(col, truth, range(20 * turn, 20 * turn + 30), turn)
                yield delete(col, truth, range(20 * turn, 20 * turn + 3))
                yield col.flush()
                yield col._wait_for_bg()
            yield database.alter_collection_properties("rows", {"note": "x"})
            yield write(col, truth, range(5), 9)
            yield col.release()
            yield col.load()
            yield database.drop_collection("rows")

        allowed: list[tuple[int, list[Truth]]] = []
        before = Truth(truth)
        kills.active = True
        for _ in steps():
            kills.active = False
            allowed.append((len(kills.found), [before, Truth(truth)]))
            before = Truth(truth)
            kills.active = True
        kills.active = False
    assert len(kills.found) > 60
    dropped = allowed[-2][0]
    for number, copy in enumerate(kills.found):
        truths = next(truths for end, truths in allowed if number < end)
        with Database(str(copy)) as database:
            # A drop that began does not bring back what was not flushed
            if number < dropped:
                found = database.get_collection("rows")
                found.load()
                keys = {row["pk"] for row in found.query('pk != ""', output_fields=["pk"])}
                one = next(truth for truth in truths if truth.keys() == keys)
                assert found.num_entities == len(one)
            elif database.has_collection("rows"):
                database.get_collection("rows").load()
        shutil.rmtree(copy)


@pytest.mark.usefixtures("_no_compaction")
def test_orphans_are_kept(data: Path, truth: Truth) -> None:
    folder = data / "collections" / "rows"
    orphan = folder / "partitions/_default/data/data_000900_000999.parquet"
    shutil.copy(file_of(data, "first data"), orphan)
    with Database(str(data)) as database:
        check(database.get_collection("rows"), truth)
    assert not orphan.exists()
    kept = folder / "quarantine/partitions/_default/data" / orphan.name
    assert kept.stat().st_size == file_of(data, "first data").stat().st_size


def test_a_damaged_collection_can_be_dropped(data: Path) -> None:
    zero(file_of(data, "schema"))
    with Database(str(data)) as database:
        with pytest.raises(DamagedError):
            database.get_collection("rows")
        database.get_collection("others").load()
        database.drop_collection("rows")
        assert database.list_collections() == ["others"]
        truth = fill(create(database, "rows"), 5)
        check(database.get_collection("rows"), truth, 5)
        assert not list(database.damages())


def test_a_compaction_reads_nothing_damaged(data: Path, truth: Truth) -> None:
    with Database(str(data)) as database:
        col = database.get_collection("rows")
        col.load()
        col._wait_for_bg()
        flip(file_of(data, "first data"))
        for turn in range(4):
            write(col, truth, range(5), turn)
            col.flush()
            col._wait_for_bg()
        # In memory they are intact
        check(col, truth)
    with Database(str(data)) as database, pytest.raises(DamagedError, match="was changed"):
        database.get_collection("rows")
