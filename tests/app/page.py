"""The App as a user sees it: one dataset, in one browser tab."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path

import fiftyone as fo
from fiftyone.operators.store import ExecutionStore
from playwright.sync_api import Locator, Page, expect

VIEWPORT = {"width": 2000, "height": 1000}
"""With a panel open, a narrower App hides its buttons in a menu."""

_SECONDS = 180

# From top to bottom and from left to right; the grid keeps its elements in another order
_THUMBNAILS = """
() => [...document.querySelectorAll('[data-cy="fo-grid"] [data-cy="looker"]')]
    .map(looker => [looker.getBoundingClientRect(), looker.innerText])
    .sort(([a], [b]) => Math.round(a.y - b.y) || a.x - b.x)
    .map(([, text]) => text)
"""


class AppPage:
    """A tab of the App on a dataset whose samples have a ``number`` each.

    Searches are expected to be the only ones of the dataset in any App.

    Args:
        page: a blank page
        url: the App's address
        dataset: what to open
        numbers: the number of each ID that a search may find; by default, those of the samples
    """

    def __init__(
        self, page: Page, url: str, dataset: fo.Dataset, numbers: Mapping[str, int] | None = None
    ) -> None:
        self._page = page
        everything = dataset.select_group_slices() if dataset.group_field else dataset
        self._size = len(everything)
        self._dataset = dataset
        self._number_of = numbers or dict(zip(*everything.values(["id", "number"]), strict=True))
        self._searches = 0
        page.goto(f"{url}/datasets/{dataset.name}")
        self._await_count(self._size)
        self._cy("checkbox-number").click()
        self._numbers(1)

    @property
    def tab(self) -> Page:
        """The browser's tab."""
        return self._page

    def await_samples(self, count: int) -> None:
        """Waits until the App counts that many samples in what it shows."""
        self._await_count(count)

    def numbers(self, expected: list[int]) -> list[int]:
        """Returns the numbers on the thumbnails, as soon as they are the expected ones."""
        return self._numbers(len(expected), expected)

    @property
    def dataset(self) -> fo.Dataset:
        """What the tab shows."""
        return self._dataset

    def select(self, *numbers: int, negative: bool = False) -> None:
        """Selects samples in the grid, which must be among the first of what it shows."""
        if negative:
            self._page.keyboard.down("Alt")
        for number in numbers:
            thumbnail = self._page.locator('[data-cy="fo-grid"] [data-cy="looker"]').filter(
                has_text=re.compile(rf"^\s*{number}(?!\d)")
            )
            thumbnail.hover()
            thumbnail.locator('[data-cy="looker-checkbox-"]').click()
        if negative:
            self._page.keyboard.up("Alt")

    def clear(self) -> None:
        """Shows the whole dataset again."""
        self._clear()

    def search_by_image(self, number: int) -> list[int]:
        """Searches for what resembles a sample, which must be among the first of the dataset.

        Returns:
            the numbers on the thumbnails, in the order that a user sees
        """
        self._clear()
        self.select(number)
        return self._search_by_selection(self._page.locator("body"))

    def search_by_text(self, text: str) -> list[int]:
        """Searches by text; see :meth:`search_by_image`."""
        self._clear()
        self._cy("action-sort-by-similarity").click()
        box = self._cy("input-Type anything!")
        box.fill(text)
        box.press("Enter")
        return self._show_results()

    def search_by_patch(self, field: str, number: int) -> list[int]:
        """Searches for what resembles a patch, of which the label is its number."""
        self._clear()
        self._cy("action-clips-patches").click()
        self._cy(f"item-action-{field}").click()
        self._await_count(len(self._number_of))
        self._numbers(number + 1)
        self.select(number)
        return self._search_by_selection(self._page.locator("body"))

    def search_by_label(self, sample: int, at: tuple[float, float]) -> list[int]:
        """Opens a sample, clicks on a label, and searches for what resembles it.

        Args:
            sample: the sample's number, among the first of the dataset
            at: where the label is, in [0, 1] of the width and the height of a square image
        """
        self._clear()
        thumbnails = self._page.locator('[data-cy="fo-grid"] [data-cy="looker"]')
        thumbnails.filter(has_text=re.compile(rf"^\s*{sample}(?!\d)")).click()
        box = self._cy("modal-looker-container").bounding_box()
        assert box is not None
        side = min(box["width"], box["height"])
        x = box["x"] + box["width"] / 2 + (at[0] - 0.5) * side
        y = box["y"] + box["height"] / 2 + (at[1] - 0.5) * side
        selected = self._cy("modal").locator('[data-cy="action-manage-selected"]')
        deadline = time.monotonic() + _SECONDS
        # The labels are drawn some time after the box that they are drawn in
        while "1" not in selected.inner_text():
            assert time.monotonic() < deadline, "the label can't be selected"
            self._page.mouse.move(x - 5, y)
            self._page.mouse.move(x, y)
            self._page.mouse.click(x, y)
            self._page.wait_for_timeout(500)
        return self._search_by_selection(self._cy("modal"))

    def fail_to_search(self, text: str, reason: str) -> tuple[str, str]:
        """Searches by text in the panel's form, without an answer.

        Args:
            text: the prompt
            reason: what the toast must say, among other words

        Returns:
            the text of the toast, and that of the line below the failed search in the list
        """
        self._searches += 1
        panel = self._panel
        panel.get_by_role("button", name="New Search").click()
        panel.get_by_role("button", name="Text Search").click()
        panel.get_by_placeholder("Enter a text prompt...").fill(text)
        panel.get_by_role("button", name="Search", exact=True).click()
        self._page.get_by_role("menuitem").filter(has_text="Execute").click()
        toast = self._page.get_by_role("alert").filter(has_text=reason).last.inner_text()
        panel.get_by_role("button").first.click()
        self._await_searches()
        expect(self._card).to_contain_text("Failed")
        return toast.strip(), self._card.inner_text().strip().splitlines()[-1]

    def show_pictures(self) -> None:
        """Draws the pictures in the grid, which tests leave out."""
        self._page.evaluate("document.getElementById('no-pictures')?.remove()")

    def screenshot(self, path: str | Path) -> None:
        """Saves what the tab shows, with the mouse out of the way."""
        self._page.mouse.move(0, 0)
        expect(self._page.get_by_role("alert")).to_have_count(0, timeout=1000 * _SECONDS)
        self._page.screenshot(path=path)

    def _clear(self) -> None:
        self._cy("btn-clear-view-bar").click()
        self._await_count(self._size)
        self._numbers(1)

    def _search_by_selection(self, where: Locator) -> list[int]:
        where.locator('[data-cy="action-sort-by-similarity"]').first.click()
        self._page.locator('[data-cy^="button-Search by similarity"]').click()
        return self._show_results()

    def _show_results(self) -> list[int]:
        self._searches += 1
        self._await_searches()
        expect(self._card).to_contain_text("Completed", timeout=1000 * _SECONDS)
        found = re.search(r"(\d+) results", self._card.inner_text())
        assert found is not None
        # Not click(): the list moves while its cards load, and another card may get the click
        self._card.get_by_label("Show results").dispatch_event("click")
        self._await_count(int(found[1]))
        return self._numbers(int(found[1]), self._newest_results())

    def _newest_results(self) -> list[int]:
        """What the panel has stored as the answer to the newest search."""
        store = ExecutionStore.create("similarity_search_panel", self._dataset._doc.id)
        runs = [store.get(key) for key in store.list_keys() if key.startswith("run:")]
        newest = max((run for run in runs if run), key=lambda run: run["creation_time"])
        return [self._number_of[_id] for _id in newest["result_ids"]]

    @property
    def _panel(self) -> Locator:
        return self._cy("panel-content-similarity_search_panel")

    @property
    def _card(self) -> Locator:
        """The newest search in the panel's list."""
        delete = self._page.get_by_label("Delete")
        return self._panel.locator('div[role="button"]').filter(has=delete).first

    def _await_searches(self) -> None:
        count = self._searches
        expect(self._panel).to_contain_text(
            f"Showing {count} of {count} search", timeout=1000 * _SECONDS
        )

    def _await_count(self, count: int) -> None:
        counted = re.compile(rf"(?<![\d,]){count:,} (sample|patch)")
        expect(self._cy("entry-counts")).to_contain_text(counted, timeout=1000 * _SECONDS)

    def _numbers(self, at_least: int, expected: list[int] | None = None) -> list[int]:
        """The numbers on the thumbnails, once there are enough, all have theirs and are expected.

        The grid may still show the previous view when the App already counts the new one.
        """
        deadline = time.monotonic() + _SECONDS
        while True:
            texts = self._page.evaluate(_THUMBNAILS)
            matches = [re.match(r"\s*(\d[\d,]*)", text) for text in texts]
            numbers = [int(match[1].replace(",", "")) for match in matches if match is not None]
            if len(numbers) == len(texts) >= at_least and expected in (None, numbers):
                return numbers
            assert time.monotonic() < deadline, f"the grid shows {texts}, not {expected}"
            self._page.wait_for_timeout(100)

    def _cy(self, name: str) -> Locator:
        return self._page.locator(f'[data-cy="{name}"]').first
