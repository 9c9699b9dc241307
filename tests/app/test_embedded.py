"""Python, another Python and the App on one embedded engine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from fiftyone_milvus import embedded
from tests.app.conftest import StartApp
from tests.app.digits import COUNT, KEY, Scans
from tests.app.page import AppPage
from tests.support.processes import alive

pytestmark = pytest.mark.app

THEIRS = range(100, 200)
MINE = range(200, 250)
STEADY = {*range(COUNT)} - {*THEIRS} - {*MINE}

WRITER = Path(__file__).with_name("writer.py")


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    """The default place of the embedded engine, for this process and those that it starts."""
    folder = Path(tempfile.mkdtemp(prefix="fom-"))
    with pytest.MonkeyPatch.context() as context:
        context.setenv("FIFTYONE_MILVUS_PATH", str(folder / "app.db"))
        yield folder / "app.db"
    embedded.stop(folder / "app.db")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def dataset(scans: Scans, path: Path) -> Iterator[fo.Dataset]:
    dataset = scans.dataset("handwritten-digits")
    yield dataset
    dataset.delete()


@pytest.fixture(scope="module")
def index(scans: Scans, dataset: fo.Dataset) -> Any:
    return scans.index(dataset, deployment="embedded")


@pytest.fixture(scope="module")
def app(dataset: fo.Dataset, index: Any, start_app: StartApp) -> AppPage:
    return start_app(dataset)


@pytest.fixture
def writer(dataset: fo.Dataset, index: Any) -> Iterator[subprocess.Popen[str]]:
    arguments = [dataset.name, KEY, str(THEIRS[0]), str(THEIRS[-1])]
    process = subprocess.Popen(
        [sys.executable, str(WRITER), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


class Loop:
    """Repeats something in a thread, and counts."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.rounds = 0
        self._action = action
        self._stop = threading.Event()
        self._problem: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._action()
                self.rounds += 1
        except Exception as error:
            self._problem = error

    def end(self) -> None:
        self._stop.set()
        self._thread.join(30)
        if self._problem is not None:
            raise self._problem


def say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_three_processes_write_and_search_one_index_at_once(
    app: AppPage,
    index: Any,
    scans: Scans,
    dataset: fo.Dataset,
    path: Path,
    writer: subprocess.Popen[str],
) -> None:
    ids = dict(zip(*dataset.values(["number", "id"]), strict=True))
    numbers = {_id: number for number, _id in ids.items()}

    def search(query: int) -> list[int]:
        return [numbers[_id] for _id in index._kneighbors(query=ids[query], k=25)[0]]

    def mine_out() -> None:
        index.remove_from_index(sample_ids=[ids[n] for n in MINE])

    def mine_in() -> None:
        index.add_to_index(scans.vectors[list(MINE)], [ids[n] for n in MINE])

    def check_steady(shown: list[int], query: int | str) -> None:
        """What comes and goes may be there or not; nothing else may be missing or misplaced."""
        true = scans.distances(query)
        assert [true[n] for n in shown] == sorted(true[n] for n in shown)
        assert len(shown) == len({*shown}) == 25
        steady = sorted(STEADY, key=true.__getitem__)
        found = [n for n in shown if n in STEADY]
        assert found == steady[: len(found)]

    def mine_round() -> None:
        mine_out()
        check_steady(search(7), 7)
        mine_in()

    assert writer.stdout is not None
    assert writer.stdout.readline() == "round\n"
    theirs = Loop(writer.stdout.readline)
    mine = Loop(mine_round)
    for query in (3, 14):
        before = mine.rounds, theirs.rounds
        check_steady(app.search_by_image(query), query)
        assert mine.rounds > before[0], "this process was writing meanwhile"
        assert theirs.rounds > before[1], "the other process was writing meanwhile"
    check_steady(app.search_by_text("a handwritten seven"), "a handwritten seven")
    status = embedded.status(path)
    assert status is not None
    assert status.clients == 3

    mine.end()
    mine_out()
    theirs.end_after(say, writer) if False else None
    say(writer)
    raise NotImplementedError
