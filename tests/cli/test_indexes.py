"""Indexes are made, listed, synced, searched and deleted from the command line, on each engine."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from fiftyone import ViewField as F

from fiftyone_milvus import inventory
from fiftyone_milvus.cli import search
from fiftyone_milvus.demo.model import NAME as MODEL
from tests.app.digits import Scans
from tests.cli.conftest import COUNT
from tests.cli.support import call, enter, read, refused
from tests.conftest import Engine
from tests.support import oracle

TEXT = "a handwritten seven"


def test_the_life_of_an_index(scans: Scans, digits: fo.Dataset, configured: Engine) -> None:
    name = digits.name
    made = read(
        "create", name, "similar", "--model", MODEL, "--field", "number",
        "--index-type", "ivf_flat", "--set", 'index_params={"nlist": 4}', "--set", "num_shards=2",
    )  # fmt: skip
    assert made == {"brain_key": "similar", "vectors": COUNT, "failed": {}}
    again = refused("create", name, "similar", "--model", MODEL)
    assert again.startswith("Brain run 'similar' already exists")

    ids = dict(zip(*digits.values(["id", "number"]), strict=True))
    rows = read("search", name, "similar", "--text", TEXT, "-k", "7", "--filter", "number < 50")
    true = scans.distances(TEXT, range(50))
    oracle.check_ranking([ids[r["sample_id"]] for r in rows], true, 7)
    first = rows[0]
    assert abs(first["distance"] - min(true.values())) < 1e-5
    assert first["filepath"] == digits[first["sample_id"]].filepath
    shown, _ = enter("search", name, "similar", "--image", scans.paths[70], "-k", "5")
    true = scans.distances(70, range(COUNT))
    nearest = sorted(true, key=true.__getitem__)[:5]
    lines = [line.split() for line in shown.splitlines() if scans.paths[0][:8] in line]
    assert [line[0] for line in lines] == ["1", "2", "3", "4", "5"]
    assert [ids[line[2]] for line in lines] == nearest

    digits.delete_samples(digits.match(F("number") < 3))
    digits.add_samples([fo.Sample(scans.paths[61], number=61)], progress=False)
    (listed,) = read("list", "--dataset", name)["indexes"]
    assert (listed["missing"], listed["stale"], listed["in_step"]) == (1, 3, False)
    assert "1 missing, 3 stale" in enter("info", name, "similar")[0]
    synced = read("sync", name, "similar")
    assert (synced["added"], synced["removed"], synced["failed"]) == (1, 3, {})
    info = read("info", name, "similar")
    assert (info["vectors"], info["in_step"], info["metric"]) == (COUNT - 2, True, "cosine")
    assert (info["index_type"], info["index_params"]["nlist"]) == ("IVF_FLAT", "4")

    assert "There is no terminal to ask on" in refused("delete", name, "similar")
    assert f"{COUNT - 2} vectors" in enter("delete", name, "similar", "--yes")[0]
    digits.reload()
    assert digits.list_brain_runs() == []
    assert info["collection"] not in {c.name for c in inventory.collections(connection(configured))}


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_as_a_shell_calls_it(scans: Scans, digits: fo.Dataset) -> None:
    name = digits.name
    digits.persistent = True
    made = read("create", name, "similar", "--model", MODEL, how=call)
    assert made["vectors"] == COUNT
    rows = read("search", name, "similar", "--text", TEXT, "-k", "7", how=call)
    ids = dict(zip(*digits.values(["id", "number"]), strict=True))
    oracle.check_ranking(
        [ids[r["sample_id"]] for r in rows], scans.distances(TEXT, range(COUNT)), 7
    )
    digits.reload()
    enter("delete", name, "similar", "--yes")


def connection(engine: Engine) -> object:
    return inventory.configured(engine.kwargs["uri"])


def test_duplicates_and_orphans(scans: Scans, digits: fo.Dataset, configured: Engine) -> None:
    name = digits.name
    digits.set_values("vector", list(scans.vectors[:COUNT].astype(float)))
    read("create", name, "fields", "--embeddings-field", "vector", "--metric", "euclidean")
    distances = oracle.distances("euclidean", scans.vectors[:COUNT], scans.vectors[:COUNT])
    np.fill_diagonal(distances, np.inf)
    thresh = round(float(np.percentile(distances.min(axis=1), 20)), 4)
    found = read("duplicates", name, "fields", "--thresh", str(thresh), "--tag", "twin")
    ids = dict(zip(*digits.values(["id", "number"]), strict=True))
    for row in found["duplicates"]:
        true = distances[ids[row["original"]], ids[row["duplicate"]]]
        assert abs(row["distance"] - true) < 1e-3
        assert true <= thresh
    digits.reload()
    twins = {*digits.match_tags("twin").values("id")}
    assert twins == {row["duplicate"] for row in found["duplicates"]}
    rest = [n for i, n in ids.items() if i not in twins]
    assert distances[np.ix_(rest, rest)].min() > thresh

    collection = read("info", name, "fields", "--no-compare")["collection"]
    digits.delete_brain_run("fields")
    digits.delete()
    listed = read("cleanup", exit_code=1)
    assert collection in {orphan["name"] for orphan in listed["orphans"]}
    assert listed["dropped"] == []
    out, _ = enter("cleanup", collection, "--yes")
    assert f"its dataset '{name}' was deleted" in out
    assert collection not in {c.name for c in inventory.collections(connection(configured))}
    assert "There is no collection" in refused("cleanup", collection, "--yes")


def test_what_does_not_exist_is_one_line(digits: fo.Dataset) -> None:
    name = digits.name
    assert f"did you mean '{name}'?" in refused("info", f"{name}x", "similar")
    assert "has no brain run 'similar'" in refused("sync", name, "similar")
    assert "has no saved view 'mine'" in refused("create", name, "new", "--view", "mine")
    assert "There is nothing to index" in refused("create", name, "new")
    assert "not found" in refused("create", name, "new", "--model", "no-such-model")
    said = refused("create", name, "new", "--model", MODEL, "--set", "password=secret")
    assert "Other users can see credentials" in said
    assert "secret" not in said
    for name_of_another in ("backend", "brain_key", "dataset", "overwrite", "alpha"):
        given = f"{name_of_another}=1"
        said = refused("create", name, "new", "--model", MODEL, "--set", given)
        assert said.startswith(f"Unknown parameter '{name_of_another}' in --set; expected one of ")
        assert "num_shards" in said
    assert "Invalid --set 'M'" in refused("create", name, "new", "--model", MODEL, "--set", "M")
    digits.reload()
    assert digits.list_brain_runs() == []
    enter("search", name, "similar", exit_code=2)
    enter("search", name, "--text", "x", exit_code=2)
    enter("duplicates", name, "similar", exit_code=2)


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_paths_are_looked_up_in_parts(digits: fo.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_SELECTED", 7)
    ids, paths = digits.limit(20).values(["id", "filepath"])
    assert search._paths(digits, [*ids, ids[0]]) == dict(zip(ids, paths, strict=True))
    assert search._paths(digits, []) == {}


def test_a_file_that_is_no_image(digits: fo.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("no image")
    read("create", digits.name, "new", "--model", MODEL)
    said = refused("search", digits.name, "new", "--image", str(path))
    assert said == f"'{path}' can't be read as an image; give a PNG or a JPEG"
    enter("delete", digits.name, "new", "--yes")
