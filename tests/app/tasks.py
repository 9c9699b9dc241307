"""Counts the clicks and seconds of common tasks in the App: ``make tasks``.

Clicks are presses of the mouse; what is typed is not counted. Seconds are from the first click
until the App shows the result, with a machine that clicks at once: what a person waits for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fiftyone as fo

from fiftyone_milvus.demo.model import NAME as MODEL
from fiftyone_milvus.plugin import installation
from tests.app import tiles
from tests.app.conftest import OpenApp, StartServer
from tests.app.digits import KEY, Scans
from tests.app.milvus_panel import MilvusPanelPage

# A click on a label is followed by one of its box, which nobody makes: it has no position
_COUNTER = """
window.clicks = 0
if (!window.counts) {
    window.counts = true
    const count = event => { if (event.isTrusted && event.clientX !== 0) window.clicks++ }
    document.addEventListener("click", count, true)
}
"""


@contextmanager
def counted(panel: MilvusPanelPage, task: str) -> Iterator[None]:
    tab = panel.content.page
    tab.evaluate(_COUNTER)
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    print(f"\n| {task} | {tab.evaluate('window.clicks')} | {seconds:.1f} |")


def test_tasks(
    scans: Scans,
    path: Path,
    start_server: StartServer,
    open_app: OpenApp,
    tmp_path: Path,
) -> None:
    installation.install()
    server = start_server()
    digits = scans.dataset("tasks")
    app = open_app(server, digits)
    app.show_pictures()
    panel = MilvusPanelPage(app)
    with counted(panel, "create an index of 300 images with a model"):
        panel.click("Create index")
        panel.field("Brain key").fill(KEY)
        panel.choose("Model", MODEL)
        panel.execute()
        panel.card(KEY, "300", "up to date")
    with counted(panel, "search by text"):
        panel.act(KEY, "Search")
        box = panel.field("Text").last
        box.fill("a handwritten seven")
        panel.checked()
        box.press("Enter")
        app.await_samples(25)
    app.clear()
    with counted(panel, "search by selection"):
        app.select(2)
        panel.act(KEY, "Search")
        panel.execute()
        app.await_samples(25)
    app.clear()
    with counted(panel, "map"):
        panel.act(KEY, "Map")
        panel.says("300 points")
    with counted(panel, "delete an index"):
        panel.act(KEY, "Delete")
        panel.form.get_by_label("Yes, delete it").check()
        panel.execute()
        panel.shows("This dataset has no Milvus index")
    digits.delete()

    photos: fo.Dataset = tiles.dataset("task-photos", tmp_path)
    app = open_app(server, photos)
    app.show_pictures()
    panel = MilvusPanelPage(app)
    with counted(panel, "review 20 groups of duplicates, and tag the rest"):
        panel.act(tiles.KEY, "Duplicates")
        panel.content.locator("tbody tr").nth(3).click()
        panel.click("Find groups")
        panel.shows("Group 1 of 21")
        for number in range(1, 21):
            panel.shows(f"Group {number} of")
            panel.click("Delete duplicates")
        panel.shows("Group 21 of")
        panel.click("Delete all undecided")
        panel.says("are tagged to be deleted")
    photos.delete()
