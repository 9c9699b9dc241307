"""The App on a Milvus server that its environment names."""

from __future__ import annotations

import re
from collections.abc import Iterator

import fiftyone as fo
import pytest

from fiftyone_milvus.plugin import installation
from tests.app.conftest import OpenApp
from tests.app.digits import COUNT, KEY, Scans
from tests.app.milvus_panel import MilvusPanelPage
from tests.app.page import AppPage
from tests.app.server import AppServer
from tests.conftest import Engine
from tests.faults.wire import Wire

pytestmark = [pytest.mark.app, pytest.mark.parametrize("engine", ["server"], indirect=True)]

TEXT = "a handwritten seven"


@pytest.fixture(scope="module")
def dataset(scans: Scans, engine: Engine) -> Iterator[fo.Dataset]:
    dataset = scans.dataset("handwritten-digits")
    index = scans.index(dataset, **engine.kwargs)
    yield dataset
    index.cleanup()
    dataset.delete()


@pytest.fixture(scope="module")
def app(dataset: fo.Dataset, engine_server: AppServer, open_app: OpenApp) -> AppPage:
    installation.install()
    return open_app(engine_server, dataset)


def test_the_app_searches_the_server_that_its_environment_names(app: AppPage, scans: Scans) -> None:
    scans.check(app.search_by_image(3), 3)


def test_it_finds_what_python_has_just_written(
    app: AppPage, dataset: fo.Dataset, scans: Scans
) -> None:
    index = dataset.load_brain_results(KEY)
    ids = dict(zip(*dataset.values(["number", "id"]), strict=True))
    true = scans.distances(TEXT)
    gone = sorted(true, key=true.__getitem__)[:3]
    index.remove_from_index(sample_ids=[ids[n] for n in gone])
    scans.check(app.search_by_text(TEXT), TEXT, {*range(COUNT)} - {*gone})
    index.add_to_index(scans.vectors[gone], [ids[n] for n in gone])
    scans.check(app.search_by_text(TEXT), TEXT)


def test_a_server_that_is_gone_is_one_line_in_the_panel(app: AppPage, wire: Wire) -> None:
    wire.cut()
    toast, card = app.fail_to_search(TEXT, wire.uri)
    for message in (toast, card):
        assert wire.uri in message
        assert "\n" not in message
        assert "Traceback" not in message


def test_the_panel_says_so_until_the_server_is_back(app: AppPage, wire: Wire) -> None:
    """The server is gone, from the test before."""
    panel = MilvusPanelPage(app)
    panel.shows("Milvus does not answer.")
    panel.shows(wire.uri)
    panel.card(KEY, "no answer")

    wire.mend()
    panel.refresh()
    panel.shows("answers in")
    panel.card(KEY, str(COUNT), "up to date", "HNSW")
    show = re.compile(r"Show \d+ collections? of this Milvus")
    panel.content.get_by_role("button", name=show).click()
    panel.shows("fiftyone_handwritten_digits_similar")
