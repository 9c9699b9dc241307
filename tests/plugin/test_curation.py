"""The operators for groups of duplicates and for labels, with what their forms preview."""

from __future__ import annotations

import base64

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_milvus.demo.model import NAME as MODEL
from fiftyone_milvus.plugin import review
from tests.app.digits import Scans
from tests.plugin.browser import Browser
from tests.plugin.conftest import Run
from tests.plugin.test_manage import refuses
from tests.support import oracle
from tests.support.once import one_engine

COUNT, THRESH = 60, 0.05


@pytest.fixture
def indexed(digits: fo.Dataset, run: Run) -> fo.Dataset:
    run("create_index", digits, brain_key="mine", model=MODEL, metric="cosine")
    return digits


@one_engine
def test_groups(scans: Scans, indexed: fo.Dataset, run: Run) -> None:
    browser = Browser(indexed)
    form = browser.inputs("find_groups", brain_key="mine", thresh=THRESH)
    groups = indexed.load_brain_results("mine").find_groups(THRESH)
    assert len(groups) > 1
    assert str(groups) in str(form["preview"])
    pictures = form["largest"]["view"]["layout"]["images"]
    assert len(pictures) == sum(min(8, n) for n in sorted(groups.sizes, reverse=True)[:5])
    assert all(one["source"].startswith("data:image/jpeg;base64,") for one in pictures)

    numbers = dict(zip(*indexed.values(["id", "number"]), strict=True))
    square = oracle.distances("cosine", scans.vectors[:COUNT], scans.vectors[:COUNT])
    browser.run("find_groups", brain_key="mine", thresh=THRESH, keep="sharpest")
    assert "review them in the Milvus panel" in browser.said[-1][1]
    found = review.load(indexed, "mine")
    assert found is not None
    for number in found.numbers:
        members = [numbers[found.ids[i]] for i in found.members(number)]
        assert square[np.ix_(members, members)].max() <= THRESH
    browser.run("find_groups", brain_key="mine", thresh=THRESH, result="view")
    assert browser.shown() == groups.ids
    tagged = run(
        "find_groups", indexed, brain_key="mine", thresh=THRESH, keep="tag:", keep_by="x",
        result="tag", tag="twin",
    )  # fmt: skip
    assert len(indexed.match_tags("twin")) == len(tagged["ids"]) - max(tagged["groups"])
    nothing = {"brain_key": "mine", "thresh": 1e-9}
    assert run("find_groups", indexed, **nothing)["ids"] == []
    assert "Unknown keep" in refuses(run, "find_groups", indexed, keep="best", **nothing)
    assert "Unknown result" in refuses(run, "find_groups", indexed, result="x", **nothing)


@one_engine
def test_labels(indexed: fo.Dataset, run: Run) -> None:
    ids = indexed.values("id")
    right = indexed[ids[5]].ground_truth.label
    indexed.set_values(
        "ground_truth",
        {ids[5]: fo.Classification(label="zero" if right != "zero" else "one"), ids[7]: None},
        key_field="id",
    )
    indexed.reload()
    browser = Browser(indexed)
    assert "ground_truth" in browser.choices("predict_labels", "field", brain_key="mine")
    errors = indexed.load_brain_results("mine").find_label_errors("ground_truth")
    for operator in ("predict_labels", "find_label_errors"):
        form = browser.inputs(operator, brain_key="mine", field="ground_truth")
        (heatmap,) = form["confusion"]["view"]["data"]
        assert heatmap["text"] == errors.confusion.counts.tolist()
    browser.run("find_label_errors", brain_key="mine", field="ground_truth", save=True, tag="odd")
    assert browser.shown() == errors.ids[: errors.contradicted]
    assert ids[5] in browser.shown()
    assert {*indexed.match_tags("odd").values("id")} == {*browser.shown()}
    assert indexed[ids[5]].label_error_suggested == right
    few = run("find_label_errors", indexed, brain_key="mine", field="ground_truth", count=2)
    assert few["ids"] == errors.ids[:2]

    browser.run("predict_labels", brain_key="mine", field="ground_truth", into="ground_truth")
    assert "wrote 1 to 'ground_truth'" in browser.said[-1][1]
    indexed.reload()
    assert indexed[ids[7]].ground_truth.label is not None
    texts = "; ".join(f"{word} = the digit {word}" for word in ("zero", "one", "two", "three"))
    options = {"brain_key": "mine", "field": "digit", "by_text": True, "prompts": texts}
    result = run("predict_labels", indexed, **options)
    assert (result["into"], result["written"]) == ("digit_predicted", COUNT)
    indexed.reload()
    known = indexed.match(fo.ViewField("ground_truth.label").is_in(["zero", "one", "two"]))
    same = [a == b for a, b in zip(*known.values(["ground_truth.label", "digit_predicted.label"]))]
    assert np.mean(same) > 0.8
    assert "no field" in refuses(run, "predict_labels", indexed, brain_key="mine", field="nothing")


