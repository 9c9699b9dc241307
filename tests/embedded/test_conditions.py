"""Conditions on columns: the rows that they find are those that Python finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymilvus import DataType, MilvusClient, MilvusException

from fiftyone_milvus.embedded.database import Database
from fiftyone_milvus.embedded.executor import conditions, filters
from fiftyone_milvus.embedded.storage import segments
from fiftyone_milvus.embedded.storage.kept import Kept
from tests.embedded.test_executor import DIM, Engine

ROWS = 3000
WORDS = ("rare", "some", "most")
Row = dict[str, Any]
Condition = Callable[[Row], bool]


def create(client: MilvusClient, name: str = "c", *, dynamic: bool = False) -> None:
    schema = client.create_schema(auto_id=False, enable_dynamic_field=dynamic)
    schema.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("split", DataType.VARCHAR, max_length=64)
    schema.add_field("path", DataType.VARCHAR, max_length=64)
    schema.add_field("maybe", DataType.VARCHAR, max_length=64, nullable=True)
    schema.add_field("n", DataType.INT64)
    schema.add_field("f", DataType.DOUBLE)
    schema.add_field("score", DataType.DOUBLE, nullable=True)
    schema.add_field("single", DataType.FLOAT)
    schema.add_field("b", DataType.BOOL)
    strings = {"element_type": DataType.VARCHAR, "max_capacity": 5, "max_length": 64}
    schema.add_field("tags", DataType.ARRAY, **strings)
    index_params = client.prepare_index_params()
    index_params.add_index("vector", index_type="FLAT", metric_type="COSINE")
    client.create_collection(name, schema=schema, index_params=index_params)
    client.load_collection(name)


def rows(numbers: Any, seed: int) -> list[Row]:
    rng = np.random.default_rng(seed)
    return [
        {
            "pk": f"k{i}",
            "vector": rng.standard_normal(DIM).astype(np.float32),
            "split": f"split {rng.integers(10)}",
            "path": f"/data/{rng.integers(10**6):06d}/{i}.jpg",
            "maybe": [None, "a", "b", "a\n"][rng.integers(4)],
            "n": int(rng.integers(-(2**62), 2**62)) if i % 3 else int(rng.integers(100)),
            "f": float(rng.random()),
            "score": float(rng.random()) if rng.random() < 0.8 else None,
            "single": float(np.float32(rng.random())),
            "b": bool(rng.integers(2)),
            "tags": [w for w, p in zip(WORDS, (0.01, 0.1, 0.9)) if rng.random() < p],
        }
        for i in numbers
    ]


def starts(row: Row, text: str) -> bool:
    return bool(row["path"].startswith(text))


PATHS = [f"/data/{i:06d}/{i}.jpg" for i in range(200)]
CASES: dict[str, Condition] = {
    'split == "split 3"': lambda r: r["split"] == "split 3",
    'split != "split 3"': lambda r: r["split"] != "split 3",
    '"split 3" < split': lambda r: r["split"] > "split 3",
    'split in ["split 1", "nope"]': lambda r: r["split"] == "split 1",
    'split not in ["split 1", "split 2"]': lambda r: r["split"] not in ("split 1", "split 2"),
    f"path in {PATHS}".replace("'", '"'): lambda r: r["path"] in PATHS,
    'split like "%3"': lambda r: r["split"] == "split 3",
    'path like "/data/0%"': lambda r: starts(r, "/data/0"),
    'path like "/data/0%" and array_length(tags) > 0': lambda r: starts(r, "/data/0") and r["tags"],
    'not (path like "/data/_9%") or array_length(tags) > 9': lambda r: r["path"][7] != "9",
    "path == maybe": lambda r: False,
    "path != maybe": lambda r: r["maybe"] is not None,
    'maybe == "a"': lambda r: r["maybe"] == "a",
    'not (maybe == "a")': lambda r: r["maybe"] in ("b", "a\n"),
    'maybe is null and array_contains(tags, "some")': lambda r: (
        r["maybe"] is None and "some" in r["tags"]
    ),
    'maybe is not null or array_contains(tags, "rare")': lambda r: (
        r["maybe"] is not None or "rare" in r["tags"]
    ),
    'not (maybe in ["a"] and array_contains(tags, "most"))': lambda r: (
        r["maybe"] in ("b", "a\n") or "most" not in r["tags"]
    ),
    "n < 50 and n >= 10": lambda r: 10 <= r["n"] < 50,
    f"n > {2**53 + 1}": lambda r: r["n"] > 2**53 + 1,
    "n in [1, 2, 3, 50]": lambda r: r["n"] in (1, 2, 3, 50),
    "n not in [1, 2, 3]": lambda r: r["n"] not in (1, 2, 3),
    "f > 0.25 and f <= 0.5": lambda r: 0.25 < r["f"] <= 0.5,
    "f < single": lambda r: r["f"] < r["single"],
    "single > 0.1": lambda r: r["single"] > 0.1,
    "score is null": lambda r: r["score"] is None,
    "score > 0.5": lambda r: r["score"] is not None and r["score"] > 0.5,
    "not (score > 0.5)": lambda r: r["score"] is not None and r["score"] <= 0.5,
    "score > 0.5 or score <= 0.5": lambda r: r["score"] is not None,
    'score > 0.5 or array_contains(tags, "some")': lambda r: (
        (r["score"] is not None and r["score"] > 0.5) or "some" in r["tags"]
    ),
    "score * 2 > 1 and array_length(tags) == 1": lambda r: (
        r["score"] is not None and r["score"] * 2 > 1 and len(r["tags"]) == 1
    ),
    "b": lambda r: r["b"],
    "b == false": lambda r: not r["b"],
    'array_contains(tags, "rare")': lambda r: "rare" in r["tags"],
    'not array_contains_all(tags, ["some", "most"])': lambda r: (
        not {"some", "most"} <= set(r["tags"])
    ),
    'array_contains_any(tags, ["rare", "some"])': lambda r: {"rare", "some"} & set(r["tags"]),
    'tags[0] == "some"': lambda r: r["tags"][:1] == ["some"],
    'not (tags[1] == "most")': lambda r: len(r["tags"]) > 1 and r["tags"][1] != "most",
    'tags[0] != "most" and split == "split 1"': lambda r: (
        r["tags"] and r["tags"][0] != "most" and r["split"] == "split 1"
    ),
}


@contextmanager
def opened(path: Path) -> Iterator[Engine]:
    engine = Engine(path, fast=True, database=Database)
    try:
        yield engine
        assert engine.servicer.delegated == {}
    finally:
        engine.close()


def check(engine: Engine, stored: dict[str, Row]) -> None:
    """Each condition finds the rows that Python finds, and the nearest of them."""
    vectors = np.stack([row["vector"] for row in stored.values()])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    keys, scores = np.array(list(stored)), vectors @ vectors[7]
    for expression, is_true in CASES.items():
        inside = np.array([bool(is_true(row)) for row in stored.values()])
        for _ in range(2):  # The second time, the rows are known
            found = engine.client.query("c", filter=expression, output_fields=["pk"])
            assert {row["pk"] for row in found} == set(keys[inside].tolist()), expression
        (hits,) = engine.client.search("c", [vectors[7].tolist()], filter=expression, limit=5)
        order = np.argsort(-np.where(inside, scores, -np.inf))[: min(5, int(inside.sum()))]
        assert [hit["pk"] for hit in hits] == keys[order].tolist(), expression


def test_conditions_in_all_states_of_the_rows(tmp_path: Path) -> None:
    path, stored = tmp_path / "data.db", {}

    def write(engine: Engine, some: list[Row]) -> None:
        engine.client.upsert("c", some)
        stored.update((row["pk"], row) for row in some)

    with opened(path) as engine:
        create(engine.client)
        write(engine, rows(range(ROWS), seed=1))
        check(engine, stored)  # growing
        engine.flush("c")
        check(engine, stored)  # sealed
        write(engine, rows(range(100, 400), seed=2))
        engine.client.delete("c", ids=[f"k{i}" for i in range(50, 150)])
        for i in range(50, 150):
            del stored[f"k{i}"]
        check(engine, stored)  # some rows are replaced, and some deleted
        write(engine, rows([60, 401], seed=3))
        check(engine, stored)
        engine.flush("c")
        check(engine, stored)
    with opened(path) as engine:
        engine.client.load_collection("c")
        check(engine, stored)  # after a restart
        column = segment_of(engine).columns(["split"]).column("split")
        assert pa.types.is_dictionary(column.type)  # else, the values were compared row by row


def segment_of(engine: Engine) -> Any:
    cache = engine.db.get_collection("c")._segment_cache
    return max(cache.values(), key=lambda segment: segment.num_rows)


def test_a_write_changes_only_the_masks_of_its_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[int] = []
    original = conditions.Conditions.mask

    def mask(self: Any) -> Any:
        evaluated.append(self._part.rows)
        return original(self)

    monkeypatch.setattr(filters.Conditions, "mask", mask)
    with opened(tmp_path / "data.db") as engine:
        create(engine.client)
        engine.client.insert("c", rows(range(ROWS), seed=1))
        engine.flush("c")

        def count() -> int:
            found = engine.client.query("c", filter="f < 0.5", output_fields=["count(*)"])
            return int(found[0]["count(*)"])

        before = count()
        assert evaluated == [ROWS]
        added = rows(range(5), seed=4)
        engine.client.upsert("c", added)
        replaced = sum(row["f"] < 0.5 for row in rows(range(ROWS), seed=1)[:5])
        assert count() == before - replaced + sum(row["f"] < 0.5 for row in added)
        assert evaluated == [ROWS, 5]
        count()
        assert evaluated == [ROWS, 5]


def test_only_columns_that_are_named_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = segments.MappedSegment._read
    monkeypatch.setattr(
        segments.MappedSegment,
        "_read",
        lambda self, names: read.extend(names) or original(self, names),
    )
    with opened(tmp_path / "data.db") as engine:
        create(engine.client)
        engine.client.insert("c", rows(range(ROWS), seed=1))
        engine.flush("c")
        engine.client.query("c", filter='f < 0.5 and split == "split 1"', output_fields=["pk"])
        assert sorted(read) == ["f", "split"]
        engine.client.query("c", filter="f < 0.4", output_fields=["pk"])
        assert sorted(read) == ["f", "split"]


def test_dynamic_fields(tmp_path: Path) -> None:
    """Their conditions are Milvus Lite's; those on other fields are evaluated by column."""
    data = [{**row, "color": ["red", 3, None][i % 3]} for i, row in enumerate(rows(range(600), 1))]
    cases: dict[str, Condition] = {
        'color == "red"': lambda r: r["color"] == "red",
        "color == 3 and f < 0.5": lambda r: r["color"] == 3 and r["f"] < 0.5,
        '$meta["color"] is null': lambda r: r["color"] is None,
        'split == "split 2" and array_contains(tags, "most")': lambda r: (
            r["split"] == "split 2" and "most" in r["tags"]
        ),
        'color == "red" or array_contains(tags, "some")': lambda r: (
            r["color"] == "red" or "some" in r["tags"]
        ),
    }
    engine = Engine(tmp_path / "data.db", fast=True, database=Database)
    create(engine.client, dynamic=True)
    for state in (data[:400], data[300:]):
        engine.client.upsert("c", state)
        stored = data[: int(state[-1]["pk"][1:]) + 1]
        for _ in range(2):
            for expression, is_true in cases.items():
                found = engine.client.query("c", filter=expression, output_fields=["pk"])
                wanted = {row["pk"] for row in stored if is_true(row)}
                assert {row["pk"] for row in found} == wanted, expression
            engine.flush("c")
    engine.close()


