"""Which worker of pytest-xdist runs what: each file whole, with those that share its fixtures."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

_TOGETHER = {
    # Those that share a server of the App, of which the first takes ten seconds
    "app-panel": ("app/test_plugin.py", "app/test_embedded.py"),
    "app-searches": ("app/test_flows.py", "app/test_media.py", "app/test_searching.py"),
    # A browser wants a core; most other tests wait, for a server's loads and flushes of some 2.5 s
    "app": ("app/",),
    # Indexes: as many as there are engines, metrics and kinds, which take two seconds each
    "images and patches": (
        "measuring/test_recall.py",
        "neighborhoods/test_duplicates.py",
        "search/test_index_search.py",
        "search/test_neighbors.py",
        "search/test_views.py",
    ),
    "adopted": ("moving/adopted/",),
}


class ByFile(LoadFileScheduling):
    """Gives files that share much to one worker, the App's first as they take longest."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        for name, files in _TOGETHER.items():
            if any(f"tests/{one}" in file for one in files):
                return name
        return file
