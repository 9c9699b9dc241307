"""Indexes are made, watched, searched and deleted by point-and-click."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from fiftyone.operators.delegated import DelegatedOperationService
from playwright.sync_api import expect

from fiftyone_milvus import inventory
from fiftyone_milvus.demo.model import NAME as MODEL
from fiftyone_milvus.plugin import installation
from tests.app.conftest import OpenApp
from tests.app.digits import COUNT, KEY, Scans
from tests.app.milvus_panel import MilvusPanelPage
from tests.app.page import AppPage
from tests.app.server import AppServer
from tests.support import oracle

pytestmark = pytest.mark.app

TEXT = "a handwritten seven"


@pytest.fixture(scope="module")
def dataset(scans: Scans, path: Path) -> Iterator[fo.Dataset]:
    dataset = scans.dataset("point-and-click")
    yield dataset
    dataset.delete()


@pytest.fixture(scope="module")
def app(dataset: fo.Dataset, default_server: AppServer, open_app: OpenApp) -> AppPage:
    installation.install()
    return open_app(default_server, dataset)


@pytest.fixture(scope="module")
def panel(app: AppPage) -> MilvusPanelPage:
    return MilvusPanelPage(app)


@pytest.fixture(autouse=True)
def _the_panel_is_left_as_it_was(panel: MilvusPanelPage) -> Iterator[None]:
    """A test that fails does not take the next ones with it."""
    yield
    panel.dismiss()
    panel.go_home()


def test_an_index_is_created(
    panel: MilvusPanelPage, app: AppPage, dataset: fo.Dataset, scans: Scans, path: Path
) -> None:
    panel.shows("This dataset has no Milvus index")
    panel.shows(str(path))
    panel.click("Create index")
    panel.field("Brain key").fill("no key")
    expect(panel.form).to_contain_text("Invalid brain key 'no key'")
    expect(panel.form.get_by_role("button", name="Execute")).to_be_disabled()
    panel.field("Brain key").fill(KEY)
    panel.choose("Model", MODEL)
    panel.execute()
    assert panel.says("has 300 vectors").endswith(f"Index '{KEY}' has {COUNT} vectors")
    panel.card(KEY, str(COUNT), "up to date", "cosine", "AUTOINDEX")

    # It is FiftyOne's own search that finds it now, and Python
    scans.check(app.search_by_image(3), 3)
    dataset.reload()
    found = dataset.load_brain_results(KEY).search(scans.vectors[7], k=25)
    numbers = dict(zip(*dataset.values(["id", "number"]), strict=True))
    scans.check([numbers[i] for i in found.ids], 7)
    app.clear()


def test_a_creation_that_fails_leaves_nothing(panel: MilvusPanelPage, dataset: fo.Dataset) -> None:
    before = {info.name for info in inventory.collections()}
    panel.click("Create index")
    panel.field("Brain key").fill("in_vain")
    box = panel.field("Model")
    box.fill("no-such-model")
    box.press("Tab")
    panel.execute()
    said = panel.says("no-such-model")
    assert "\n" not in said
    # What was typed is not lost
    panel.click("Open the form again")
    expect(panel.field("Brain key")).to_have_value("in_vain")
    panel.dismiss()
    dataset.reload()
    assert dataset.list_brain_runs() == [KEY]
    assert {info.name for info in inventory.collections()} == before


def test_details_and_measures(panel: MilvusPanelPage, dataset: fo.Dataset, scans: Scans) -> None:
    # A refresh that takes longer must not remove the details
    panel.refresh()
    panel.act(KEY, "More")
    panel.shows(MODEL)
    panel.click("Measure recall")
    panel.shows(re.compile(r"recall@10 1\.0000"))
    panel.click("Nearest distances")
    panel.shows("Distance to the nearest neighbor")
    panel.shows(re.compile(r"recall@10 1\.0000"))
    panel.click("Compare")
    panel.shows(re.compile(r"\d index types on 300 vectors; the star is AUTOINDEX"))
    expect(panel.content.locator(".scatterlayer .points path").first).to_be_visible()
    assert panel.outside() == []
    panel.act(KEY, "Less")


def test_neighbors_are_asked(panel: MilvusPanelPage, dataset: fo.Dataset) -> None:
    panel.act(KEY, "Groups")
    expect(panel.form).to_contain_text("within 0.0149 of each other")
    panel.execute()
    panel.says("review them in the Milvus panel")
    panel.act(KEY, "Duplicates")
    panel.shows("Group 1 of")
    dataset.reload()
    dataset.delete_sample_field("duplicates")


@pytest.mark.parametrize(
    ("size", "theme"), [((1280, 800), "light"), ((1600, 900), "dark")], ids=["small", "large"]
)
def test_everything_is_in_sight(panel: MilvusPanelPage, size: tuple[int, int], theme: str) -> None:
    with panel.window(*size, theme):
        curate = ("Unique", "Select", "Groups", "Labels", "Label errors")
        for button in ("Search", "Duplicates", "Map", "More", *curate):
            panel.in_sight(panel.card(KEY).get_by_role("button", name=button, exact=True))
        panel.in_sight(panel.content.get_by_role("button", name="Create index"))
        assert panel.outside() == []
        panel.act(KEY, "More")
        panel.shows(MODEL)
        panel.in_sight(panel.content.get_by_role("button", name="Compare", exact=True))
        assert panel.outside() == []
        panel.act(KEY, "Less")


def test_a_search_by_text_with_distances(
    panel: MilvusPanelPage, app: AppPage, dataset: fo.Dataset, scans: Scans
) -> None:
    panel.click("Search")
    panel.field("Text").last.fill(TEXT)
    panel.form.get_by_label("Options").check()
    panel.field("How many").fill("12")
    panel.field("Distance field").fill("far")
    panel.execute()
    said = panel.told("12 samples")
    true = scans.distances(TEXT)
    nearest = sorted(true, key=true.__getitem__)[:12]
    oracle.check_ranking(app.numbers(nearest), true, 12)
    assert f"{true[nearest[0]]:.3g}" in said
    dataset.reload()
    stored = dict(zip(*dataset.exists("far").values(["number", "far"]), strict=True))
    assert stored == pytest.approx({n: true[n] for n in nearest}, abs=1e-5)
    app.clear()


def test_a_search_by_selection(panel: MilvusPanelPage, app: AppPage, scans: Scans) -> None:
    app.select(2, 4)
    app.select(5, negative=True)
    panel.click("Search")
    expect(panel.form).to_contain_text("Selection (2 like, 1 unlike)")
    panel.form.get_by_label("Options").check()
    panel.field("How many").fill("9")
    panel.execute()
    panel.told("9 samples")
    query = 2 * scans.vectors[[2, 4]].mean(axis=0) - scans.vectors[5]
    distances = oracle.distances("cosine", query, scans.vectors)[0]
    true = dict(enumerate(distances.tolist()))
    nearest = sorted(true, key=true.__getitem__)[:9]
    oracle.check_ranking(app.numbers(nearest), true, 9)
    app.clear()


def test_a_search_by_an_uploaded_image(panel: MilvusPanelPage, app: AppPage, scans: Scans) -> None:
    panel.click("Search")
    panel.form.get_by_text("Image", exact=True).click()
    panel.form.locator("input[type=file]").set_input_files(scans.paths[70])
    expect(panel.form).to_contain_text("70.png")
    expect(panel.form.get_by_role("img", name="70.png")).to_be_visible()
    panel.form.get_by_label("Options").check()
    panel.field("How many").fill("9")
    panel.execute()
    panel.told("9 samples")
    true = scans.distances(70)
    nearest = sorted(true, key=true.__getitem__)[:9]
    oracle.check_ranking(app.numbers(nearest), true, 9)
    app.clear()


def test_duplicates_are_reviewed(
    panel: MilvusPanelPage, app: AppPage, dataset: fo.Dataset, scans: Scans
) -> None:
    distances = oracle.distances("cosine", scans.vectors, scans.vectors)
    np.fill_diagonal(distances, np.inf)
    panel.act(KEY, "Duplicates")
    # A click on a bar takes its upper end
    bar = panel.content.locator(".bars .point path").nth(4)
    expect(bar).to_be_visible()
    chosen = panel.content.locator("tbody tr", has_text="◀").get_by_role("cell")
    suggested = chosen.first.inner_text()
    panel.click_at_the_foot(bar)
    expect(chosen.first).not_to_have_text(suggested)
    # Neither what was suggested nor the bar's
    row = panel.content.locator("tbody tr", has_not_text="◀").filter(
        has_not_text=suggested.split()[0]
    )
    text = row.last.get_by_role("cell").first.inner_text()
    row.last.click()
    expect(chosen.first).to_contain_text(text)
    near = int((distances.min(axis=1) <= float(text)).sum())
    expect(chosen.nth(1)).to_have_text(f"{near} of {COUNT}")
    assert panel.outside() == []

    # What fits here fits in a larger window
    with panel.window(1280, 800):
        panel.in_sight(panel.content.get_by_role("button", name="Find groups"))
        panel.click("Find groups")
        panel.shows(re.compile(r"Group 1 of \d+"))
        expect(panel.content.get_by_role("img").nth(1)).to_be_visible()
        for button in ("Previous", "Next", "Delete duplicates", "Keep duplicates", "Undo"):
            panel.in_sight(panel.content.get_by_role("button", name=button, exact=True))
        assert panel.outside() == []
    panel.click("Next")
    panel.shows("Group 2 of")
    panel.click("Previous")
    panel.shows("Group 1 of")
    panel.click("Delete duplicates")
    panel.shows("Group 2 of")
    panel.click("Undo")
    panel.shows(" 0 to delete")
    panel.click("Delete all undecided")
    panel.says("are tagged to be deleted; Undo takes it back")
    assert panel.outside() == []
    panel.click("In the grid")
    expect(panel.content.page.locator('[data-cy="entry-counts"]')).to_contain_text("groups")
    dataset.reload()
    tagged = dataset.match_tags("duplicate-delete").values("number")
    rest = sorted({*range(COUNT)} - {*tagged})
    assert tagged
    groups = oracle.partition(distances, float(text))
    assert [len(group & {*rest}) for group in groups] == [1] * len(groups)
    assert {*tagged} == {i for group in groups for i in group} - {*rest}

    # A real one asks; so few that the others stay for the next tests
    panel.click("Undo")
    panel.shows(" 0 to delete")
    panel.content.get_by_role("button", name="Delete this one").last.click()
    panel.shows(" 1 to delete")
    panel.click("Delete 1 from the dataset ...")
    expect(panel.form).to_contain_text("Deletes 1 samples with the tag")
    panel.dismiss()
    app.clear()


def test_the_map_opens_in_fiftyones_panel(panel: MilvusPanelPage, dataset: fo.Dataset) -> None:
    panel.act(KEY, "Map")
    tab = panel.content.page
    run = tab.get_by_text(f"{KEY}_map", exact=True)
    expect(run.first).to_be_visible()
    dataset.reload()
    points = dataset.load_brain_results(f"{KEY}_map")
    assert {*points.sample_ids} == {*dataset.values("id")}
    panel.says("300 points")
    dataset.delete_brain_run(f"{KEY}_map")
    tab.get_by_text("Samples", exact=True).first.click()


def test_an_index_is_connected_to_a_collection(
    panel: MilvusPanelPage, dataset: fo.Dataset, scans: Scans
) -> None:
    name = dataset.get_brain_info(KEY).config.collection_name
    panel.click("Create index")
    panel.field("Brain key").fill("second")
    panel.form.get_by_text("A collection", exact=True).click()
    panel.choose("Collection", name)
    panel.execute()
    panel.says(f"Index 'second' has {COUNT} vectors")
    dataset.reload()
    found = dataset.load_brain_results("second").search(scans.vectors[7], k=25)
    numbers = dict(zip(*dataset.values(["id", "number"]), strict=True))
    scans.check([numbers[i] for i in found.ids], 7)
    dataset.delete_brain_run("second")
    panel.refresh()
    expect(panel.content.get_by_text(re.compile("^second — "))).to_have_count(0)


def test_work_is_scheduled(panel: MilvusPanelPage, dataset: fo.Dataset, scans: Scans) -> None:
    panel.click("Create index")
    panel.field("Brain key").fill("later")
    panel.choose("Model", MODEL)
    panel.schedule()
    panel.told("Operation successfully scheduled")
    dataset.reload()
    assert "later" not in dataset.list_brain_runs()

    # What `fiftyone delegated launch` does; in a thread, as the browser has this one's event loop
    service = DelegatedOperationService()
    run = {"dataset_name": dataset.name, "log": False}
    with ThreadPoolExecutor() as pool:
        pool.submit(service.execute_queued_operations, **run).result(120)
    panel.refresh()
    panel.card("later", str(COUNT), "up to date")
    dataset.reload()
    index = dataset.load_brain_results("later")
    assert {*index.sample_ids} == {*dataset.values("id")}
    index.cleanup()
    dataset.delete_brain_run("later")
    panel.refresh()
    expect(panel.content.get_by_text(re.compile("^later — "))).to_have_count(0)


def test_an_index_is_synced(panel: MilvusPanelPage, dataset: fo.Dataset, scans: Scans) -> None:
    dataset.delete_samples(dataset.match(fo.ViewField("number") < 3))
    dataset.add_samples(
        [fo.Sample(filepath=path, number=i) for i, path in enumerate(scans.paths[:2])]
    )
    panel.refresh()
    panel.card(KEY, "2 missing, 3 stale")
    panel.act(KEY, "Sync")
    panel.execute()
    assert "2 added, 3 removed" in panel.says("2 added")
    panel.card(KEY, "up to date", str(COUNT - 1))
    index = dataset.load_brain_results(KEY)
    assert {*index.sample_ids} == {*dataset.values("id")}


def test_orphans_are_cleaned_up(panel: MilvusPanelPage, scans: Scans) -> None:
    other = scans.dataset("soon-gone")
    index = scans.index(other, deployment="embedded")
    name = index.config.collection_name
    other.delete()
    panel.refresh()
    panel.shows("its dataset 'soon-gone' was deleted")
    panel.click("Clean up 1 ...")
    expect(panel.form).to_contain_text(name)
    panel.form.get_by_label("Yes, drop them with all their vectors").check()
    panel.execute()
    panel.told(f"Dropped {name}")
    assert name not in {info.name for info in inventory.collections()}


def test_an_index_is_renamed_and_deleted(panel: MilvusPanelPage, dataset: fo.Dataset) -> None:
    panel.act(KEY, "Rename")
    panel.field("New brain key").fill("other")
    panel.execute()
    panel.told("is now 'other'")
    panel.card("other", "up to date")
    panel.act("other", "Delete")
    expect(panel.form).to_contain_text(f"has {len(dataset)} vectors in collection")
    panel.form.get_by_label("Yes, delete it").check()
    panel.execute()
    panel.told("Deleted index 'other'")
    panel.shows("This dataset has no Milvus index")
    dataset.reload()
    assert dataset.list_brain_runs() == []
    assert inventory.collections() == []
