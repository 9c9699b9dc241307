"""Python, another Python and the App on one embedded engine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from fiftyone_milvus import embedded
from tests.app.conftest import OpenApp
from tests.app.digits import COUNT, KEY, Scans
from tests.app.page import AppPage
from tests.app.server import AppServer
from tests.app.writers import WriterProcess, WriterThread

pytestmark = pytest.mark.app

THEIRS = range(100, 200)
MINE = range(200, 250)
STEADY = {*range(COUNT)} - {*THEIRS} - {*MINE}

TEXT = "a handwritten seven"


@pytest.fixture(scope="module")
def dataset(scans: Scans, path: Path) -> Iterator[fo.Dataset]:
    dataset = scans.dataset("shared-digits")
    yield dataset
    dataset.delete()


@pytest.fixture(scope="module")
def index(scans: Scans, dataset: fo.Dataset) -> Iterator[Any]:
    index = scans.index(dataset, deployment="embedded")
    yield index
    index.cleanup()


@pytest.fixture(scope="module")
def app(dataset: fo.Dataset, index: Any, default_server: AppServer, open_app: OpenApp) -> AppPage:
    return open_app(default_server, dataset)


@pytest.fixture
def writer(dataset: fo.Dataset, index: Any) -> Iterator[WriterProcess]:
    writer = WriterProcess(dataset.name, KEY, THEIRS)
    yield writer
    writer.kill()


def check_steady(scans: Scans, shown: Sequence[int], query: int | str) -> None:
    """What comes and goes may be there or not; nothing else may be missing or out of order."""
    true = scans.distances(query)
    assert len(shown) == len({*shown}) == 25
    assert [true[n] for n in shown] == sorted(true[n] for n in shown)
    found = [n for n in shown if n in STEADY]
    assert found == sorted(STEADY, key=true.__getitem__)[: len(found)]


def test_three_processes_write_and_search_one_index_at_once(
    app: AppPage,
    index: Any,
    scans: Scans,
    dataset: fo.Dataset,
    path: Path,
    writer: WriterProcess,
) -> None:
    ids = dict(zip(*dataset.values(["number", "id"]), strict=True))
    numbers = {_id: number for number, _id in ids.items()}

    def take_out() -> None:
        index.remove_from_index(sample_ids=[ids[n] for n in MINE])

    def put_back() -> None:
        index.add_to_index(scans.vectors[list(MINE)], [ids[n] for n in MINE])

    def search(query: int) -> list[int]:
        return [numbers[_id] for _id in index._kneighbors(query=ids[query], k=25)[0]]

    def write_and_search() -> None:
        take_out()
        check_steady(scans, search(7), 7)
        put_back()

    mine = WriterThread(write_and_search)
    before = writer.rounds
    check_steady(scans, app.search_by_image(3), 3)
    check_steady(scans, app.search_by_text(TEXT), TEXT)
    assert mine.rounds > 2, "this process was writing meanwhile"
    assert writer.rounds > before + 2, "the other process was writing meanwhile"
    mine.end()
    status = embedded.status(path)
    assert status is not None
    assert status.clients == 3, "this process, the other one and the App's server"

    take_out()
    writer.take_out()
    scans.check(app.search_by_image(3), 3, STEADY)
    scans.check(search(7), 7, STEADY)
    assert index.total_index_size == len(STEADY)

    put_back()
    writer.put_back()
    scans.check(app.search_by_text(TEXT), TEXT)
    scans.check(search(7), 7)
    assert index.total_index_size == COUNT


def test_the_app_survives_the_end_of_the_embedded_service(
    app: AppPage, index: Any, scans: Scans, path: Path
) -> None:
    scans.check(app.search_by_image(5), 5)
    status = embedded.status(path)
    assert status is not None
    os.kill(status.pid, signal.SIGKILL)

    scans.check(app.search_by_image(8), 8)
    again = embedded.status(path)
    assert again is not None
    assert again.pid != status.pid
    assert index.total_index_size == COUNT
