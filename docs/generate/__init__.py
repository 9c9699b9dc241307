"""Writes the pages of the documentation that follow from the code: ``make reference``."""

from __future__ import annotations

from collections.abc import Callable

from docs.generate import commands, errors, parameters, performance, site

PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands.page,
    "errors.md": errors.page,
    "parameters.md": parameters.page,
    "performance.md": performance.page,
    "../mkdocs.yml": site.configuration,
}
"""The files, relative to ``docs/``, and what returns the text of each."""
