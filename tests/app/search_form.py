"""FiftyOne's form for a new similarity search, as a user fills it in."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from fiftyone.operators.store import ExecutionStore
from playwright.sync_api import Locator, expect

from tests.app.page import AppPage


class SearchForm:
    """The Similarity Search panel in a tab of the App; opens it.

    Args:
        app: the tab
        patience: seconds that a search may take

    Attributes:
        seconds: from the last click on Execute until the grid showed what was found
    """

    seconds = 0.0

    def __init__(self, app: AppPage, *, patience: float = 180) -> None:
        self._app = app
        self._patience = patience
        self._tab = app.tab
        self._store = ExecutionStore.create("similarity_search_panel", app.dataset._doc.id)
        self._runs = len(self._keys())
        self._tab.locator('[data-cy="action-sort-by-similarity"]').first.click()
        self._tab.locator('[arial-label="Open similarity panel"]').click()
        self._new = True

    @property
    def content(self) -> Locator:
        return self._tab.locator('[data-cy="panel-content-similarity_search_panel"]')

    def search(
        self,
        kind: str = "Image",
        *,
        text: str | None = None,
        image: str | Path | None = None,
        index: str,
        metric: str = "cosine",
        k: int = 10,
        reverse: bool = False,
        dist_field: str | None = None,
        name: str | None = None,
        view: bool = False,
    ) -> list[int]:
        """Searches with the form, and waits until the grid shows what was found.

        Returns:
            the numbers on the thumbnails, in the order that a user sees
        """
        if not self._new:
            self.content.get_by_role("button", name="New Search").click()
        self._new = False
        self.content.locator("input").first.click()
        self._tab.get_by_role("option", name=index).first.click()
        if view:
            self.content.get_by_text("Current View", exact=True).click()
        expect(self.content).to_contain_text(f"Metric: {metric}")
        label = {"Image": "Image Search", "Text": "Text Search", "Upload": "Upload Image"}[kind]
        button = self.content.get_by_role("button", name=label)
        # An index without a model offers images only, and no choice
        if kind != "Image" or button.count():
            button.click()
        if text is not None:
            self.content.get_by_placeholder("Enter a text prompt...").fill(text)
        if image is not None:
            self.content.locator('input[type="file"]').set_input_files(str(image))
        self.content.locator('input[type="number"]').fill(str(k))
        if reverse:
            self.content.get_by_text("Least similar (reverse)").click()
        if dist_field is not None:
            self.content.get_by_placeholder("e.g., similarity_dist").fill(dist_field)
        if name is not None:
            self.content.get_by_placeholder("My search").fill(name)
        self.content.get_by_role("button", name="Search", exact=True).click()
        execute = self._tab.get_by_role("menuitem").filter(has_text="Execute")
        execute.wait_for()
        start = time.monotonic()
        execute.click()
        run = self._finished()
        assert name in (None, run["run_name"])
        # The form shows what it found by itself, but not always
        card = self.content.locator('div[role="button"]').filter(
            has=self._tab.get_by_label("Delete")
        )
        card.first.get_by_label("Show results").dispatch_event("click")
        samples = self._app.dataset.select(run["result_ids"], ordered=True)
        found = self._app.numbers(samples.values("number"))
        self.seconds = time.monotonic() - start
        return found

    def _finished(self) -> Any:
        """Waits for the search to be done; returns what the panel has stored of it."""
        deadline = time.monotonic() + self._patience
        while True:
            keys = self._keys()
            if len(keys) > self._runs:
                runs = [self._store.get(key) for key in keys]
                newest = max((run for run in runs if run), key=lambda run: run["creation_time"])
                assert newest["status"] != "failed", newest["status_details"]
                if newest["status"] == "completed":
                    self._runs = len(keys)
                    return newest
            assert time.monotonic() < deadline, "the search did not end"
            time.sleep(0.1)

    def _keys(self) -> list[str]:
        return [key for key in self._store.list_keys() if key.startswith("run:")]
