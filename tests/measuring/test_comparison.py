"""Index types side by side, measured on temporary collections."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from fiftyone_milvus import inventory
from fiftyone_milvus.collection import CollectionSpec
from fiftyone_milvus.collection.temporary import PREFIX, temporary
from fiftyone_milvus.connection import Engine as Offered
from fiftyone_milvus.errors import EngineError, FiftyOneMilvusError, InvalidInputError
from fiftyone_milvus.measuring import recall
from fiftyone_milvus.measuring.comparison import Compared, Comparison, candidates, not_offered
from tests.support.indexes import Indexed, collections, index_images, one_line

COUNT = 1500


@pytest.fixture(scope="module")
def one(engine: Any) -> Iterator[Indexed]:
    indexed = index_images(engine, COUNT, "cosine", brain_key=None)
    yield indexed
    indexed.drop()


def leftovers(indexed: Indexed) -> set[str]:
    return {name for name in collections(indexed.index) if name.startswith(PREFIX)}


def test_side_by_side(one, engine, tmp_path):
    before = one.index.config.serialize()
    # Neither engine has both of the last two
    lite = engine.name == "embedded"
    types = [{"index_type": "IVF_SQ8", "index_params": {"nlist": 16}}]
    types += ["flat", "SCANN"] if lite else ["HNSW_SQ"]
    found = one.index.compare(types, k=5, queries=60, recall=0.9)
    print(found)
    assert [row.index_type for row in found] == (
        ["IVF_SQ8", "FLAT", "SCANN"] if lite else ["IVF_SQ8", "HNSW_SQ"]
    )
    *measured, absent = found
    lists = measured[0]
    assert lists.index_params == {"nlist": 16}
    assert 1 <= lists.search_params["nprobe"] <= 16
    assert lists.search_params["k"] == 5
    assert "k=5" not in str(found)
    assert 0.9 <= lists.recall <= 1.0
    for row in measured:
        assert 0 < row.p50 <= row.p95
        assert 0 < row.build_seconds < 60
        assert found.target <= row.bound <= row.recall
        assert (row.reached, row.error) == (True, None)
    rows = lite * COUNT * 60  # keys and masks of vectors in their files
    assert rows < lists.bytes < rows + COUNT * 16 * 4
    for flat in measured[1:]:
        assert (flat.recall, flat.bound, flat.bytes) == (1.0, 1.0, rows)
    assert absent.recall is absent.p50 is absent.bytes is None
    assert absent.index_type in one_line(ValueError(absent.error))
    assert (found.vectors, found.dimension, found.metric, found.k) == (COUNT, 16, "cosine", 5)
    assert found.engine.startswith("Milvus Lite 3" if lite else "Milvus 2")
    # Nothing is left, and the index is as it was
    assert leftovers(one) == set()
    assert one.index.config.serialize() == before

    text = str(found)
    assert "recall@5" in text
    assert "at least" in text
    assert "95% confidence" in text
    assert f"{absent.index_type}" in text.splitlines()[-2]
    assert len(json.loads(json.dumps(found.to_dicts()))) == len(types)
    assert json.loads(json.dumps(found.to_dict()))["target"] == 0.9
    found.plot(tmp_path / "types.png")
    assert Image.open(tmp_path / "types.png").size == (900, 504)


def test_what_would_not_be_built_is_not_measured(one, engine):
    """An engine takes these without complaint, and builds others or none."""
    lite = engine.name == "embedded"
    types: list[Any] = ["GPU_CAGRA", "DISKANN"]
    if lite:
        types += ["IVF_PQ", ("HNSW_SQ", {"sq_type": "FP16"}), ("HNSW_SQ", {"refine": True})]
    found = one.index.compare(types, queries=5)
    assert len(found) == len(types)
    for row in found:
        assert row.recall is row.bytes is None
        assert "BRUTE_FORCE" not in one_line(ValueError(row.error))
        assert ("Milvus Lite 3." if lite else "Milvus 2.3.5") in row.error


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_what_is_not_to_be_refined_is_measured(one):
    (row,) = one.index.compare([("HNSW_SQ", {"refine": False})], queries=5, sample=50)
    assert row.error is None
    assert row.index_params["refine"] == "false"


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_rabitq_is_measured_and_tuned(one):
    given = {"index_type": "IVF_RABITQ", "index_params": {"nlist": 16, "refine": True}}
    given["search_params"] = {"refine_k": 30}
    (row,) = one.index.compare([given], k=5, queries=60, recall=0.9)
    assert (row.error, row.reached) == (None, True)
    assert 1 <= row.search_params["nprobe"] <= 16
    assert (row.search_params["refine_k"], row.search_params["k"]) == (30, 5)
    # A bit for each of 16 dimensions alone is not enough, and the remedy is said
    given["search_params"] = {"refine_k": 1}
    (row,) = one.index.compare([given], k=5, queries=60, recall=0.9)
    assert row.reached is False
    assert row.recall < 0.9


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_by_default_what_makes_sense_of_a_sample(one):
    found = one.index.compare(k=5, queries=30, sample=400)
    assert found.vectors == 400
    assert [r.index_type for r in found] == [
        "AUTOINDEX",
        "FLAT",
        "HNSW",
        "HNSW_SQ",
        "IVF_FLAT",
        "IVF_SQ8",
        "IVF_RABITQ",
    ]
    assert all(row.error is None and row.recall > 0.9 for row in found)
    assert found[4].index_params == {"nlist": 80}
    assert leftovers(one) == set()


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_interrupted(one, monkeypatch):
    seen = []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        seen.extend(leftovers(one))
        (info,) = [i for i in inventory.collections(one.index.connection) if i.name == seen[0]]
        assert info.owner == "other", "it is in use"
        assert "index.compare()" in info.why
        raise KeyboardInterrupt

    monkeypatch.setattr(recall, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one.index.compare(["HNSW"], queries=10)
    assert len(seen) == 1
    assert leftovers(one) == set()


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_what_can_not_be_dropped(one, monkeypatch, caplog):
    connection = one.index.connection
    kind = type(one.index._collection)
    drop = kind.drop

    def fail(self: Any) -> bool:
        raise EngineError("not now")

    def info(name: str) -> inventory.CollectionInfo:
        (found,) = [i for i in inventory.collections(connection) if i.name == name]
        return found

    def broken() -> None:
        with temporary(connection, one.index._owner, "index.compare()") as (collection, owner):
            collection.create(CollectionSpec(4, "COSINE", "FLAT", owner=owner))
            made.append(collection.name)
            assert info(collection.name).owner == "other"
            raise InvalidInputError("the reason")

    made: list[str] = []
    monkeypatch.setattr(kind, "drop", fail)
    # Not what went wrong after it
    with pytest.raises(InvalidInputError, match="the reason"):
        broken()
    monkeypatch.setattr(kind, "drop", drop)
    assert f"{made[0]}') does it later: not now" in caplog.text
    assert info(made[0]).owner == "orphan"
    assert inventory.clean_up(made[0], connection) == made


def test_left_behind(one, monkeypatch):
    # Not dropped, as by a process that was killed
    connection = one.index.connection
    with temporary(connection, one.index._owner, "index.compare()") as (collection, owner):
        collection.create(CollectionSpec(4, "COSINE", "FLAT", owner=owner))

        def info() -> inventory.CollectionInfo:
            (found,) = [i for i in inventory.collections(connection) if i.name == collection.name]
            return found

        assert info().owner == "other"
        with pytest.raises(InvalidInputError, match="in use by process"):
            inventory.clean_up(collection.name, connection)
        real = psutil.Process

        def gone(pid: int | None = None) -> Any:
            raise psutil.NoSuchProcess(pid)

        monkeypatch.setattr(psutil, "Process", gone)
        assert info().owner == "orphan"
        assert "left behind" in info().why
        assert inventory.clean_up(collection.name, connection) == [collection.name]
        monkeypatch.setattr(psutil, "Process", real)
    assert leftovers(one) == set()


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"index_types": ["HSNW"]}, "HSNW"),
        ({"index_types": []}, "index_types"),
        ({"index_types": [("HNSW", {"N": 4})]}, "'N'"),
        ({"index_types": [{"type": "HNSW"}]}, "index_type"),
        ({"index_types": [3]}, "3"),
        ({"index_types": [None]}, "None"),
        ({"k": 0}, "k 0"),
        ({"queries": 0}, "queries 0"),
        ({"sample": 0}, "sample 0"),
        ({"sample": 1}, "1 vectors"),
        ({"recall": 2}, "recall 2"),
        ({"seed": "x"}, "seed 'x'"),
    ],
)
def test_what_can_not_be_compared(one, kwargs, said):
    with pytest.raises(InvalidInputError) as error:
        one.index.compare(**kwargs)
    assert said in one_line(error.value)


@pytest.mark.parametrize("engine", ["server"], indirect=True)
def test_a_server_builds_no_index_for_few(one):
    with pytest.raises(InvalidInputError, match="Only 1000 vectors") as error:
        one.index.compare(sample=1000)
    one_line(error.value)


def milvus(version: str) -> Any:
    """Returns what a connection says of a server of that version."""
    engine = Offered(False, version, 16384, 64 << 20, None)
    return SimpleNamespace(engine=engine, target=SimpleNamespace(address="http://milvus:19530"))


def test_what_makes_sense_on_a_server():
    def usual(version: str, rows: int) -> list[Any]:
        return candidates(None, milvus(version), "cosine", rows, 64)

    small, large = usual("2.6.0", 5_000), usual("2.6.0", 2_000_000)
    assert [c.index_type for c in small] == ["FLAT", "HNSW", "IVF_FLAT", "IVF_SQ8", "SCANN"]
    assert small[2].index_params == {"nlist": 283}
    assert [c.index_type for c in large][-1] == "DISKANN"
    assert large[2].index_params == {"nlist": 1024}
    # PyPI's is built without DiskANN
    assert [c.index_type for c in usual("2.3.5-lite", 2_000_000)][-1] == "SCANN"


@pytest.mark.parametrize(
    ("version", "metric", "asked", "said"),
    [
        ("2.6.0-gpu", "cosine", "GPU_CAGRA", "no metric 'cosine'"),
        ("2.6.0-gpu", "dotproduct", "GPU_CAGRA", None),
        ("2.6.0", "dotproduct", "GPU_CAGRA", "without GPU support"),
        ("2.6.7", "cosine", ("HNSW_SQ", {"sq_type": "SQ4U"}), "needs Milvus 2.6.8"),
        ("2.6.8", "cosine", ("HNSW_SQ", {"sq_type": "SQ4U"}), None),
    ],
)
def test_what_an_engine_does_not_offer(version, metric, asked, said):
    (candidate,) = candidates([asked], milvus(version), metric, 5_000, 64)
    found = not_offered(candidate, milvus(version), metric)
    assert found is None if said is None else said in one_line(ValueError(found))


def test_plots_that_can_not_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def comparison(*rows: Compared) -> Comparison:
        return Comparison(rows, 10, 4, "cosine", 5, 3, "Milvus Lite")

    row = Compared("FLAT", {}, {}, 1.0, 0.001, 0.002)
    with pytest.raises(InvalidInputError, match="nothing to draw") as error:
        comparison(Compared("SCANN", {}, error="no")).plot(tmp_path / "x.png")
    one_line(error.value)
    with pytest.raises(InvalidInputError, match="does not exist") as error:
        comparison(row).plot(tmp_path / "missing" / "x.png")
    one_line(error.value)
    with pytest.raises(InvalidInputError, match="Can't write") as error:
        comparison(row).plot(tmp_path / "x.no_format")
    one_line(error.value)
    (tmp_path / "x.png").symlink_to(tmp_path / "mine")
    with pytest.raises(InvalidInputError, match="is a link") as error:
        comparison(row).plot(tmp_path / "x.png")
    one_line(error.value)
    (tmp_path / "x.png").unlink()

    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FiftyOneMilvusError, match="pip install matplotlib") as problem:
        comparison(row).plot(tmp_path / "x.png")
    one_line(problem.value)
    assert np.size(list(tmp_path.iterdir())) == 0
