"""Indexes are adopted, migrated, exported and imported from the command line, on each engine."""

from __future__ import annotations

import logging
from pathlib import Path

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pyarrow.parquet as pq
import pytest

from fiftyone_milvus.moving import builtin
from tests.app.digits import Scans
from tests.cli.conftest import COUNT
from tests.cli.support import enter, read, refused
from tests.conftest import Engine
from tests.moving.test_parquet import rewrite
from tests.support import oracle
from tests.support.indexes import built_in

TEXT = "a handwritten seven"


def finds(scans: Scans, dataset: fo.Dataset, key: str) -> None:
    """The index of a key answers as it must."""
    ids = dict(zip(*dataset.values(["id", "number"]), strict=True))
    rows = read("search", dataset.name, key, "--text", TEXT, "-k", "9")
    oracle.check_ranking(
        [ids[r["sample_id"]] for r in rows], scans.distances(TEXT, range(COUNT)), 9
    )


def test_the_built_ins_run_is_taken_over(
    scans: Scans, digits: fo.Dataset, configured: Engine
) -> None:
    name = digits.name
    old = built_in(
        configured, digits, scans.vectors[:COUNT], brain_key="theirs", model="digits-prompt"
    )
    before = old.config.collection_name
    assert [r["brain_key"] for r in read("list", "--dataset", name)["built_in"]] == ["theirs"]
    assert f"fiftyone-milvus adopt {name} theirs" in enter("list", "--dataset", name)[0]
    (done,) = read("adopt", name)
    assert (done["collection"], done["vectors"], done["missing"]) == (before, COUNT, 0)
    finds(scans, digits, "theirs")
    assert "no run of FiftyOne's built-in" in enter("adopt", name)[0]
    away = ("--uri", "http://127.0.0.1:1")
    assert "127.0.0.1:1" in refused("adopt", name, "theirs", "--revert", *away)
    assert read("adopt", name, "theirs", "--revert")["changed"]
    digits.reload()
    assert type(digits.get_brain_info("theirs").config) is builtin.config_class()
    assert read("adopt", name, "theirs")[0]["changed"]
    enter("delete", name, "theirs", "--yes")


def test_an_index_moves(
    scans: Scans,
    digits: fo.Dataset,
    configured: Engine,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = digits.name
    fob.compute_similarity(
        digits,
        backend="sklearn",
        brain_key="old",
        embeddings=scans.vectors[:COUNT],
        model="digits-prompt",
        metric="cosine",
    )
    moved = read("migrate", name, "old", "--to", "new", "--field", "number")
    assert (moved["brain_key"], moved["vectors"], moved["compared"]) == ("new", COUNT, COUNT)
    finds(scans, digits, "new")

    path = tmp_path / "digits.parquet"
    with caplog.at_level(logging.INFO, logger="fiftyone_milvus"):
        assert read("export", name, "new", str(path))["vectors"] == COUNT
    assert not any("vectors of" in message for message in caplog.messages), "said twice"
    table = pq.read_table(path)
    assert table.column_names == ["pk", "vector", "sample_id", "number"]
    ids = dict(zip(*digits.values(["id", "number"]), strict=True))
    numbers = [ids[i] for i in table["pk"].to_pylist()]
    assert table["number"].to_pylist() == numbers
    np.testing.assert_array_equal(np.stack(table["vector"].to_numpy()), scans.vectors[numbers])

    again = refused("import", str(path), name, "new")
    assert "already has a brain run 'new'" in again
    imported = read("import", str(path), name, "copy")
    assert (imported["vectors"], imported["unknown"], imported["missing"]) == (COUNT, 0, 0)
    finds(scans, digits, "copy")

    found = read("search", "--everywhere", "--text", TEXT, "-k", "5")
    true = scans.distances(TEXT, range(COUNT))
    best = sorted(true, key=true.__getitem__)[:5]
    mine = [r for r in found["results"] if r["dataset"] == name]
    assert {ids[r["sample_id"]] for r in mine} <= {*best}
    assert mine
    ask = ("search", "--everywhere", "--text", TEXT, "-k", "5", "--brain-key", "copy")
    named = [r for r in read(*ask)["results"] if r["dataset"] == name]
    assert {r["brain_key"] for r in named} == {"copy"}
    assert {ids[r["sample_id"]] for r in named} <= {*best}
    for key in ("new", "copy"):
        enter("delete", name, key, "--yes")


def test_a_model_of_a_file_is_used_only_if_it_is_trusted(
    digits: fo.Dataset, configured: Engine, tmp_path: Path
) -> None:
    file, name = tmp_path / "theirs.parquet", digits.name
    built_in(configured, digits, np.eye(COUNT, 8, dtype=np.float32), brain_key="mine")
    read("adopt", name, "mine")
    enter("export", name, "mine", str(file))
    rewrite(file, made_with={"model": "https://github.com/theirs/model"})
    said = refused("import", str(file), name, "copy")
    assert "trust_model=True" in said or "--trust-model" in said
    digits.reload()
    assert digits.list_brain_runs() == ["mine"]
    read("import", str(file), name, "copy", "--trust-model")
    digits.reload()
    assert digits.get_brain_info("copy").config.model == "https://github.com/theirs/model"
