"""More like these, less like those: one click after a search in the App, against numpy."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import numpy as np

from fiftyone_milvus.plugin import searches
from tests.app.digits import KEY, Scans
from tests.plugin.browser import Browser
from tests.plugin.conftest import Run
from tests.plugin.test_manage import refuses
from tests.plugin.test_search import COUNT, indexed, patched  # noqa: F401
from tests.support import oracle
from tests.support.once import one_engine

pytestmark = one_engine
SEVEN = "a handwritten seven"


def unit(rows: Any) -> np.ndarray:
    rows = np.atleast_2d(np.asarray(rows, dtype=np.float64))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def nearest(scans: Scans, ids: list[str], query: np.ndarray, k: int) -> list[str]:
    distances = oracle.distances("cosine", query, scans.vectors[: len(ids)])[0]
    return [ids[i] for i in np.argsort(distances, kind="stable")[:k]]


def test_one_click_each(scans: Scans, indexed: fo.Dataset) -> None:  # noqa: F811
    browser = Browser(indexed)
    ids = indexed.values("id")
    rows, text = unit(scans.vectors[:COUNT]), unit(scans.model.embed_prompt(SEVEN))[0]
    low = indexed.limit(40)
    browser = Browser(indexed, low)
    browser.run("search", text=SEVEN, advanced=True, k=12)
    shown = browser.shown()
    more = [ids.index(i) for i in shown[2:4]]
    browser.select(*shown[2:4])
    assert f"from the search for “{SEVEN}”" in str(browser.inputs("more_like"))
    browser.run("more_like")
    liked = (text + rows[more].mean(axis=0)) / 2
    assert browser.shown() == nearest(scans, ids[:40], liked, 12)
    # What was chosen before stays a part of the question, until it is chosen otherwise
    shown = browser.shown()
    less = [more[0], ids.index(shown[-1])]
    browser.select(*(ids[i] for i in less))
    browser.run("less_like")
    liked = (text + rows[more[1]]) / 2
    query = 2 * liked - rows[less].mean(axis=0)
    assert browser.shown() == nearest(scans, ids[:40], query, 12)
    kept = searches.recent(indexed)[0]
    assert kept.title == f"{SEVEN}, 1 more, 2 less"
    # A distance goes on from the same question, and so does a repetition
    distances = np.sort(oracle.distances("cosine", query, scans.vectors[:40])[0])
    browser.run("choose_distance", max_distance=float(distances[4:6].mean()))
    assert browser.shown() == nearest(scans, ids[:40], query, 5)
    browser.run("leave_results")
    assert browser.shown() == ids[:40]
    browser.run("search", query="recent", recent=searches.recent(indexed)[0].key)
    assert browser.shown() == nearest(scans, ids[:40], query, 5)
    # Of a search within a distance, as many are shown, as distances to another question are others
    browser.select(browser.shown()[0])
    browser.run("more_like")
    assert len(browser.shown()) == 5


def test_without_a_search_to_go_on_from(
    scans: Scans,
    indexed: fo.Dataset,  # noqa: F811
    run: Run,
) -> None:
    ids = indexed.values("id")
    browser = Browser(indexed)
    browser.select(ids[3])
    browser.run("more_like")
    assert browser.shown() == nearest(scans, ids, scans.vectors[3], 25)
    context = {"selected": [ids[3]]}
    said = refuses(run, "less_like", indexed, ctx=context, brain_key=KEY)
    assert "no search to go on from" in said
    assert "Nothing is selected" in refuses(run, "more_like", indexed, brain_key=KEY)


def test_diverse_results_in_the_app(indexed: fo.Dataset, run: Run) -> None:  # noqa: F811
    index = indexed.load_brain_results(KEY)
    found = run("search", indexed, brain_key=KEY, text=SEVEN, k=10, diverse=0.5)
    assert found["ids"] == index.search(SEVEN, k=10, diverse=0.5).ids
    assert found["ids"] != index.search(SEVEN, k=10).ids
    said = refuses(run, "search", indexed, brain_key=KEY, text=SEVEN, diverse=2)
    assert "Invalid diverse 2" in said
    # A distance is chosen among all, whatever was shown
    browser = Browser(indexed)
    browser.run("search", text=SEVEN, advanced=True, k=10, diverse=0.9)
    assert browser.shown() == index.search(SEVEN, k=10, diverse=0.9).ids
    near = index.search(SEVEN, k=7)
    between = (near.distances[5] + near.distances[6]) / 2
    browser.run("choose_distance", max_distance=float(between))
    assert browser.shown() == near.ids[:6]


def test_patches_of_selected_samples(scans: Scans, patched: fo.Dataset) -> None:  # noqa: F811
    browser = Browser(patched)
    sample = patched.first()
    browser.select(sample.id)
    browser.run("search")
    labels = browser.shown()
    browser.select(*labels[3:5])
    browser.run("more_like")
    numbers = {d.id: int(d.number) for s in patched for d in s.objects.detections}
    rows = unit(scans.vectors[:40])
    query = unit(scans.vectors[:2].mean(axis=0))[0]
    liked = (query + rows[[numbers[i] for i in labels[3:5]]].mean(axis=0)) / 2
    assert browser.shown() == nearest(scans, sorted(numbers, key=numbers.__getitem__), liked, 25)
