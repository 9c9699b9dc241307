"""One search after another in a small window, as a user does it."""

from __future__ import annotations

from collections.abc import Iterator

import fiftyone as fo
import numpy as np
import pytest
from playwright.sync_api import expect

from fiftyone_milvus.plugin import installation
from tests.app.conftest import OpenApp
from tests.app.digits import COUNT, KEY, Scans
from tests.app.milvus_panel import MilvusPanelPage
from tests.app.server import AppServer
from tests.conftest import Engine
from tests.support import oracle
from tests.support.once import one_engine

pytestmark = pytest.mark.app

SEVEN, THREE = "a handwritten seven", "a handwritten three"


@pytest.fixture
def dataset(scans: Scans, engine: Engine) -> Iterator[fo.Dataset]:
    dataset = scans.dataset(f"searching-{engine.name}")
    index = scans.index(dataset, fields=["ground_truth.label"], **engine.kwargs)
    yield dataset
    index.cleanup()
    dataset.delete()


@one_engine
def test_searches_in_a_small_window(
    dataset: fo.Dataset, scans: Scans, engine_server: AppServer, open_app: OpenApp
) -> None:
    installation.install()
    app = open_app(engine_server, dataset)
    app.show_pictures()  # all as a user sees it
    app.tab.set_viewport_size({"width": 1280, "height": 800})
    panel = MilvusPanelPage(app)

    def nearest(text: str, k: int = 25) -> list[int]:
        true = scans.distances(text)
        return sorted(true, key=true.__getitem__)[:k]

    def search(text: str, *, distances: bool = False) -> None:
        panel.click("Search")
        panel.field("Text").last.fill(text)
        if distances:
            panel.form.get_by_text("Show distances", exact=True).click()
        panel.checked()
        panel.field("Text").last.press("Enter")
        assert app.numbers(nearest(text)) == nearest(text)

    search(SEVEN)
    # The first result is no limit of the second search, which also shows distances
    search(THREE, distances=True)
    first = f"{scans.distances(THREE)[nearest(THREE)[0]]:.3f}".rstrip("0")
    thumbnail = app.tab.locator('[data-cy="fo-grid"] [data-cy="looker"]').filter(has_text=first)
    expect(thumbnail.first).to_contain_text(str(nearest(THREE)[0]))
    panel.content.get_by_role("button", name=f"Back to {COUNT} samples").click()
    app.await_samples(COUNT)
    app.numbers([])

    # What is wrong is said while one types
    panel.click("Search")
    panel.field("Text").last.fill(SEVEN)
    panel.form.get_by_label("Options").check()
    panel.field("Filter").fill("ground_truth.lable == 'one'")
    expect(panel.form).to_contain_text("'ground_truth.lable' is no metadata field")
    expect(panel.form.get_by_role("button", name="Execute")).to_be_disabled()
    panel.field("Filter").fill("ground_truth.label == 'one'")
    expect(panel.form).to_contain_text(f"of {COUNT} vectors match")
    panel.dismiss()

    # What only the search finds out opens the form again, as it was
    index = dataset.load_brain_results(KEY)
    index.remove_from_index(sample_ids=dataset.values("id")[2:3])
    app.select(2)
    panel.click("Search")
    expect(panel.form).to_contain_text("Selection (1 samples)")
    panel.form.get_by_label("Options").check()
    panel.field("How many").fill("9")
    panel.execute()
    expect(panel.form).to_contain_text("Nothing of the selection is in index")
    expect(panel.field("How many")).to_have_value("9")

    panel.form.get_by_text("Recent", exact=True).click()
    panel.form.get_by_role("combobox").click()
    app.tab.get_by_role("option", name=SEVEN).click()
    expect(panel.form).to_contain_text(f"{SEVEN}: index {KEY}")
    panel.execute()
    assert app.numbers(nearest(SEVEN)) == nearest(SEVEN)

    panel.content.get_by_role("button", name="Distances", exact=True).click()
    expect(panel.form).to_contain_text(f"Distances to “{SEVEN}”")
    expect(panel.form).to_contain_text("25 results within")
    panel.dismiss()

    # One click above the grid goes on from this search, by what is selected among its results
    liked = nearest(SEVEN)[3:5]
    for number in liked:
        app.select(number)
    # Next to a panel, there is no room for its button in a small window
    app.tab.set_viewport_size({"width": 2600, "height": 900})
    app.tab.locator('[data-item-id="@fiftyone-milvus/milvus/more_like"]').click()
    vectors = scans.vectors[:COUNT] / np.linalg.norm(scans.vectors[:COUNT], axis=1, keepdims=True)
    text = scans.model.embed_prompt(SEVEN)
    query = text / np.linalg.norm(text) + vectors[liked].mean(axis=0)
    true = dict(enumerate(oracle.distances("cosine", query, vectors)[0]))
    del true[2]
    expected = sorted(true, key=true.__getitem__)[:25]
    assert app.numbers(expected) == expected
