"""The real FiftyOne App in a real browser, offline."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import fiftyone as fo
import fiftyone.zoo as foz
import fiftyone.zoo.models as fozm
import pytest
from playwright.sync_api import Browser, sync_playwright

from fiftyone_milvus.demo import model
from tests.app.digits import Scans
from tests.app.page import AppPage
from tests.app.server import AppServer

# With a panel open, a narrower App hides its buttons in a menu
_VIEWPORT = {"width": 2000, "height": 1000}

# The App's switch for tests: no analytics, no hints that cover the grid
_INIT = "window.IS_PLAYWRIGHT = true"

StartApp = Callable[..., AppPage]


@pytest.fixture(scope="package", autouse=True)
def _panel() -> None:
    if importlib.util.find_spec("plugins.panels.similarity_search") is None:
        pytest.skip(f"the App of FiftyOne {fo.__version__} has no Similarity Search panel")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium where there is one, else the browser that Playwright downloaded."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scans]:
    """Digits, and their model in the zoo of this process and of those that it starts."""
    with pytest.MonkeyPatch.context() as context:
        context.setattr(fo.config, "model_zoo_dir", os.environ["FIFTYONE_MODEL_ZOO_DIR"])
        model.install()
        fozm._invalidate_zoo_models_manifest()
        yield Scans.draw(tmp_path_factory.mktemp("scans"), foz.load_zoo_model(model.NAME))
    fozm._invalidate_zoo_models_manifest()


@pytest.fixture(scope="module")
def start_app(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartApp]:
    """Starts an App's server with variables set (None: removed), and opens a dataset in it."""
    servers: list[AppServer] = []

    def start(dataset: fo.Dataset, environment: Mapping[str, str | None] | None = None) -> AppPage:
        log: Path = tmp_path_factory.mktemp("app") / "server.log"
        servers.append(AppServer(environment or {}, log))
        servers[-1].wait_ready()
        context = browser.new_context(viewport=_VIEWPORT)
        context.add_init_script(_INIT)
        context.set_default_timeout(30_000)
        page = AppPage(context.new_page(), servers[-1])
        page.open(dataset)
        return page

    yield start
    for server in servers:
        server.stop()
