"""Writes the pages of the documentation that follow from the code: ``make reference``."""

from __future__ import annotations

from collections.abc import Callable

from docs.generate import commands, parameters

PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands.page,
    "parameters.md": parameters.page,
}
"""The pages, and what returns the text of each."""
