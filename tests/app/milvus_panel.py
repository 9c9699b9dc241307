"""The Milvus panel as a user sees it, and the forms that it opens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

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
        # The App's server remembers for a while which panels were open
        if not self.content.count():
            self._open()
        self.shows("Create index")

    def _open(self) -> None:
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
        self.content.get_by_role("button", name=button, exact=True).first.click()

    def click_at_the_foot(self, bar: Locator) -> None:
        """Clicks on a bar of a plot as soon as it rests: what is drawn last moves the plot."""
        box, before = bar.bounding_box(), None
        while box != before:
            self._tab.wait_for_timeout(500)
            box, before = bar.bounding_box(), box
        assert box is not None
        self._tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] - 2)

    def go_home(self) -> None:
        """Shows the indexes."""
        back = self.content.get_by_role("button", name="Back to the indexes")
        if back.count():
            back.click()
        self.shows("Create index")

    def says(self, text: str | re.Pattern[str]) -> str:
        """Waits for a message in the panel, which needs no click; returns it."""
        said = self.content.get_by_role("alert").filter(has_text=text).first
        expect(said).to_be_visible(timeout=_SECONDS)
        expect(self._dialog).to_have_count(0)
        return said.inner_text().strip()

    @contextmanager
    def window(self, width: int, height: int, theme: str = "dark") -> Iterator[None]:
        """Makes the window as large as others are, with the panel beside the grid."""
        before = self._tab.viewport_size
        assert before is not None
        self._tab.set_viewport_size({"width": width, "height": height})
        self.show_theme(theme)
        # Both have half of what the sidebar leaves, as the App opens a panel
        expect(self.content).to_be_visible()
        try:
            yield
        finally:
            self.show_theme("dark")
            self._tab.set_viewport_size(before)

    def show_theme(self, theme: str) -> None:
        """Shows the App light or dark."""
        # The button has the icon of the theme that it changes to
        wanted = self._tab.locator(f'[data-testid="{theme.title()}ModeIcon"]')
        if wanted.count():
            wanted.first.click()
            expect(wanted).to_have_count(0)

    def in_sight(self, button: Locator) -> None:
        """Fails unless a button is in the window, without scrolling."""
        expect(button).to_be_in_viewport(ratio=1)

    def outside(self) -> list[str]:
        """Returns what of the panel needs scrolling sideways to be seen, once it is at rest."""
        for _ in range(20):
            found = self._outside()
            if not found:
                break
            self._tab.wait_for_timeout(250)
        return found

    def _outside(self) -> list[str]:
        size = self._tab.viewport_size
        assert size is not None
        found = self.content.evaluate(
            """(panel, width) => {
                const area = panel.getBoundingClientRect()
                const right = Math.min(area.right, width)
                return [...panel.querySelectorAll("button, table, img, .js-plotly-plot")]
                    .filter(one => one.offsetParent !== null)
                    .filter(one => {
                        const box = one.getBoundingClientRect()
                        return box.left < area.left - 1 || box.right > right + 1
                    })
                    .map(one => one.innerText || one.tagName)
            }""",
            size["width"],
        )
        return [str(one) for one in found]

    def card(self, key: str, *texts: str) -> Locator:
        """Waits for the card of an index, with texts in it; returns it."""
        card = self.content.locator("div", has_text=re.compile(rf"^{key} — "))
        # The innermost that has the title and the buttons
        card = (
            card.filter(has=self._tab.get_by_role("button", name="More"))
            .or_(card.filter(has=self._tab.get_by_role("button", name="Less")))
            .last
        )
        for text in texts:
            expect(card).to_contain_text(text, timeout=_SECONDS)
        return card

    def act(self, key: str, action: str) -> None:
        """Presses a button of the card of an index; opens its upkeep where the button is there."""
        button = self.card(key).get_by_role("button", name=action, exact=True)
        more = self.card(key).get_by_role("button", name="More", exact=True)
        expect(button.or_(more).first).to_be_visible()
        if not button.count():
            more.click()
        button.first.click()
        if action in ("More", "Less"):
            other = "Less" if action == "More" else "More"
            expect(self.card(key).get_by_role("button", name=other, exact=True)).to_be_visible()

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

    def schedule(self) -> None:
        """Schedules the work of the form, instead of executing it."""
        self.checked()
        self.form.get_by_role("button").last.click()
        self._tab.get_by_role("menuitem").filter(has_text="Schedule").click()
        self.form.get_by_role("button", name="Schedule").click()

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
