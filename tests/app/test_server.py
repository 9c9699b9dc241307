"""The App on a Milvus server that its environment names."""

from __future__ import annotations

import re
from collections.abc import Iterator

import fiftyone as fo
import pytest

from fiftyone_milvus.plugin import installation
from tests.app.conftest import OpenApp, StartServer
from tests.app.digits import COUNT, KEY, Scans
from tests.app.milvus_panel import MilvusPanelPage
from tests.app.page import AppPage
from tests.support.servers import MilvusServer

pytestmark = pytest.mark.app

TEXT = "a handwritten seven"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A server of this module's own, which ends it."""
    server = MilvusServer.start("plain", tmp_path_factory.mktemp("milvus") / "data")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def dataset(scans: Scans, server: MilvusServer) -> Iterator[fo.Dataset]:
    dataset = scans.dataset("handwritten-digits")
    scans.index(dataset, **server.kwargs)
    yield dataset
    dataset.delete()


@pytest.fixture(scope="module")
def app(
    dataset: fo.Dataset, server: MilvusServer, start_server: StartServer, open_app: OpenApp
) -> AppPage:
    installation.install()
    app_server = start_server({"FIFTYONE_BRAIN_SIMILARITY_MILVUS_URI": server.uri})
    return open_app(app_server, dataset)


def test_the_app_searches_the_server_that_its_environment_names(app: AppPage, scans: Scans) -> None:
    scans.check(app.search_by_image(3), 3)
    scans.check(app.search_by_text(TEXT), TEXT)


def test_a_server_that_is_gone_is_one_line_in_the_panel(app: AppPage, server: MilvusServer) -> None:
    server.kill()
    toast, card = app.fail_to_search(TEXT, server.uri)
    for message in (toast, card):
        assert server.uri in message
        assert "\n" not in message
        assert "Traceback" not in message


def test_the_panel_says_so_until_the_server_is_back(
    app: AppPage, server: MilvusServer, scans: Scans
) -> None:
    """The server is down, from the test before."""
    panel = MilvusPanelPage(app)
    panel.shows("Milvus does not answer.")
    panel.shows(server.uri)
    panel.card(KEY, "no answer")

    server.restart()
    panel.refresh()
    panel.shows("answers in")
    panel.card(KEY, str(COUNT), "up to date", "HNSW")
    panel.click("Show 1 collection of this Milvus")
    panel.shows("fiftyone_handwritten_digits_similar")


def test_wrong_credentials_are_one_line_in_the_panel(
    scans: Scans, auth_server: MilvusServer, start_server: StartServer, open_app: OpenApp
) -> None:
    dataset = scans.dataset("locked-out")
    app_server = start_server(
        {
            "FIFTYONE_BRAIN_SIMILARITY_MILVUS_URI": auth_server.uri,
            "FIFTYONE_BRAIN_SIMILARITY_MILVUS_USER": "root",
            "FIFTYONE_BRAIN_SIMILARITY_MILVUS_PASSWORD": "not-the-password",
        }
    )
    panel = MilvusPanelPage(open_app(app_server, dataset))
    panel.shows(re.compile(r"Milvus does not answer\. [^\n]*(user|password|token)"))
    assert "not-the-password" not in panel.content.inner_text()
    dataset.delete()
