"""Which worker of pytest-xdist runs what: each file whole, and few browsers at once."""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadFileScheduling

_BROWSERS = 2


class ByFile(LoadFileScheduling):
    """Gives the App's tests to two workers, first since they take longest, and the rest by file.

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
