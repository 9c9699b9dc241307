"""What the next search searches, how a result is left, and recent searches: in the App."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np
import pytest
from fiftyone import ViewField as F
from fiftyone.operators.executor import ExecutionContext
from fiftyone.operators.store import ExecutionStore

from fiftyone_milvus.plugin import distance_field, searches
from tests.app.digits import KEY, Scans
from tests.plugin.browser import Browser
from tests.plugin.test_search import COUNT, indexed, patched, truth  # noqa: F401
from tests.support import oracle
from tests.support.once import one_engine

pytestmark = one_engine

SEVEN, THREE = "a handwritten seven", "a handwritten three"


@pytest.fixture
def browser(indexed: fo.Dataset) -> Browser:  # noqa: F811
    return Browser(indexed)


def nearest(
    scans: Scans, dataset: fo.Dataset, text: str, among: Iterable[int] | None = None, k: int = 25
) -> list[str]:
    """The IDs of the samples nearest to a text, among some numbers, by numpy."""
    ids = dict(zip(*dataset.values(["number", "id"]), strict=True))
    true = scans.distances(text, [n for n in ids if among is None or n in {*among}])
    return [ids[n] for n in sorted(true, key=true.__getitem__)[:k]]


def test_a_second_search_searches_the_dataset(scans: Scans, browser: Browser) -> None:
    dataset = browser.dataset
    assert "target" not in browser.inputs("search")
    browser.run("search", text=SEVEN)
    assert browser.shown() == nearest(scans, dataset, SEVEN)
    assert browser.choices("search", "target") == {"view": "25 results", "dataset": "60 samples"}
    browser.run("search", text=THREE)
    assert browser.shown() == nearest(scans, dataset, THREE)
    # A user may choose to search the result
    numbers = dict(zip(*dataset.values(["id", "number"]), strict=True))
    among = [numbers[i] for i in browser.shown()]
    browser.run("search", text=SEVEN, target="view", advanced=True, k=5)
    assert browser.shown() == nearest(scans, dataset, SEVEN, among, 5)
    # And the search after that is not confined to it
    browser.run("search", text=THREE)
    assert browser.shown() == nearest(scans, dataset, THREE)


def test_other_operators_after_a_search(scans: Scans, browser: Browser) -> None:
    ids = dict(zip(*browser.dataset.values(["number", "id"]), strict=True))
    browser.run("search", text=SEVEN)
    browser.select(browser.shown()[0])
    found = browser.run("search", advanced=True, k=COUNT)
    assert {*found["ids"]} == {*ids.values()}
    image = {
        "name": "3.png",
        "content": base64.b64encode(Path(scans.paths[3]).read_bytes()).decode(),
    }
    assert len(browser.run("search", query="image", image=image, advanced=True, k=50)["ids"]) == 50
    low = browser.dataset.match(F("number") < 40)
    for operator, params, expected in (
        ("find_duplicates", {"thresh": 0.2}, "near-duplicates within 0.2"),
        ("find_unique", {"count": 40}, "40 unique samples"),
    ):
        browser = Browser(browser.dataset, low)
        browser.run("search", text=SEVEN)
        browser.run(operator, brain_key=KEY, **params)
        # Of the whole dataset, which is their default
        assert expected in browser.said[-1][1]
        assert len(browser.shown()) >= 30
        assert browser.choices("search", "target")["before"] == "40 filtered"
        browser.run("leave_results")
        assert browser.shown() == low.values("id")
    browser.run("search", text=SEVEN)
    # An index of a result is for those who ask for it
    assert browser.inputs("create_index")["target"]["default"] == "before"


def test_filters_of_the_sidebar(scans: Scans, browser: Browser) -> None:
    dataset = browser.dataset
    low, high = [*range(30)], {"number": {"_CLS": "int", "range": [30, 60]}}
    browser.filters = {"number": {"_CLS": "int", "range": [0, 29]}}
    assert browser.choices("search", "target") == {"view": "30 filtered", "dataset": "60 samples"}
    browser.run("search", text=SEVEN)
    assert browser.shown() == nearest(scans, dataset, SEVEN, low)
    assert browser.choices("search", "target") == {
        "view": "25 results",
        "before": "30 filtered",
        "dataset": "60 samples",
    }
    browser.run("search", text=THREE)
    assert browser.shown() == nearest(scans, dataset, THREE, low)
    # In the result, the sidebar can be used; it restricts the next search too, and not the result
    browser.filters = {"number": {"_CLS": "int", "range": [0, 9]}}
    assert {*browser.shown()} <= {*dataset.match(F("number") < 10).values("id")}
    browser.run("search", text=SEVEN)
    assert browser.shown() == nearest(scans, dataset, SEVEN, range(10))
    browser.run("leave_results")
    assert {*browser.shown()} == {*dataset.match(F("number") < 30).values("id")}
    # Without a result, there is nothing to leave
    stages = browser.stages
    browser.run("leave_results")
    assert browser.stages == stages
    browser.stages, browser.filters = [], high
    browser.run("search", text=SEVEN, target="dataset")
    assert browser.shown() == nearest(scans, dataset, SEVEN)
    browser.run("search", text=THREE)
    assert browser.shown() == nearest(scans, dataset, THREE)
    browser.run("leave_results")
    assert {*browser.shown()} == {*dataset.match(F("number") >= 30).values("id")}


def test_views_and_results_of_others(scans: Scans, browser: Browser) -> None:
    dataset = browser.dataset
    view = dataset.match(F("number") < 40)
    index = dataset.load_brain_results(KEY)
    # As a notebook shows it: a result of a search in a view
    index.use_view(view)
    found = index.search(SEVEN, k=10).view()
    index.use_view(dataset)
    tab = Browser(dataset, found)
    assert tab.choices("search", "target")["view"] == "10 results"
    tab.run("search", text=THREE)
    assert tab.shown() == nearest(scans, dataset, THREE, range(40))
    tab.run("leave_results")
    assert tab.shown() == view.values("id")
    # Who goes on from a result wants that
    tab = Browser(dataset, found.limit(4))
    assert tab.inputs("search")["target"]["default"] == "view"
    tab.run("search", text=THREE)
    assert {*tab.shown()} == {*found.limit(4).values("id")}
    tab = Browser(dataset, view)
    tab.run("search", text=SEVEN)
    assert tab.shown() == nearest(scans, dataset, SEVEN, range(40))


def test_a_saved_view_is_searched_and_shown_again(scans: Scans, browser: Browser) -> None:
    dataset = browser.dataset
    dataset.save_view("low", dataset.match(F("number") < 20))
    request = browser.request

    def named(operator: str, params: dict[str, Any]) -> dict[str, Any]:
        return {**request(operator, params), "view_name": "low"}

    browser.request = named  # type: ignore[method-assign]
    browser.run("search", text=SEVEN, advanced=True, k=5)
    browser.request = request  # type: ignore[method-assign]
    assert browser.shown() == nearest(scans, dataset, SEVEN, range(20), 5)
    shown = searches.recent(dataset)[0]
    assert shown.before["name"] == "low"


def test_patches(patched: fo.Dataset, scans: Scans) -> None:  # noqa: F811
    browser = Browser(patched)
    ids = patched.values("objects.detections.id", unwind=True)
    label = {"label_id": ids[4], "sample_id": patched.values("id")[2], "field": "objects"}
    browser.labels = [label]
    assert "(1 labels)" in browser.choices("search", "query")["selection"]
    found = browser.run("search", advanced=True, k=6, show_distances=True)
    oracle.check_ranking(found["ids"], truth(scans, ids, scans.vectors[4]), 6)
    assert browser.shown() == found["ids"]
    # The thumbnails are those of patches, which show it
    field = browser.fields[-1]
    assert field == distance_field.OWN
    view = ExecutionContext(browser.request("search", {})).view
    assert view.values(field) == pytest.approx(found["distances"])
    browser.labels = []
    browser.select(browser.shown()[0])
    assert len(browser.run("search", advanced=True, k=30)["ids"]) == 30
    browser.run("leave_results")
    assert browser.shown() == patched.values("id")


def test_distances_are_shown_and_are_no_edits(scans: Scans, browser: Browser) -> None:
    dataset = browser.dataset
    index = dataset.load_brain_results(KEY)
    edited = dataset.values("last_modified_at")
    text = "ground_truth.label != 'one'"
    allowed = [
        n
        for n, t in zip(*dataset.values(["number", "ground_truth.label"]), strict=True)
        if t != "one"
    ]
    index.sync_fields()
    before = index.search(SEVEN, k=40, filter=text).ids
    for words in (SEVEN, THREE):
        found = browser.run("search", text=words, show_distances=True)
        assert browser.fields == ["number", distance_field.OWN]
        assert browser.said[-1][0] == "success"
        dataset.reload()
        stored = dict(
            zip(*dataset.exists(distance_field.OWN).values(["id", distance_field.OWN]), strict=True)
        )
        # Those of the search before are gone
        assert stored == pytest.approx(dict(zip(found["ids"], found["distances"], strict=True)))
    browser.run("search", text=SEVEN, advanced=True, dist_field="far")
    # FiftyOne's own search, and its panel
    dataset.sort_by_similarity(SEVEN, k=5, brain_key=KEY, dist_field="near")
    assert dataset.exists("near").count() == 5
    dataset.reload()
    assert dataset.values("last_modified_at") == edited
    assert index._fields.fresh()
    view = dataset.match(F("ground_truth.label") != "one")
    index.use_view(view)
    assert index.search(SEVEN, k=40).ids == before == nearest(scans, dataset, SEVEN, allowed, 40)
    index.use_view(dataset)


def test_kept_ids_follow_distances(scans: Scans, browser: Browser) -> None:
    dataset = browser.dataset
    index = dataset.load_brain_results(KEY)
    for words in (SEVEN, THREE):
        found = browser.run("search", text=words, show_distances=True)
        # A view of the distances themselves: it changes with each search
        view = dataset.exists(distance_field.OWN).match(
            F(distance_field.OWN) < found["distances"][9] + 1e-9
        )
        dataset.reload()
        index.use_view(view)
        assert {*index.search(SEVEN, k=COUNT).ids} == {*found["ids"][:10]}
    index.use_view(dataset)


def test_a_field_that_an_index_holds_is_an_edit(
    scans: Scans, digits: fo.Dataset, engine: Any
) -> None:
    digits.add_sample_field("far", fo.FloatField)
    index = fob.compute_similarity(
        digits,
        backend="milvus",
        brain_key=KEY,
        embeddings=scans.vectors[:COUNT],
        metric="cosine",
        fields=["far"],
        **engine.kwargs,
    )
    assert index._fields.fresh()
    index.search(scans.vectors[3], k=5).view(dist_field="far")
    # The values in Milvus are not those of the dataset now, so they must not be used
    assert not index._fields.fresh()
    assert index.sync_fields().updated == 5


def test_an_error_keeps_what_was_typed(browser: Browser) -> None:
    typed = {"text": SEVEN, "advanced": True, "max_distance": "near"}
    browser.run("search", **typed)
    variant, said = browser.said[-1]
    assert variant == "error"
    assert "Invalid max_distance" in said
    assert browser.form is not None
    assert typed.items() <= browser.form.items()
    assert said in json.dumps(browser.inputs("search", **browser.form))
    # No results: the same
    browser.run("search", text=SEVEN, advanced=True, max_distance=-3.0)
    assert browser.form is not None
    assert browser.form["text"] == SEVEN
    assert "No results" in browser.form["problem"]
    # The next attempt starts without the problem
    browser.run("search", **{**browser.form, "max_distance": "near"})
    assert browser.form is not None
    assert "Invalid max_distance" in browser.form["problem"]


def test_the_form_checks_while_one_types(browser: Browser) -> None:
    def form(**params: Any) -> dict[str, Any]:
        return browser.inputs("search", text=SEVEN, advanced=True, **params)

    count = browser.dataset.match(F("ground_truth.label") == "seven").count()
    found = form(filter="ground_truth.label == 'seven'")
    assert not found["filter"]["invalid"]
    assert f"{count:,} of 60 vectors match" in json.dumps(found)
    assert "this index has ground_truth.label" in found["filter"]["view"]["description"]
    for bad, expected in {
        "ground_truth.lable == 'x'": "'ground_truth.lable' is no metadata field",
        "nonsense ===": "nonsense",
    }.items():
        found = form(filter=bad)
        assert found["filter"]["invalid"]
        assert expected in found["filter"]["error_message"]
    assert form(dist_field="number")["dist_field"]["invalid"]
    assert not form(dist_field="far")["dist_field"]["invalid"]


def test_negatives_and_images_are_shown(scans: Scans, browser: Browser) -> None:
    ids = browser.dataset.values("id")
    browser.select(ids[3], ids[5])
    assert "(2 samples)" in browser.choices("search", "query")["selection"]
    browser.select(ids[9], negative=True)
    assert "(2 like, 1 unlike)" in browser.choices("search", "query")["selection"]
    content = base64.b64encode(Path(scans.paths[70]).read_bytes()).decode()
    form = browser.inputs("search", query="image", image={"name": "70.png", "content": content})
    assert form["thumbnail"]["default"].startswith("data:image/png;base64,")
    form = browser.inputs("search", query="image", image={"name": "x", "content": "YWJj"})
    assert "can't be read as an image" in json.dumps(form)


def test_recent_searches(scans: Scans, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = browser.dataset
    ids = dataset.values("id")
    browser.select(ids[3], ids[5])
    browser.select(ids[9], negative=True)
    by_selection = browser.run("search", advanced=True, k=7)["ids"]
    image = {
        "name": "70.png",
        "content": base64.b64encode(Path(scans.paths[70]).read_bytes()).decode(),
    }
    by_image = browser.run("search", query="image", image=image)["ids"]
    browser.run("search", text=SEVEN, advanced=True, filter="ground_truth.label == 'seven'")
    by_text = browser.shown()
    expected = {SEVEN: by_text, "70.png": by_image, "2 like, 1 unlike": by_selection}
    assert [search.title for search in searches.recent(dataset)] == [*expected]
    kept = {search.title: search.key for search in searches.recent(dataset)}
    for title, found in expected.items():
        browser.run("search", query="recent", recent=kept[title])
        assert browser.shown() == found
    # Repeating one keeps no second one
    assert len(searches.recent(dataset)) == 3
    store = ExecutionStore.create(searches.STORE, dataset._doc.id)
    text = json.dumps([store.get(key) for key in store.list_keys()])
    assert not any(word in text for word in ("token", "password", "uri", "vector"))

    browser.run("search", query="recent", recent="gone")
    assert "not kept any more" in browser.said[-1][1]
    monkeypatch.setattr(searches, "KEPT", 4)
    for word in ("one", "two", "three"):
        browser.run("search", text=word)
    titles = [search.title for search in searches.recent(dataset)]
    assert len(titles) == 4
    assert titles[:3] == ["three", "two", "one"]
    monkeypatch.setattr(searches, "MAX_BYTES", 5_000)
    browser.run("search", query="image", image={**image, "name": "large.png"})
    # It can be left, but not repeated: the image is not kept
    assert "large.png" not in [search.title for search in searches.recent(dataset)]
    browser.run("leave_results")
    assert browser.shown() == ids
    assert browser.run("forget_searches")["forgotten"] == 4
    assert searches.recent(dataset) == []
    assert "recent" not in browser.choices("search", "query")


def test_a_distance_is_chosen_on_a_histogram(scans: Scans, browser: Browser) -> None:
    dataset = browser.dataset
    assert "Search first" in json.dumps(browser.inputs("choose_distance"))
    browser.filters = {"number": {"_CLS": "int", "range": [0, 39]}}
    browser.run("search", text=SEVEN, advanced=True, k=5)
    true = np.sort([*scans.distances(SEVEN, range(40)).values()])
    form = browser.inputs("choose_distance", max_distance=float(true[11]) + 1e-6)
    plot = form["distances"]["view"]
    assert sum(plot["data"][0]["y"]) == 40
    assert "**12** results within" in json.dumps(form)
    assert browser.inputs("choose_distance")["max_distance"]["default"] == pytest.approx(
        true[4], rel=1e-3
    )
    browser.run("choose_distance", max_distance=float(true[11]) + 1e-6)
    assert browser.shown() == nearest(scans, dataset, SEVEN, range(40), 12)
    # It is a result as well
    assert browser.choices("search", "target")["before"] == "40 filtered"
    browser.run("leave_results")
    assert {*browser.shown()} == {*dataset.match(F("number") < 40).values("id")}
