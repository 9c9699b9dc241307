"""Takes the pictures of the documentation: ``make screenshots``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import pytest
from playwright.sync_api import expect

from fiftyone_milvus.plugin import installation
from tests.app import tiles
from tests.app.conftest import OpenApp, StartServer
from tests.app.digits import KEY, Scans
from tests.app.milvus_panel import MilvusPanelPage
from tests.app.page import AppPage
from tests.app.server import AppServer

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SIZE = {"width": 1600, "height": 900}


@pytest.fixture(scope="module")
def digits(scans: Scans, path: Path) -> Iterator[fo.Dataset]:
    dataset = scans.dataset("handwritten-digits")
    scans.index(dataset, deployment="embedded")
    yield dataset
    dataset.delete()


@pytest.fixture(scope="module")
def photos(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    dataset = tiles.dataset("photos", tmp_path_factory.mktemp("tiles"))
    yield dataset
    dataset.delete()


@pytest.fixture(scope="module")
def server(path: Path, start_server: StartServer) -> AppServer:
    installation.install()
    return start_server()


@pytest.fixture
def app(digits: fo.Dataset, server: AppServer, open_app: OpenApp) -> AppPage:
    return opened(open_app(server, digits))


@pytest.fixture
def photo_app(photos: fo.Dataset, server: AppServer, open_app: OpenApp) -> AppPage:
    return opened(open_app(server, photos))


def opened(app: AppPage) -> AppPage:
    app.tab.set_viewport_size(SIZE)
    app.show_pictures()
    return app


def test_search(app: AppPage) -> None:
    app.search_by_text("a handwritten seven")
    app.screenshot(IMAGES / "app.png")


@pytest.mark.parametrize(("theme", "suffix"), [("dark", ""), ("light", "-light")])
def test_panel(photo_app: AppPage, theme: str, suffix: str) -> None:
    panel = MilvusPanelPage(photo_app)
    panel.go_home()
    panel.show_theme(theme)
    panel.act(tiles.KEY, "More")
    panel.click("Compare")
    panel.shows("the star is")
    expect(panel.content.locator(".scatterlayer .points path").first).to_be_visible()
    photo_app.screenshot(IMAGES / f"app-panel{suffix}.png")
    panel.act(tiles.KEY, "Less")
    panel.show_theme("dark")


def test_duplicates(photo_app: AppPage) -> None:
    panel = MilvusPanelPage(photo_app)
    panel.go_home()
    panel.act(tiles.KEY, "Duplicates")
    panel.shows("cumulative")
    expect(panel.content.locator(".bars .point path").first).to_be_visible()
    row = panel.content.locator("tbody tr").nth(3)
    row.click()
    expect(row).to_contain_text("◀")
    photo_app.screenshot(IMAGES / "app-distance.png")
    panel.click("Find groups")
    for number in range(1, 7):
        panel.shows(f"Group {number} of")
        panel.click("Delete duplicates")
    panel.shows("Group 7 of")
    photo_app.screenshot(IMAGES / "app-duplicates.png")
    panel.go_home()


def test_map(photo_app: AppPage) -> None:
    panel = MilvusPanelPage(photo_app)
    panel.go_home()
    panel.act(tiles.KEY, "Map")
    tab = photo_app.tab
    tab.get_by_text(f"{tiles.KEY}_map", exact=True).first.click()
    tab.wait_for_timeout(4000)
    tab.screenshot(path=IMAGES / "app-map.png")


def test_forms(app: AppPage) -> None:
    panel = MilvusPanelPage(app)
    panel.click("Create index")
    expect(panel.form).to_contain_text("Embeddings from")
    panel.checked()
    app.screenshot(IMAGES / "app-create.png")
    panel.dismiss()
    app.select(2, 4)
    panel.act(KEY, "Search")
    panel.form.get_by_label("Options").check()
    expect(panel.form).to_contain_text("Distance field")
    panel.checked()
    app.screenshot(IMAGES / "app-search.png")
    panel.dismiss()
