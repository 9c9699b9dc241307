"""Which worker of pytest-xdist runs what, and when: each file whole, few browsers at once."""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadFileScheduling

_BROWSERS = 2
_LONG = ("test_docs.py", "test_demo.py", "test_examples.py")


def longest_first(items: list[pytest.Item]) -> None:
    """Sorts files that take minutes to the front, so that no worker ends long after the others."""

    def rank(item: pytest.Item) -> int:
        return 0 if item.path.parent.name == "app" else 1 if item.path.name in _LONG else 2

    items.sort(key=rank)


class ByFile(LoadFileScheduling):
    """Gives the App's tests to two workers, and the rest by file.

    A browser wants a core; most other tests wait, for a server's loads and flushes of some 2.5 s.
    """

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        super().__init__(config, log)
        self._apps: list[str] = []

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        if "tests/app/" not in scope:
            return scope
        if scope not in self._apps:
            self._apps.append(scope)
        return f"app-{self._apps.index(scope) % _BROWSERS}"
