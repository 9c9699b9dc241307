"""The Milvus panel as a user sees it, and the forms that it opens."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, expect

from tests.app.page import AppPage

# Embedding may take minutes where others use the cores too
_SECONDS = 180_000


class MilvusPanelPage:
    """The panel in a tab of the App; opens it.

    Args:
        app: the tab
    """

    def __init__(self, app: AppPage) -> None:
        self._app = app
        self._tab = app.tab
        option = self._tab.locator('[data-cy="new-panel-option-milvus_panel"]')
        self._tab.locator('[data-cy="new-panel-btn"]').first.click()
        # The App lists its panels some time after it has shown the samples
        for _ in range(20):
            if option.is_visible():
                break
            self._tab.keyboard.press("Escape")
            self._tab.wait_for_timeout(250)
            self._tab.locator('[data-cy="new-panel-btn"]').first.click()
            self._tab.wait_for_timeout(250)
        option.click()
        self.shows(re.compile("Create index"))

    @property
    def content(self) -> Locator:
        return self._tab.locator('[data-cy="panel-content-milvus_panel"]')

    @property
    def form(self) -> Locator:
        return self._tab.locator('[data-cy="operators-prompt-modal"]')

    @property
    def _dialog(self) -> Locator:
        """The form, or the progress bar that follows it."""
        return self._tab.get_by_role("dialog")

    def shows(self, text: str | re.Pattern[str]) -> None:
        """Waits until the panel shows a text."""
        expect(self.content).to_contain_text(text, timeout=_SECONDS)

    def refresh(self) -> None:
        self.click("Refresh")

    def click(self, button: str) -> None:
        self.content.get_by_role("button", name=button).click()

    def row(self, key: str, *cells: str) -> Locator:
        """Waits for the row of an index, with texts in it; returns it."""
        row = self.content.locator("tbody tr").filter(
            has=self._tab.get_by_role("cell", name=key, exact=True)
        )
        for cell in cells:
            expect(row).to_contain_text(cell, timeout=_SECONDS)
        return row

    def act(self, key: str, action: str) -> None:
        """Chooses an action of the menu in the row of an index."""
        self.row(key).first.get_by_role("button").click()
        self._tab.get_by_role("menuitem", name=action).click()

    def field(self, label: str) -> Locator:
        """Returns the text box under a label of the form."""
        return self.form.get_by_text(label, exact=True).locator(
            "xpath=following::*[self::input or self::textarea][1]"
        )

    def choose(self, label: str, option: str) -> None:
        """Types into a box with suggestions, and takes one."""
        box = self.field(label)
        box.fill(option)
        self._tab.get_by_role("option", name=option, exact=True).click()

    def check(self, label: str) -> None:
        self.form.get_by_label(label, exact=True).check()

    def checked(self) -> Locator:
        """Waits until the App has checked what was typed; returns the button that executes."""
        button = self.form.get_by_role("button", name="Execute")
        expect(button).to_be_enabled(timeout=_SECONDS)
        return button

    def execute(self) -> None:
        """Executes the form, once the App has checked what was typed."""
        self.checked().click()

    def told(self, text: str | re.Pattern[str]) -> str:
        """Waits for a message, in a toast or under the progress bar; returns it; closes both."""
        toast = self._tab.get_by_role("alert").filter(has_text=text)
        label = self._dialog.get_by_role("paragraph").filter(has_text=text)
        said = toast.or_(label).first
        expect(said).to_be_visible(timeout=_SECONDS)
        line = said.inner_text().strip()
        self.dismiss()
        return line

    def dismiss(self) -> None:
        """Closes the form or its progress bar, if it is open."""
        for name in ("Done", "Close", "Cancel"):
            button = self._dialog.get_by_role("button", name=name)
            if button.count() and button.first.is_visible():
                button.first.click()
        expect(self._dialog).to_have_count(0, timeout=_SECONDS)