@one_engine
def test_leaks(scans: Scans, indexed: fo.Dataset, run: Run) -> None:
    ids, numbers = indexed.values(["id", "number"])
    indexed.limit(20).tag_samples("test")
    indexed.save_view("train", indexed.skip(20))
    square = oracle.distances("cosine", scans.vectors[:COUNT], scans.vectors[:COUNT])
    thresh = float(f"{np.quantile(square[:20, 20:], 0.02):.3g}")
    at = dict(zip(ids, numbers, strict=True))
    browser = Browser(indexed)
    given = {"brain_key": "mine", "samples": "tag:test", "others": "view:train", "thresh": thresh}
    assert "index:" not in str(browser.choices("find_leaks", "samples", brain_key="mine"))
    assert {"tag:test", "view:train"} <= {*browser.choices("find_leaks", "others")}
    form = browser.inputs("find_leaks", **given)
    true = {(i, j + 20) for i, j in zip(*np.nonzero(square[:20, 20:] <= thresh))}
    leaking = {i for i, _ in true}
    assert f"{len(true)} pairs within" in str(form["leaks"])
    pictures = form["closest"]["view"]["layout"]["images"]
    assert len(pictures) > min(5, len(leaking)), "each with another"
    browser.run("find_leaks", **given)
    shown = [at[i] for i in browser.shown()]
    assert {*shown} == {i for pair in true for i in pair}
    closest = min(true, key=lambda pair: square[pair])
    assert tuple(shown[:2]) == closest
    result = run("find_leaks", indexed, result="tag", **given)
    assert {(at[a], at[b]) for a, b, _ in result["pairs"]} == true
    assert {*indexed.match_tags("leak").values("number")} == leaking
    for wrong, said in (
        ({"samples": "test"}, "Invalid samples 'test'; expected 'tag:NAME' or 'view:NAME'"),
        ({"samples": "index:a/b"}, "Invalid samples 'index:a/b'"),
        ({"others": "tag:none"}, "No sample has the tag 'none'; there are"),
        ({"others": "view:none"}, "no saved view 'none'; there are 'train'"),
        ({"others": "index:none/x"}, "no index 'none/x'"),
        ({"others": "tag:test"}, "are in both parts"),
        ({"thresh": None}, "thresh"),
    ):
        assert said in refuses(run, "find_leaks", indexed, **{**given, **wrong})


