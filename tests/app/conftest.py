"""The real FiftyOne App in a real browser, offline."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import fiftyone as fo
import fiftyone.zoo as foz
import fiftyone.zoo.models as fozm
import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from fiftyone_milvus import embedded
from fiftyone_milvus.demo import model
from tests.app.digits import Scans
from tests.app.page import VIEWPORT, AppPage
from tests.app.server import AppServer
from tests.conftest import Engine
from tests.faults.wire import Wire
from tests.support import environment
from tests.support.indexes import credentials
from tests.support.servers import MilvusServer
from tests.support.trained import trained_once

# The App's switch for tests: no analytics, no hints that cover the grid. Nothing moves: what does
# must come to rest before it can be clicked. The App asks for a frame after each other one, even
# where nothing changes: some of them a second are enough, and cost a third less where it waits
_INIT = """
window.IS_PLAYWRIGHT = true
window.requestAnimationFrame = draw => setTimeout(() => draw(performance.now()), 60)
window.cancelAnimationFrame = clearTimeout
document.addEventListener("DOMContentLoaded", () => {
    const style = document.createElement("style")
    style.textContent =
        "*, *::before, *::after { animation: none !important; transition: none !important }"
    document.head.append(style)
})
"""

# Each picture in the grid is a layer of its own, which the browser looks at for all that it draws:
# a sixth of its time. What tests read there are the numbers on top. Where a test is about all that
# a user sees, AppPage.show_pictures undoes it
_NO_PICTURES = """
document.addEventListener("DOMContentLoaded", () => {
    const style = document.createElement("style")
    style.id = "no-pictures"
    style.textContent = '[data-cy="fo-grid"] canvas { display: none !important }'
    document.head.append(style)
})
"""

# In a small heap, garbage is collected again and again: 7 % of a trace of a walk
_HEAP = "--min-semi-space-size=32 --max-semi-space-size=64 --initial-heap-size=512"

# A test that goes well does not wait; where others use the cores too, 5 seconds are not enough
_PATIENCE = 180_000
expect.set_options(timeout=_PATIENCE)

# FiftyOne loads each plugin again for each request, which is most of what a click costs, unless it
# is told to look first whether they have changed. The server's App does as FiftyOne does by itself
_CACHED = {"FIFTYONE_PLUGINS_CACHE_ENABLED": "true"}

StartServer = Callable[..., AppServer]
OpenApp = Callable[..., AppPage]


@pytest.fixture(scope="package", autouse=True)
def _panel() -> None:
    if importlib.util.find_spec("plugins.panels.similarity_search") is None:
        pytest.skip(f"the App of FiftyOne {fo.__version__} has no Similarity Search panel")


@pytest.fixture(scope="package")
def wire(milvus_server: MilvusServer) -> Wire:
    """What the App reaches the server by, to be cut."""
    return Wire(milvus_server.port)


@pytest.fixture(scope="package", params=["embedded", "server"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn, for all modules that test both."""
    if request.param == "server":
        server, wire = (request.getfixturevalue(name) for name in ("milvus_server", "wire"))
        return Engine("server", {**server.kwargs, "uri": wire.uri})
    return Engine("embedded", {"uri": str(request.getfixturevalue("_embedded_session_path"))})


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A browser for all tests of the App; without one, they are deselected."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=environment.browser(),
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                f"--js-flags={_HEAP}",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def scans(common: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scans]:
    """Digits, and their model in the zoo of this process and of those that it starts."""
    with pytest.MonkeyPatch.context() as context:
        folder = os.environ["FIFTYONE_MODEL_ZOO_DIR"]
        context.setattr(fo.config, "model_zoo_dir", folder)
        with trained_once(common):
            model.install()
        _forget_models()
        yield Scans.draw(tmp_path_factory.mktemp("scans"), foz.load_zoo_model(model.NAME))
    _forget_models()


def _forget_models() -> None:
    # Older versions of FiftyOne read the zoo's manifests each time
    getattr(fozm, "_invalidate_zoo_models_manifest", lambda: None)()


@pytest.fixture(scope="module")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts an App's server with variables set over this process' (None: removed)."""
    servers: list[AppServer] = []

    def start(environment: Mapping[str, str | None] | None = None) -> AppServer:
        log = tmp_path_factory.mktemp("app") / "server.log"
        servers.append(AppServer(environment or {}, log))
        servers[-1].wait_ready()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="package")
def engine_server(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """An App's server whose environment names the engine, for all modules that test both."""
    environment = {**credentials(engine.kwargs), **(_CACHED if engine.name == "embedded" else {})}
    server = AppServer(environment, tmp_path_factory.mktemp("app") / "server.log")
    server.wait_ready()
    yield server
    server.stop()


@pytest.fixture(scope="package")
def path() -> Iterator[Path]:
    """The default place of the embedded engine, for this process and those that it starts."""
    folder = Path(tempfile.mkdtemp(prefix="fom-"))
    with pytest.MonkeyPatch.context() as context:
        context.setenv("FIFTYONE_MILVUS_PATH", str(folder / "app.db"))
        yield folder / "app.db"
    embedded.stop(folder / "app.db")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="package")
def default_server(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """An App's server that knows of Milvus only the default place of the embedded engine."""
    # Without an orchestrator of FiftyOne's Enterprise edition, "Schedule" must be allowed
    environment = {**_CACHED, "FIFTYONE_ALLOW_LEGACY_ORCHESTRATORS": "true"}
    server = AppServer(environment, tmp_path_factory.mktemp("app") / "server.log")
    server.wait_ready()
    yield server
    server.stop()


@pytest.fixture(scope="package")
def open_app(browser: Browser) -> Iterator[OpenApp]:
    """Opens a dataset in a new tab, which takes the place of the last one."""
    # One for all, which compiles the App's code once
    context = browser.new_context(viewport=VIEWPORT, reduced_motion="reduce")
    context.add_init_script(_INIT + _NO_PICTURES)
    context.set_default_timeout(_PATIENCE)

    def close() -> None:
        # A tab costs a fifth of a processor even where nobody looks at it
        for tab in context.pages:
            tab.close()

    def open_(
        server: AppServer, dataset: fo.Dataset, numbers: Mapping[str, int] | None = None
    ) -> AppPage:
        close()
        return AppPage(context.new_page(), server.url, dataset, numbers)

    yield open_
    context.close()
