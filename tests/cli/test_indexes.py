"""Indexes are made, listed, synced, searched and deleted from the command line, on each engine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
import typer
from fiftyone import ViewField as F

from fiftyone_milvus import cli, inventory
from fiftyone_milvus.cli import completion
from fiftyone_milvus.dataset import media_paths
from fiftyone_milvus.demo.model import NAME as MODEL
from fiftyone_milvus.selections import Diverse, Novel
from tests.app.digits import Scans
from tests.cli.conftest import COUNT
from tests.cli.support import PROGRAM, call, enter, read, refused
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
    # There is --image for paths
    assert read("search", name, "similar", "--text", "seven.png", "-k", "1")
    first = rows[0]
    assert abs(first["distance"] - min(true.values())) < 1e-5
    assert first["filepath"] == digits[first["sample_id"]].filepath
    shown, _ = enter("search", name, "similar", "--image", scans.paths[70], "-k", "5")
    true = scans.distances(70, range(COUNT))
    nearest = sorted(true, key=true.__getitem__)[:5]
    lines = [line.split() for line in shown.splitlines() if scans.paths[0][:8] in line]
    assert [line[0] for line in lines] == ["1", "2", "3", "4", "5"]
    assert [ids[line[2]] for line in lines] == nearest

    number = scans.labels.index("seven")
    unlike = digits.match(F("number") == number).first().id
    rows = read(
        "search", name, "similar", "--text", TEXT, "--negative", unlike, "-k", "7", "--tag", "liked"
    )
    away = 2 * scans.model.embed_prompt(TEXT) - scans.vectors[number]
    true = dict(enumerate(oracle.distances("cosine", away, scans.vectors[:COUNT])[0].tolist()))
    oracle.check_ranking([ids[r["sample_id"]] for r in rows], true, 7)
    digits.reload()
    assert {*digits.match_tags("liked").values("id")} == {r["sample_id"] for r in rows}
    # Several parts, of which one is a region of a file
    index = digits.load_brain_results("similar")
    index.reload()
    given = ("--image", scans.paths[70], "--region", "0.1,0,0.8,1", "--like", unlike)
    rows = read("search", name, "similar", "--text", TEXT, *given, "--unlike", scans.paths[3],
                "--diverse", "0.4", "-k", "7")  # fmt: skip
    box = {"image": scans.paths[70], "region": [0.1, 0, 0.8, 1]}
    found = index.search(text=TEXT, **box, like=[unlike], unlike=[scans.paths[3]], diverse=0.4, k=7)
    assert [r["sample_id"] for r in rows] == found.ids
    assert "Invalid --region" in refused("search", name, "similar", *given[:2], "--region", "1,b")
    said = refused("search", name, "similar", "--text", TEXT, "--best-per-image")
    assert "needs an index of patches" in said

    digits.save_view("few", digits.limit(20))
    given = ("--diverse", "1", "--novel", "few", "--novelty", "0.5", "--seed", "3")
    told = read("select", name, "similar", "6", *given, "--tag", "to-label", "--field", "rank")
    strategies = [Diverse(), Novel(digits.limit(20), 0.5)]
    chosen = index.select(6, strategies, seed=3)
    assert [one["id"] for one in told["selected"]] == chosen.ids
    assert told["selected"][1]["why"] == chosen.reasons[1]
    assert told["radius"] == chosen.radius
    digits.reload()
    assert digits.match_tags("to-label").sort_by("rank").values("id") == chosen.ids
    shown, _ = enter("select", name, "similar", "6", "--balanced", "ground_truth.label")
    assert f"6 of {COUNT}, all within" in shown
    assert "no field 'nothing'" in refused("select", name, "similar", "6", "--balanced", "nothing")

    read("rename", name, "similar", "looks")
    assert "already exists" in refused("rename", name, "looks", "looks")
    digits.reload()
    read("rename", name, "looks", "similar")
    digits.reload()

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
    assert read("create", name, "similar", "--model", MODEL)["vectors"] == COUNT
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
    paths = dict(zip(*digits.values(["id", "filepath"]), strict=True))
    for row in found["duplicates"]:
        assert row["original_path"] == paths[row["original"]]
        assert row["duplicate_path"] == paths[row["duplicate"]]

    grouped = read("groups", name, "fields", "--thresh", str(thresh))["groups"]
    assert [row["path"] for row in grouped] == [paths[row["id"]] for row in grouped]
    pairs, kept = [], None
    for row in grouped:
        kept = row["id"] if row["keep"] else kept
        if not row["keep"]:
            pairs.append((kept, row["id"], row["distance"]))
    assert pairs == [(r["original"], r["duplicate"], r["distance"]) for r in found["duplicates"]]
    assert {row["group"] for row in grouped} == set(range(1, sum(r["keep"] for r in grouped) + 1))
    apart = read("unique", name, "fields", "7", "--tag", "few")["unique"]
    numbers = [ids[row["id"]] for row in apart]
    assert [row["path"] for row in apart] == [paths[row["id"]] for row in apart]
    digits.reload()
    assert sorted(numbers) == sorted(digits.match_tags("few").values("number"))
    assert distances[np.ix_(numbers, numbers)].min() > np.median(distances.min(axis=1))
    shown, _ = enter("map", name, "fields")
    assert f"Map 'fields_map': {COUNT} points by pca, {COUNT} new" in shown
    assert read("map", name, "fields", "--name", "m", "--again")["points"] == COUNT

    question = "There is no terminal to ask on"
    asked = enter("duplicates", name, "fields", "--thresh", str(thresh), "--delete", exit_code=1)
    assert question in asked[1]
    deleted = read("groups", name, "fields", "--thresh", str(thresh), "--delete", "--yes")
    assert deleted["deleted"] == len(twins)
    digits.reload()
    assert twins & set(digits.values("id")) == set()
    assert read("info", name, "fields")["in_step"]
    enter("groups", name, "fields", "--thresh", "1", "--tag", "x", "--delete", exit_code=2)

    collection = read("info", name, "fields", "--no-compare")["collection"]
    digits.delete_brain_run("fields")
    digits.delete()
    listed = read("cleanup", exit_code=1)
    shown, _ = enter("cleanup", "--dry-run", exit_code=1)
    assert f"its dataset '{name}' was deleted" in shown
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
    monkeypatch.setattr(media_paths, "_SELECTED", 7)
    ids, paths = digits.limit(20).values(["id", "filepath"])
    assert media_paths.paths(digits, [*ids, ids[0]]) == dict(zip(ids, paths, strict=True))
    assert media_paths.paths(digits, []) == {}


def test_a_file_that_is_no_image(digits: fo.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("no image")
    read("create", digits.name, "new", "--model", MODEL)
    said = refused("search", digits.name, "new", "--image", str(path))
    assert said == f"'{path}' can't be read as an image; give a PNG or a JPEG"
    enter("delete", digits.name, "new", "--yes")


@pytest.mark.parametrize("engine", ["embedded"], indirect=True)
def test_names_are_completed_without_fiftyone(digits: fo.Dataset) -> None:
    name = digits.name
    read("create", name, "similar", "--model", MODEL)
    digits.reload()
    # A run of another kind, and one that was deleted
    digits.load_brain_results("similar").map("similar_map", progress=False)
    assert completion.datasets(name[:-1]) == [name]
    ctx = typer.Context(typer.main.get_command(cli.app))
    ctx.params["dataset"] = name
    assert completion.brain_keys(ctx, "sim") == ["similar"]
    assert completion.brain_keys(ctx, "x") == []
    enter("delete", name, "similar", "--yes")
    assert completion.brain_keys(ctx, "") == []
    assert completion.metrics("c") == ["cosine"]
    assert MODEL in completion.models("digits")
    assert "clip-vit-base32-torch" in completion.models("clip")
    # What a shell asks for
    done = subprocess.run(
        [PROGRAM],
        env={
            **os.environ,
            "_FIFTYONE_MILVUS_COMPLETE": "complete_bash",
            "COMP_WORDS": f"fiftyone-milvus info {name[:-1]}",
            "COMP_CWORD": "2",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [name]
