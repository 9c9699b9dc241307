"""Takes the pictures of the documentation: ``make screenshots``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import pytest
from playwright.sync_api import expect

from fiftyone_milvus.plugin import installation
from tests.app.conftest import OpenApp, StartServer
from tests.app.digits import KEY, Scans
from tests.app.milvus_panel import MilvusPanelPage
from tests.app.page import AppPage
from tests.app.test_plugin import path  # noqa: F401

IMAGES = Path(__file__).parents[2] / "docs" / "images"


@pytest.fixture(scope="module")
def dataset(scans: Scans, path: Path) -> Iterator[fo.Dataset]:  # noqa: F811
    dataset = scans.dataset("handwritten-digits")
    scans.index(dataset, deployment="embedded")
    yield dataset
    dataset.delete()


@pytest.fixture
def app(dataset: fo.Dataset, start_server: StartServer, open_app: OpenApp) -> AppPage:
    installation.install()
    return open_app(start_server(), dataset)


def test_search(app: AppPage) -> None:
    app.search_by_text("a handwritten seven")
    app.screenshot(IMAGES / "app.png")


@pytest.mark.parametrize(("theme", "suffix"), [("dark", ""), ("light", "-light")])
def test_panel(app: AppPage, theme: str, suffix: str) -> None:
    if theme == "light":
        app.tab.locator('[data-testid="LightModeIcon"]').first.click()
    panel = MilvusPanelPage(app)
    panel.act(KEY, "Details")
    panel.click("Measure recall")
    panel.shows("recall@10")
    panel.click("Nearest distances")
    panel.shows("Distance to the nearest neighbor")
    app.screenshot(IMAGES / f"app-panel{suffix}.png")


def test_forms(app: AppPage) -> None:
    panel = MilvusPanelPage(app)
    panel.click("Create index")
    expect(panel.form).to_contain_text("Embeddings from")
    panel.checked()
    app.screenshot(IMAGES / "app-create.png")
    panel.dismiss()
    app.select(2, 4)
    panel.click("Search")
    panel.form.get_by_label("Options").check()
    expect(panel.form).to_contain_text("Distance field")
    panel.checked()
    app.screenshot(IMAGES / "app-search.png")
    panel.dismiss()
    panel.click("Near-duplicates")
    expect(panel.form).to_contain_text("with a neighbor")
    panel.checked()
    app.screenshot(IMAGES / "app-duplicates.png")
    panel.dismiss()
