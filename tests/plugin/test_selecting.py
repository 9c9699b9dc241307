"""Samples are selected in the App and from Python, as the index selects them."""

from __future__ import annotations

import fiftyone as fo

from fiftyone_milvus.plugin import selecting
from fiftyone_milvus.selections import Balanced, Diverse, Novel, Similar, Typical
from tests.app.digits import KEY
from tests.plugin.browser import Browser
from tests.plugin.conftest import Run
from tests.plugin.test_manage import refuses
from tests.plugin.test_search import indexed, patched  # noqa: F401
from tests.support.once import one_engine

pytestmark = one_engine


def test_in_the_app(indexed: fo.Dataset) -> None:  # noqa: F811
    index, ids = indexed.load_brain_results(KEY), indexed.values("id")
    indexed.limit(10).tag_samples("known")
    field = "ground_truth.label"
    given = {"n": 12, "typical": 0.5, "novel": 0.3, "novel_tag": "known", "balance": 2.0,
             "balanced": field, "seed": 4}  # fmt: skip
    strategies = [
        Diverse(), Typical(0.5), Novel(indexed.match_tags("known"), 0.3), Balanced(field, 2),
    ]  # fmt: skip
    expected = index.select(12, strategies, seed=4)
    browser = Browser(indexed)
    form = browser.inputs("select_samples", brain_key=KEY, **given)
    bars = form["coverage"]["view"]["data"][0]
    assert sum(bars["y"]) == len(ids)
    assert f"all within {expected.radius:.4g}" in str(form["selected"])
    for label, (chosen, total) in expected.counts[field].items():
        assert f"| {label} | {chosen} | {total} |" in form["selected"]["default"]
    browser.run("select_samples", brain_key=KEY, **given)
    assert browser.shown() == expected.ids
    assert f"12 of {len(ids)}" in browser.said[-1][1]
    browser.run("leave_results")
    assert browser.shown() == ids
    # Similar to what is selected in the grid, which is not selected again
    browser.select(ids[3])
    browser.run("select_samples", brain_key=KEY, n=4, diverse=0.0, similar=1.0)
    assert browser.shown() == index.select(4, Similar(ids[3])).ids
    # A preview may be older than what is done
    indexed.match_tags("known").untag_samples("known")
    indexed.skip(30).tag_samples("known")
    browser = Browser(indexed)
    browser.inputs("select_samples", brain_key=KEY, **given)
    browser.run("select_samples", brain_key=KEY, **given)
    strategies[2] = Novel(indexed.match_tags("known"), 0.3)
    assert browser.shown() == index.select(12, strategies, seed=4).ids


def test_from_python(patched: fo.Dataset, run: Run) -> None:  # noqa: F811
    index = patched.load_brain_results(KEY)
    found = run("select_samples", patched, brain_key=KEY, n=5, result="tag", tag="chosen")
    expected = index.select(5)
    assert found["ids"] == expected.ids
    assert found["reasons"] == expected.reasons
    tagged = patched.match_labels(tags="chosen").values("objects.detections.tags", unwind=2)
    assert tagged.count("chosen") == 5
    assert len(run("select_samples", patched, brain_key=KEY)["ids"]) == min(selecting.DEFAULT, 40)
    for params, said in (
        ({"n": 0}, "Invalid n 0"),
        ({"diverse": 0}, "no strategy"),
        ({"similar": 1}, "Select samples in the grid"),
        ({"novel": 1}, "Give novel_tag"),
        ({"novel": 1, "novel_tag": "none"}, "No sample has the tag 'none'"),
        ({"balance": 1}, "Give balanced"),
        ({"result": "none"}, "Unknown result 'none'"),
        ({"field": "label"}, "Invalid field 'label'"),
    ):
        assert said in refuses(run, "select_samples", patched, brain_key=KEY, **params)
