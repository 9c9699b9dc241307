"""Groups, leaks and labels from the command line."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_milvus.demo.model import NAME as MODEL
from tests.app.digits import Scans
from tests.cli.conftest import COUNT
from tests.cli.support import enter, read, refused
from tests.support import oracle
from tests.support.once import one_engine


@pytest.fixture
def indexed(scans: Scans, digits: fo.Dataset) -> fo.Dataset:
    digits.set_values("vector", list(scans.vectors[:COUNT].astype(float)))
    read("create", digits.name, "own", "--embeddings-field", "vector", "--metric", "cosine")
    digits.reload()
    yield digits
    enter("delete", digits.name, "own", "--yes")


@one_engine
def test_groups_and_leaks(scans: Scans, indexed: fo.Dataset) -> None:
    name, ids = indexed.name, indexed.values("id")
    square = oracle.distances("cosine", scans.vectors[:COUNT], scans.vectors[:COUNT])
    np.fill_diagonal(square, np.inf)
    thresh = round(float(np.percentile(square.min(axis=1), 30)), 4)
    np.fill_diagonal(square, 0)
    at = {i: place for place, i in enumerate(ids)}

    found = read("groups", name, "own", "--thresh", str(thresh), "--keep", "largest", "--save")
    assert found["field"] == "duplicates"
    groups: dict[int, list[int]] = {}
    for row in found["groups"]:
        groups.setdefault(row["group"], []).append(at[row["id"]])
        assert row["keep"] == (row["rank"] == 0)
    assert groups
    assert all(square[np.ix_(group, group)].max() <= thresh for group in groups.values())
    indexed.reload()
    assert len(indexed.exists("duplicates")) == len(found["groups"])
    shown, _ = enter(
        "groups", name, "own", "--thresh", str(thresh), "--keep", "first", "--tag", "x"
    )
    assert f"{len(groups)} groups with {len(found['groups'])} of {COUNT} samples" in shown
    indexed.reload()
    assert len(indexed.match_tags("x")) == len(found["groups"]) - len(groups)
    enter("groups", name, "own", "--fraction", "0.1", "--keep", "first", exit_code=2)
    enter("groups", name, "own", "--thresh", "0.1", "--files", exit_code=2)
    assert "Unknown keep 'best'" in refused(
        "groups", name, "own", "--thresh", "0.1", "--keep", "best"
    )

    indexed.limit(20).tag_samples("test")
    indexed.save_view("train", indexed.skip(20))
    leaks = read("leaks", name, "own", "test", "train", "--thresh", str(thresh), exit_code=1)
    pairs = {(at[row["id"]], at[row["other_id"]]) for row in leaks["leaks"]}
    assert pairs == {(i, j + 20) for i, j in zip(*np.nonzero(square[:20, 20:] <= thresh))}
    none = read("leaks", name, "own", "test", "train", "--thresh", "0")
    assert none["leaks"] == []
    assert "no saved view and no tag 'night'" in refused(
        "leaks", name, "own", "night", "train", "--thresh", "0.1"
    )


@one_engine
def test_new_images(scans: Scans, digits: fo.Dataset, tmp_path: Path) -> None:
    read("create", digits.name, "similar", "--model", MODEL, "--metric", "cosine")
    images, keys = [scans.paths[3], scans.paths[70]], (digits.name, "similar")
    square = oracle.distances("cosine", scans.vectors[[3, 70]], scans.vectors[:COUNT])
    thresh = str(square[1].min() / 2)
    found = read("check-new", *keys, *images, "--thresh", thresh, exit_code=1)
    ids = np.array(digits.values("id"))
    old, new = found["images"]
    assert {row["id"] for row in old["near"]} == {*ids[square[0] <= float(thresh)]} != set()
    assert old["near"][0]["path"] == images[0] == old["image"]
    assert (old["is_new"], new["is_new"], new["near"]) == (False, True, [])
    shown, _ = enter("check-new", *keys, images[1], "--thresh", thresh)
    assert "1 of 1 images are new" in shown
    shown, _ = enter("check-new", *keys, *images, "--thresh", thresh, exit_code=1)
    assert "1 of 2 images are new" in shown
    assert ids[3] in shown
    path = tmp_path / "words.txt"
    path.write_text("no image")
    assert "can't be read" in refused("check-new", *keys, str(path), "--thresh", thresh)
    enter("delete", *keys, "--yes")


@one_engine
def test_labels(indexed: fo.Dataset) -> None:
    name = indexed.name
    labels = indexed.values("ground_truth.label")
    wrong, missing = indexed.values("id")[5], indexed.values("id")[6::10]
    indexed.set_values("ground_truth", dict.fromkeys(missing), key_field="id")
    right = indexed[wrong].ground_truth.label
    indexed.set_values("ground_truth", {wrong: fo.Classification(label="wrong")}, key_field="id")
    errors = read("label", name, "own", "ground_truth", "--errors", "--tag", "odd", exit_code=1)
    assert errors["errors"][0]["id"] == wrong
    assert (errors["errors"][0]["label"], errors["errors"][0]["suggested"]) == ("wrong", right)
    assert (errors["compared"], errors["unlabeled"]) == (COUNT - len(missing), len(missing))
    indexed.reload()
    assert wrong in indexed.match_tags("odd").values("id")

    dry = read("label", name, "own", "ground_truth", "--dry-run", "-k", "3")
    assert (dry["into"], {row["id"] for row in dry["labels"]}) == (None, {*missing})
    shown, _ = enter("label", name, "own", "ground_truth")
    assert f"wrote {len(missing)} to 'ground_truth_predicted'" in shown
    indexed.reload()
    found = dict(zip(*indexed.exists("ground_truth_predicted").values(
        ["id", "ground_truth_predicted.label"]), strict=True))  # fmt: skip
    true = dict(zip(indexed.values("id"), labels, strict=True))
    assert {*found} == {*missing}
    assert np.mean([true[i] == one for i, one in found.items()]) > 0.8
    assert "has no model" in refused("label", name, "own", "x", "--prompt", "a", "--prompt", "b")
    enter("label", name, "own", "ground_truth", "--errors", "--dry-run", exit_code=2)
    assert "no field 'nothing'" in refused("label", name, "own", "nothing")


@one_engine
def test_ratings(indexed: fo.Dataset) -> None:
    name, keys = indexed.name, (indexed.name, "own")
    own = indexed.load_brain_results("own").compute_representativeness(clusters=5)
    options = ("--clusters", "5", "--lowest", "-n", "3", "--save", "center", "--tag", "far")
    found = read("rate", *keys, "representativeness", *options)
    assert [row["id"] for row in found["representativeness"]] == own.ids[::-1][:3]
    assert (found["rated"], found["field"]) == (COUNT, "center")
    indexed.reload()
    assert {*indexed.match_tags("far").values("id")} == {*own.ids[-3:]}
    stored = dict(zip(*indexed.values(["id", "center"]), strict=True))
    assert stored == pytest.approx(dict(zip(own.ids, own.values.tolist(), strict=True)))
    shown, _ = enter("rate", name, "own", "uniqueness", "-n", "1")
    assert f"The uniqueness of {COUNT} samples" in shown
    assert "that this package did not make" in refused(
        "rate", *keys, "uniqueness", "--save", "vector"
    )


@one_engine
def test_datasets_are_compared(scans: Scans, indexed: fo.Dataset) -> None:
    half = COUNT // 2
    other = indexed[:half].clone()
    try:
        read("create", other.name, "own", "--embeddings-field", "vector", "--metric", "cosine")
        keys = indexed.name, "own", other.name, "own"
        found = read("compare-datasets", *keys, "-n", "3", "--save", "novelty", "--tag", "new")
        square = oracle.distances("cosine", scans.vectors[:COUNT], scans.vectors[:half])
        true = dict(zip(indexed.values("id"), square.min(axis=1).tolist(), strict=True))
        far = sorted(true, key=true.__getitem__)[::-1][:3]
        assert [row["id"] for row in found["novel"]] == far
        assert [row["distance"] for row in found["novel"]] == pytest.approx([true[i] for i in far])
        assert found["compared"] == [COUNT, half]
        indexed.reload()
        stored = dict(zip(*indexed.values(["id", "novelty"]), strict=True))
        assert stored == pytest.approx(true, abs=1e-6)
        assert {*indexed.match_tags("new").values("id")} == {*far}
        shown, _ = enter("compare-datasets", *keys, "-n", "0")
        assert f"Drift {found['drift']:.3f}" in shown
        enter("delete", other.name, "own", "--yes")
    finally:
        other.delete()
