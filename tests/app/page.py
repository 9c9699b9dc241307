"""The App as a user sees it: one dataset, in one browser tab."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Locator, Page, expect

PANEL = '[data-cy="panel-content-similarity_search_panel"]'

# Rows from top to bottom, thumbnails in them from left to right; the grid recycles its elements
_THUMBNAILS = """
() => [...document.querySelectorAll('[data-cy="fo-grid"] [data-cy="looker"]')]
    .map(looker => [looker.getBoundingClientRect(), looker.innerText])
    .sort(([a], [b]) => Math.round(a.y - b.y) || a.x - b.x)
    .map(([, text]) => text)
"""


class AppPage:
    """A tab of the App on a dataset whose samples have a ``number`` each.

    Args:
        page: a blank page
        url: the App's address
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._url = url
        self._size = 0
        self._searches = 0

    def open(self, dataset: Any) -> None:
        """Opens a dataset that nobody has searched in the App yet."""
        self._size = len(dataset)
        self.page.goto(f"{self._url}/datasets/{dataset.name}")
        self._count(self._size)
        self._cy("checkbox-number").click()
        self._numbers(1)

    def search_by_image(self, number: int) -> list[int]:
        """Searches for what resembles a sample; returns the numbers of what is shown, in order."""
        self._clear()
        thumbnail = self.page.locator('[data-cy="fo-grid"] [data-cy="looker"]').filter(
            has_text=re.compile(rf"^\s*{number}(?!\d)")
        )
        thumbnail.hover()
        thumbnail.locator('[data-cy="looker-checkbox-"]').click()
        self._cy("action-sort-by-similarity").click()
        self.page.locator('[data-cy^="button-Search by similarity"]').click()
        return self._results()

    def search_by_text(self, text: str) -> list[int]:
        """Searches by text; returns the numbers of what is shown, in order."""
        self._clear()
        self._cy("action-sort-by-similarity").click()
        box = self._cy("input-Type anything!")
        box.fill(text)
        box.press("Enter")
        return self._results()

    def fail_to_search(self, text: str) -> tuple[str, str]:
        """Searches by text in the panel's form; returns the toast's and the failed card's text."""
        raise NotImplementedError

    def screenshot(self, path: Any) -> None:
        self.page.screenshot(path=path)

    def _clear(self) -> None:
        self._cy("btn-clear-view-bar").click()
        self._count(self._size)
        self._numbers(1)

    def _results(self) -> list[int]:
        self._searches += 1
        panel = self.page.locator(PANEL)
        expect(panel).to_contain_text(
            f"Showing {self._searches} of {self._searches} search", timeout=30_000
        )
        card = self._card()
        expect(card).to_contain_text("Completed", timeout=30_000)
        found = int(re.search(r"(\d+) results", card.inner_text())[1])
        # The card is aria-disabled, for Playwright but not for a user's mouse
        card.get_by_label("Show results").click(force=True)
        self._count(found)
        return self._numbers(found)

    def _card(self) -> Locator:
        """The newest search."""
        delete = self.page.locator(f'{PANEL} button[aria-label="Delete"]').first
        return delete.locator("xpath=ancestor::*[contains(., 'k=')][1]")

    def _count(self, count: int) -> None:
        expect(self._cy("entry-counts")).to_contain_text(
            re.compile(rf"(?<!\d){count} sample"), timeout=60_000
        )

    def _numbers(self, at_least: int) -> list[int]:
        """The numbers on the thumbnails, once there are enough and all have theirs."""
        deadline = 30_000
        while True:
            texts = self.page.evaluate(_THUMBNAILS)
            numbers = [re.match(r"\s*(\d+)", text) for text in texts]
            if len(numbers) >= at_least and all(numbers):
                return [int(match[1]) for match in numbers]
            assert deadline > 0, f"the grid shows {texts}"
            self.page.wait_for_timeout(100)
            deadline -= 100

    def _cy(self, name: str) -> Locator:
        return self.page.locator(f'[data-cy="{name}"]').first