@pytest.mark.parametrize(
    "pattern", ["%", "_", "a%", "%.c", "a\\%", "a.c", "(_)", "", "é_", "\x00%"]
)
def test_like_is_pythons(pattern: str) -> None:
    values = ["", "a", "abc", "a.c", "a\\", "a\n", "\n", "(x)", "éa", "é🦁", "\x00b", None, "a%"]
    found = conditions._like(pa.array(values), pattern)
    wildcards = {"%": ".*", "_": "."}
    regex = "".join(wildcards.get(c, re.escape(c)) for c in pattern)
    for value, true, false in zip(values, found.true, found.false, strict=True):
        wanted = value is not None and re.match(f"^{regex}$", value, re.DOTALL) is not None
        assert (true, false) == (wanted, value is not None and not wanted), value


def test_damage_since_a_collection_was_opened_is_an_error(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "data.db", fast=True, database=Database)
    create(engine.client)
    engine.client.insert("c", rows(range(ROWS), seed=1))
    engine.flush("c")
    file = Path(segment_of(engine).file_path)
    group = pq.read_metadata(file).row_group(0)
    column = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == "f")
    with file.open("r+b") as damaged:
        damaged.seek(column.dictionary_page_offset + column.total_compressed_size // 2)
        byte = damaged.read(1)[0]
        damaged.seek(-1, 1)
        damaged.write(bytes([byte ^ 1]))
    for expression in ("f < 0.5", 'f < 0.5 and split == "split 1"'):
        with pytest.raises(MilvusException, match=file.name):
            engine.client.query("c", filter=expression, output_fields=["pk"])
    found = engine.client.query("c", filter='split == "split 1"', output_fields=["pk"])
    expected = {row["pk"] for row in rows(range(ROWS), seed=1) if row["split"] == "split 1"}
    assert {row["pk"] for row in found} == expected
    engine.close()


class _Owner:
    pass


def test_what_is_kept_is_bounded_and_ends_with_its_owner() -> None:
    kept: Kept[str] = Kept(10)
    one, other = _Owner(), _Owner()
    kept.put(one, "a", "1", 4)
    kept.put(one, "b", "2", 4)
    kept.put(other, "a", "3", 2)
    assert [kept.get(one, "a"), kept.get(one, "b"), kept.get(other, "a")] == ["1", "2", "3"]
    kept.get(one, "a")
    kept.put(other, "b", "4", 3)
    assert kept.get(one, "b") is None
    assert kept.get(one, "a") == "1"
    assert kept.nbytes == 9
    kept.put(one, "a", "5", 1)
    assert kept.get(one, "a") == "5"
    assert kept.nbytes == 6
    kept.put(one, "c", "6", 11)
    assert kept.get(one, "c") is None
    del one
    assert kept.nbytes == 5
    assert kept.get(other, "a") == "3"
