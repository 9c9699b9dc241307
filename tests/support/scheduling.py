"""Which worker of pytest-xdist runs what: each file whole, and few browsers at once."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

_SHARING = ("test_flows.py", "test_media.py")
"""The App's tests that share servers of the App, one for each engine."""


class ByFile(LoadFileScheduling):
    """Gives the App's tests to two workers, first since they take longest, and the rest by file.

    A browser wants a core; most other tests wait, for a server's loads and flushes of some 2.5 s.
    """

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        if "tests/app/" not in scope:
            return scope
        return "app-sharing" if scope.endswith(_SHARING) else "app"