@one_engine
def test_a_new_image(scans: Scans, indexed: fo.Dataset, run: Run) -> None:
    with open(scans.paths[7], "rb") as file:
        content = base64.b64encode(file.read()).decode()
    image = {"name": "new.png", "content": content}
    square = oracle.distances("cosine", scans.vectors[[7]], scans.vectors[:COUNT])[0]
    near = np.flatnonzero(square <= THRESH)
    browser = Browser(indexed)
    given = {"brain_key": "mine", "thresh": THRESH}
    assert "near" not in browser.inputs("check_new", **given)
    form = browser.inputs("check_new", image=image, **given)
    assert f"Nearly the same as {len(near)} within" in str(form["near"])
    assert len(form["closest"]["view"]["layout"]["images"]) == min(8, len(near))
    browser.run("check_new", image=image, **given)
    numbers = dict(zip(*indexed.values(["id", "number"]), strict=True))
    assert [numbers[i] for i in browser.shown()] == near[np.argsort(square[near])].tolist()
    assert browser.said[-1][0] == "warning"
    index = indexed.load_brain_results("mine")
    found = run("check_new", indexed, image=image, result="tag", **given)
    assert found["ids"] == index.check_new(scans.paths[7], THRESH).ids
    assert len(indexed.match_tags("like-new")) == len(near)
    blank = {"name": "x.png", "content": "eA=="}
    assert "x.png" in refuses(run, "check_new", indexed, image=blank, **given)


@one_engine
def test_drift_and_novelty(scans: Scans, indexed: fo.Dataset, run: Run) -> None:
    indexed.limit(40).tag_samples("old")
    indexed.skip(40).tag_samples("young")
    given = {"brain_key": "mine", "reference": "tag:old", "samples": "tag:young"}
    own = indexed.load_brain_results("mine")
    with own.use_view(indexed.match_tags("young")):
        expected = own.compare_datasets(indexed.match_tags("old"))
    browser = Browser(indexed)
    form = browser.inputs("compare_datasets", **given)
    assert str(expected) in str(form["drift"])
    assert sum(form["novelty"]["view"]["data"][0]["y"]) == 20
    assert len(form["novel"]["view"]["layout"]["images"]) == 24
    browser.run("compare_datasets", count=5, field="novelty", **given)
    assert browser.shown() == expected.ids[:5]
    square = oracle.distances("cosine", scans.vectors[40:COUNT], scans.vectors[:40])
    indexed.reload()
    stored = indexed.match_tags("young").values("novelty")
    np.testing.assert_allclose(stored, square.min(axis=1), atol=1e-5)
    whole = {**given, "samples": None}
    assert "are in both parts" in refuses(run, "compare_datasets", indexed, **whole)
    other = indexed.match_tags("old").clone()
    try:
        run("create_index", other, brain_key="theirs", model=MODEL, metric="cosine")
        name = f"index:{other.name}/theirs"
        assert name in browser.choices("compare_datasets", "reference", brain_key="mine")
        far = {**given, "reference": name, "result": "tag", "count": 3}
        found = run("compare_datasets", indexed, **far)
        assert found["ids"] == expected.ids[:3]
        assert {*found["reference_ids"]} <= {*other.values("id")}
        assert {*indexed.match_tags("novel").values("id")} == {*found["ids"]}
    finally:
        other.load_brain_results("theirs").cleanup()
        other.delete()


@one_engine
def test_ratings(indexed: fo.Dataset, run: Run) -> None:
    index = indexed.load_brain_results("mine")
    unique, center = index.compute_uniqueness(), index.compute_representativeness()
    browser = Browser(indexed)
    form = browser.inputs("rate_samples", brain_key="mine")
    assert str(unique) in str(form["rated"])
    assert sum(form["values"]["view"]["data"][0]["y"]) == COUNT
    assert len(form["ends"]["view"]["layout"]["images"]) == 16
    browser.run("rate_samples", brain_key="mine", count=5, field="unique")
    assert browser.shown() == unique.ids[:5]
    indexed.reload()
    stored = dict(zip(*indexed.values(["id", "unique"]), strict=True))
    assert stored == dict(zip(unique.ids, unique.values.tolist(), strict=True))
    given = {"brain_key": "mine", "what": "representativeness", "lowest": True, "count": 4}
    far = run("rate_samples", indexed, result="tag", **given)
    assert far["ids"] == center.ids[::-1][:4]
    assert len(indexed.match_tags("rated")) == 4
    assert "Unknown what 'size'" in refuses(
        run, "rate_samples", indexed, brain_key="mine", what="size"
    )
